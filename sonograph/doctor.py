"""`sonograph doctor`: examine manifests, or what runs of them in a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sonograph.draw import printable

if TYPE_CHECKING:
    from kuberay.doctor.manifest import Finding

console = Console(highlight=False, soft_wrap=True)


def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Manifests, or folders of them, whose files belong together; - for standard input."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Examine the RayServices of a cluster instead, by the user's kubectl. It changes nothing."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="With --live: the RayServices' namespace; by default sonograph.")
    ] = "",
    context: Annotated[str, typer.Option(help="With --live: the context of kubectl; by default its current one.")] = "",
) -> None:
    """Report errors in these manifests before they are applied. Needs no network; exits with 1 on any error.

    It imports the app that a manifest names. With --live: what KubeRay has not applied of a running RayService, with the command that
    does, and what is not well; exits with 2 where it cannot be read.
    """
    if bool(paths) == live:
        raise typer.BadParameter("name manifests, or give --live, and not both", param_hint="PATHS")
    for option, value in {"--namespace": namespace, "--context": context}.items():
        if value and not live:
            raise typer.BadParameter("it is for a running RayService: give --live too", param_hint=option)
    findings = _live(namespace, context) if live else _examined(paths or [])
    for finding in findings:
        console.print(printable(str(finding)) if live else str(finding), markup=False)
        for command in finding.commands:
            console.print(f"  {printable(command)}", markup=False)
    errors = sum(not finding.warning for finding in findings)
    console.print(f"{errors or 'No'} error{'s' if errors != 1 else ''}, {len(findings) - errors} warnings.")
    if errors:
        raise typer.Exit(1)


def _examined(paths: list[Path]) -> "list[Finding]":
    from kuberay.doctor.examine import examine
    from kuberay.doctor.manifest import Unreadable

    try:
        return examine(paths)
    except Unreadable as error:
        raise _ended(error, 1) from error


def _live(namespace: str, context: str) -> "list[Finding]":
    from kuberay.doctor import cluster, live
    from kuberay.profiles import NAME

    try:
        return [finding for one in cluster.read(namespace or NAME, context) for finding in live.diagnose(one)]
    except cluster.Unreachable as error:
        raise _ended(error, 2) from error


def _ended(error: Exception, status: int) -> typer.Exit:
    """Print why, and return what ends the command."""
    Console(stderr=True, highlight=False).print(f"sonograph: {printable(str(error))}", soft_wrap=True, markup=False)
    return typer.Exit(status)
