"""The options that several commands of `sonograph rollout` share."""

from pathlib import Path
from typing import Annotated, Any

import typer

LOCAL = "http://127.0.0.1:8000"
SHARE = "The candidate's share"
IMPORT_PATH = "deployments.candidate:app"

StageName = Annotated[str, typer.Argument(help="The stage's model: `whisper`, `diffusion`.")]
Url = Annotated[str, typer.Option("--service", help="Address of the service.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="File with an operator's API key; without it SONOGRAPH_KEY.", show_default=False)
]
DashboardUrl = Annotated[
    str | None,
    typer.Option("--dashboard", help="Address of Ray's dashboard; without it the one the service names, on this machine."),
]
TokenFile = Annotated[
    Path, typer.Option("--ray-token-file", help="File with Ray's token, for its dashboard.", envvar="RAY_AUTH_TOKEN_PATH")
]
RayServiceName = Annotated[
    str | None,
    typer.Option("--rayservice", help="In Kubernetes: a RayService's manifest or name; prints the patch of its serveConfigV2."),
]
Namespace = Annotated[str, typer.Option(help="The RayService's namespace; without it kubectl's.")]
Apply = Annotated[bool, typer.Option("--live", help="Apply the patch of the RayService by kubectl.")]
Wait = Annotated[str, typer.Option("--wait", help="Longest wait for an application: `15m`.")]


def budget(help: str, parser: Any) -> Any:
    return typer.Option(
        help=f"{help} `none`: no such budget.", parser=parser, metavar="BOUND", rich_help_panel="The plan's budgets"
    )


def of_plan(help: str, parser: Any, metavar: str) -> Any:
    return typer.Option(help=help, parser=parser, metavar=metavar, rich_help_panel=SHARE)
