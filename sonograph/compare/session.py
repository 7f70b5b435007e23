"""One run of `sonograph compare`, from its inputs to its table."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from sonograph.compare import inputs, plan, tables, values
from sonograph.compare.cluster import NoCluster, RayCluster
from sonograph.compare.inputs import Inputs, References, Unreadable
from sonograph.compare.measured import Measured
from sonograph.compare.pairs import described, pairs
from sonograph.compare.plan import Asked, Candidate
from sonograph.compare.progress import Progress
from sonograph.compare.report import Found, Report
from sonograph.compare.runner import Pair, Runner
from sonograph.compare.store import NotKept, Store, read
from sonograph.compare.tasks import Outcome
from sonograph.compare.works import Work, work
from sonograph.errors import fail
from sonograph.files import replace_file
from sonograph.terminal import printable

INTERRUPTED = 130
console = Console(highlight=False)


@dataclass(frozen=True)
class Request:
    """The options of the command."""

    models: tuple[str, ...]
    recordings: tuple[Path, ...] = ()
    prompts: Path | None = None
    engines: tuple[str, ...] = ()
    reference: Path | None = None
    language: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("comparison")
    write: Path | None = None
    within_points: float = 1.0
    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    memory_bytes: int | None = None
    timeout_s: float = 900.0

    @property
    def role(self) -> str:
        return "text-to-image" if self.prompts else "speech-to-text"

    @property
    def asked(self) -> Asked:
        return Asked(self.cpus, self.gpus, self.memory_bytes)


def run(request: Request, find_work: Callable[[Candidate, str], Work] = work, console: Console = console) -> int:
    """Run a comparison and print it; the exit status. `find_work`: of a candidate, with the recordings' language."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's `sonograph compare &` has it ignored
    if request.write and (refusal := values.refusal(request.write)):
        raise typer.BadParameter(refusal, param_hint="--write")
    try:
        candidates = plan.candidates(request.role, request.models, request.engines, request.settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        given, references = _read(request, console)
        with Store(request.out) as store:
            return _run(request, candidates, given, references, store, find_work, console)
    except (NotKept, NoCluster) as error:
        fail("compare", error)
    except KeyboardInterrupt:
        _say(console, "Interrupted.", "yellow")
        return INTERRUPTED


def _read(request: Request, console: Console) -> tuple[Inputs, References]:
    """The inputs and their known texts. Raises typer.BadParameter where there is nothing to do."""
    try:
        if request.prompts:
            given = inputs.prompts(request.prompts)
        else:
            with console.status("Reading the recordings ..."):
                given = inputs.recordings(request.recordings)
        references = inputs.references(request.reference, given.found) if request.reference else References()
    except Unreadable as error:
        raise typer.BadParameter(str(error)) from error
    if not any(one.sha256 for one in given.found):
        problem = next((f" ({one.name}: {one.problem})" for one in given.found), "")
        raise typer.BadParameter(printable(f"there is nothing to compare models over{problem}"))
    for note in given.notes:
        _say(console, f"Left out: {note}.", "dim")
    if references.unused:
        names = tables.names(references.unused)
        _say(console, f"Left out: {len(references.unused)} names in {request.reference} that no recording has: {names}.", "dim")
    return given, references


def _run(
    request: Request,
    candidates: Sequence[Candidate],
    given: Inputs,
    references: References,
    store: Store,
    find_work: Callable[[Candidate, str], Work],
    console: Console,
) -> int:
    if store.unreadable:
        _say(console, f"{store.unreadable} lines of {store.path} cannot be read: what they had is measured anew.", "yellow")
    with console.status("Connecting to the cluster ..." if request.address else "Starting Ray ..."):
        cluster = RayCluster(request.address, request.asked)
    with cluster:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set its own
        _require_resources(candidates, cluster, console)
        works = {one.label: find_work(one, request.language) for one in candidates}
        with console.status("Looking at the models; a missing one is downloaded ..."):
            models = described(candidates, works, cluster)
        planned = pairs(candidates, given.found, models, works, store.found, request.asked, request.language, request.timeout_s)
        measured, stopped, status = list(planned.known), "", 0
        try:
            _execute(planned.to_run, request, candidates, len(given.found), cluster, store, measured, console)
        except KeyboardInterrupt:
            stopped, status = "Interrupted", INTERRUPTED
            measured += kept_last(planned.to_run, measured, store)
        except (NotKept, NoCluster) as error:
            stopped, status = str(error), 1
        found = Found(measured, candidates, models.checkpoints, given.found, references, bool(request.reference), stopped)
        complete = Report(found, request.out, cluster, console).run(request.within_points, request.language, request.write)
    return status or (0 if complete else 1)


def _require_resources(candidates: Sequence[Candidate], cluster: RayCluster, console: Console) -> None:
    """Say where no node has what a task asks for; on this machine alone, raise NoCluster."""
    for one in candidates:
        if lacking := cluster.lacking(one):
            if cluster.is_local:
                raise NoCluster(f"{lacking}: ask for less")
            _say(console, f"{one.label}: {lacking}; its tasks wait for such a node.", "yellow")


def _execute(
    to_run: Sequence[Pair],
    request: Request,
    candidates: Sequence[Candidate],
    inputs: int,
    cluster: RayCluster,
    store: Store,
    measured: list[Measured],
    console: Console,
) -> None:
    """Run what is to be run, and append each outcome to `measured`."""
    if kept := sum(one.error is None for one in measured):
        _say(console, f"{kept} of {len(candidates) * inputs} results are kept from before.", "dim")
    with Progress(console, [one.label for one in candidates], inputs, measured) as bars:

        def keep(outcome: Outcome) -> None:
            if outcome.picture is not None:
                _keep_picture(request.out, outcome)
            store.keep(outcome.measured)
            measured.append(outcome.measured)
            bars.advance(outcome.measured)

        def idle() -> None:
            if not cluster.is_local:
                bars.idle(cluster.idle_cpus, request.cpus)

        Runner(cluster, keep, idle).run(to_run)


def kept_last(to_run: Sequence[Pair], measured: Sequence[Measured], store: Store) -> list[Measured]:
    """Results that were kept, but not added to `measured`, since Ctrl-C came between."""
    kept = {one.key: one for one in read(store.path) if one.error is None}
    added = {one.key for one in measured}
    return [kept[one.key] for one in to_run if one.key in kept and one.key not in added]


def _keep_picture(out: Path, outcome: Outcome) -> None:
    path = out / tables.picture(outcome.measured)
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, outcome.picture or b"")
    except OSError as error:
        raise NotKept(f"{path.parent} cannot take another picture: {error.strerror}") from error


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style), soft_wrap=True)
