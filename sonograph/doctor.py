"""`sonograph doctor`: examine manifests, or what runs of them in a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sonograph import options
from sonograph.errors import fail
from sonograph.terminal import printable

if TYPE_CHECKING:
    from kuberay.doctor.finding import Finding

console = Console(highlight=False, soft_wrap=True)
UNREADABLE = 2
"""Exit status where something could not be read."""


def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Manifests, or folders of them, whose files belong together; - for standard input."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Examine the RayServices of a cluster instead, by the user's kubectl. It changes nothing."),
    ] = False,
    namespace: options.Namespace = None,
    context: options.Context = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and examine nothing.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A rule to leave out, such as SG504; repeat it, or separate several by commas.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    as_sarif: Annotated[
        bool, typer.Option("--sarif", help="Print them as SARIF 2.1.0, which code hosts and editors show.")
    ] = False,
) -> None:
    """Find faults of manifests before they are applied, and with --live those of what runs. Needs no network.

    It imports the app that a manifest names. Errors are refused or never serve; warnings wait for an outage; notes are this project's own
    rules. With --live: what KubeRay has not applied of a running RayService, with the command that does, and what is not well.
    Exits with 0, with 1 on any error, and with 2 where something cannot be read.
    """
    from kuberay.doctor import output
    from kuberay.doctor.documents import Unreadable

    if rules:
        _print_rules()
        return
    if bool(paths) == live:
        raise typer.BadParameter("name manifests, or give --live, and not both", param_hint="PATHS")
    if as_json and as_sarif:
        raise typer.BadParameter("give --json or --sarif", param_hint="--json")
    options.require(live, "it is for a running RayService: give --live too", namespace=namespace, context=context)
    left_out = _left_out(ignore or [])
    try:
        found = _live(namespace, context) if live else _examined(paths or [])
    except Unreadable as error:
        fail("doctor", error, UNREADABLE)
    findings = [finding for finding in found if finding.number not in left_out]
    if as_json or as_sarif:
        print(output.as_json(findings) if as_json else output.as_sarif(findings))
    else:
        _print(findings)
    if any(finding.rule == "a_file_can_be_read" for finding in found):
        raise typer.Exit(UNREADABLE)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _print(findings: "list[Finding]") -> None:
    explained: set[str] = set()
    for finding in findings:
        console.print(printable(str(finding)), markup=False)
        remedy = () if finding.rule in explained else (finding.remedy,)  # once for all findings of a rule
        for line in finding.commands or remedy:
            console.print(f"  {printable(line)}", markup=False)
        if not finding.commands:
            explained.add(finding.rule)
    counts = {name: sum(finding.severity == name for finding in findings) for name in ("error", "warning", "note")}
    console.print(
        ", ".join(f"{count or 'no'} {name}{'s' if count != 1 else ''}" for name, count in counts.items()).capitalize() + "."
    )


def _print_rules() -> None:
    from rich.table import Table

    from kuberay.doctor import output

    table = Table("rule", "what holds", "remedy", box=None, pad_edge=False)
    for one in output.rules():
        table.add_row(one.number, one.demand, one.remedy)
    Console(highlight=False).print(table, markup=False)


def _left_out(given: list[str]) -> set[str]:
    from kuberay.doctor import output

    known = {one.number for one in output.rules()}
    numbers = {number.strip().upper() for one in given for number in one.split(",")}
    if unknown := sorted(numbers - known):
        raise typer.BadParameter(f"there is no rule {', '.join(unknown)}: --rules lists them", param_hint="--ignore")
    return numbers


def _examined(paths: list[Path]) -> "list[Finding]":
    from kuberay.doctor.examine import examine

    return examine(paths)


def _live(namespace: str | None, context: str | None) -> "list[Finding]":
    from kuberay.doctor import cluster, live
    from kuberay.profiles import NAME

    return [finding for one in cluster.read(namespace or NAME, context or "") for finding in live.diagnose(one)]
