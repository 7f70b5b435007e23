"""`sonograph rightsize`: what is asked for, what is used, and what to ask for instead."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from sonograph import options
from sonograph.addresses import URL
from sonograph.errors import Failed, fail
from sonograph.keys import RAY_TOKEN

if TYPE_CHECKING:
    from sonograph.rightsize.packing import NodeSize
    from sonograph.rightsize.sources import Found

UNREADABLE = 2
"""Exit status where there is nothing to judge by."""
MOST_S = 86_400.0
PROFILES = {False: "cpu", True: "one-gpu"}
"""Profile that a values file is checked with, by whether the models share a pod."""
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def rightsize(
    results: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that `sonograph compare --out` wrote; without it a running service.",
            metavar="RESULTS",
            show_default=False,
        ),
    ] = None,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    seconds: Annotated[float, typer.Option(help="Time to sample the service for, under its load.", min=1, max=MOST_S)] = 60,
    dashboard: options.DashboardUrl = None,
    ray_token_file: options.TokenFile = RAY_TOKEN,
    prometheus: Annotated[
        str | None,
        typer.Option(help="Address of a Prometheus that scrapes Ray's nodes, to judge by instead.", show_default=False),
    ] = None,
    window: Annotated[str, typer.Option(help="With --prometheus: the time to look back: 1h, 1d.")] = "1d",
    node: Annotated[
        list[str] | None,
        typer.Option(
            help="A node to pack onto, `cpus=8,memory=32Gi`, `gpus=1` and `count=3` where that applies; repeat it for others."
        ),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the advice as values for `sonograph render --values`.", show_default=False)
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(help="With RESULTS and --write: the candidate of several, as the table names it.", show_default=False),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="With --write: the profile to check the values with; `cpu` by default.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare CPUs, threads, memory and GPUs asked for with those used, and say what to ask for.

    Of a running service it takes samples while requests come: without load there
    is no advice on CPUs. Of RESULTS it judges the tasks of each candidate. The
    rule is in docs/rightsize.md.
    Exits with 0, with 1 where something asks for less than it uses, and with 2
    where there is nothing to judge by.
    """
    places = _places(node or [])
    window_s = _window(window)
    _check_profile(profile)
    if results is not None and prometheus:
        raise typer.BadParameter("give RESULTS or --prometheus", param_hint="--prometheus")
    try:
        found = _found(results, prometheus, window_s, seconds, url, key_file, dashboard, ray_token_file)
        short = _answer(found, places, write, candidate, profile, as_json)
    except Failed as error:
        fail("rightsize", error, UNREADABLE)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None  # as shells count: 128, and SIGINT's number
    if short:
        raise typer.Exit(1)


def _found(
    results: Path | None,
    prometheus: str | None,
    window_s: float,
    seconds: float,
    url: str,
    key_file: Path | None,
    dashboard: str | None,
    token_file: Path,
) -> "Found":
    from sonograph.dashboard import DashboardError
    from sonograph.rightsize import sources

    if results is not None:
        return sources.of_results(results)
    reached = sources.Options(url, key_file, dashboard, token_file)
    try:
        if prometheus:
            return sources.of_prometheus(reached, prometheus, window_s, _bar)
        return sources.of_service(reached, seconds, _bar)
    except DashboardError as error:
        raise Failed(str(error)) from error


def _answer(
    found: "Found", given: "list[NodeSize]", write: Path | None, candidate: str | None, profile: str | None, as_json: bool
) -> bool:
    """Print and write the answer. Return whether something asks for less than it uses."""
    from sonograph.rightsize import table, values
    from sonograph.rightsize.advice import advise
    from sonograph.rightsize.document import document
    from sonograph.rightsize.fits import packed

    advices = [advise(one) for one in found.subjects]
    places = given or found.places
    fits = packed(advices, places)
    notes = [*found.notes, *_notes(found, bool(places))]
    if as_json:
        print(json.dumps(document(found, advices, fits, notes), indent=2))
    else:
        console.print(table.header(found))
        console.print(table.report(advices, fits, notes))
    if write is not None:
        chosen = values.chosen(advices, candidate, values.stated(write))
        content = values.content(chosen, found.shares_pod)
        if not content:
            raise Failed("there is no advice to write: nothing was measured under load")
        name = profile or PROFILES[found.shares_pod]
        values.write(write, content, chosen, name)
        errors.print(Text(f"Wrote {write}: sonograph render {name} --values {write}"), soft_wrap=True)
    return any(one.asks_for_too_little for one in advices)


def _notes(found: "Found", has_places: bool) -> Iterator[str]:
    if found.is_idle:
        yield "The service was idle: send it the load that it is for while this runs, such as your own recordings with `sonograph draw`"
    if not has_places:
        yield "No node is known to pack onto: name one, such as --node cpus=8,memory=32Gi"


@contextlib.contextmanager
def _bar(description: str, seconds: float) -> Iterator[Callable[[float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(description, total=seconds)
        yield lambda done: progress.update(task, completed=done)


def _places(given: list[str]) -> "list[NodeSize]":
    from sonograph.rightsize.packing import parsed

    try:
        return [parsed(one) for one in given]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--node") from error


def _window(text: str) -> float:
    from sonograph.option_values import seconds

    found = seconds(text)
    if not 60 <= found <= 366 * MOST_S:
        raise typer.BadParameter(f"{text} is not between 1m and 366d", param_hint="--window")
    return found


def _check_profile(name: str | None) -> None:
    from sonograph.render import PROFILES as known

    if name is not None and name not in known:
        raise typer.BadParameter(f"there is no {name}, only {', '.join(known)}", param_hint="--profile")
