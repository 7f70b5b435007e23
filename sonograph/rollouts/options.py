"""Options that several commands of `sonograph rollout` take."""

from typing import Annotated, Any

import typer

SHARE = "The candidate's share"
IMPORT_PATH = "deployments.candidate:app"

StageName = Annotated[str, typer.Argument(help="The stage's model: `whisper`, `diffusion`.")]
RayServiceName = Annotated[
    str | None,
    typer.Option(
        "--rayservice",
        help="In Kubernetes: a RayService's manifest or name. Prints the patch of its serveConfigV2.",
        show_default=False,
    ),
]
Apply = Annotated[
    bool, typer.Option("--apply", help="With the name of a RayService: apply the patch by kubectl, and do not print it.")
]
Wait = Annotated[str, typer.Option("--wait", help="Longest wait for an application: `15m`.")]


def budget(help: str, parser: Any) -> Any:
    return typer.Option(
        help=f"{help} `none`: no such budget.", parser=parser, metavar="BOUND", rich_help_panel="The plan's budgets"
    )


def of_plan(help: str, parser: Any, metavar: str) -> Any:
    return typer.Option(help=help, parser=parser, metavar=metavar, rich_help_panel=SHARE)
