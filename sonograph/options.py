"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option(help="Address of the service.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="File with an operator's API key. Default: the variable SONOGRAPH_KEY.", show_default=False)
]
DashboardUrl = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        help="Address of Ray's dashboard. Default: the one that the service names, if it is on this machine.",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path, typer.Option("--ray-token-file", help="File with Ray's token, for its dashboard.", envvar="RAY_AUTH_TOKEN_PATH")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the RayService. Default: sonograph.", show_default=False)
]
Context = Annotated[str | None, typer.Option(help="Context of kubectl. Default: its current one.", show_default=False)]


def require(condition: bool, sentence: str, **options: object) -> None:
    """Raise typer.BadParameter where one of these options is given without what it belongs to."""
    for name, value in options.items():
        if value and not condition:
            raise typer.BadParameter(sentence, param_hint=f"--{name.replace('_', '-')}")
