"""Common parts of the commands of `sonograph rollout`: the service, the place of Serve's config, the terminal."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.progress import Progress
from rich.text import Text

from sonograph import options as common
from sonograph.dashboard import Dashboard, DashboardError, address
from sonograph.errors import Failed, fail
from sonograph.keys import api_key, ray_token
from sonograph.option_values import seconds
from sonograph.rollouts import table, values
from sonograph.rollouts.labelled import Recording, measure
from sonograph.rollouts.steps import Run
from sonograph.rollouts.targets import Manifest, RayService, RunningServe, Target
from sonograph.service import Service
from sonograph.terminal import printable

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class TargetOptions:
    """Options on where Serve's config is changed."""

    dashboard: str | None
    token_file: Path
    rayservice: str | None
    namespace: str | None
    context: str | None
    apply: bool

    def target(self, named: str | None) -> Target:
        """`named`: the dashboard's address as the service names it. Raises Failed."""
        if self.rayservice and self.apply:
            if Path(self.rayservice).is_file():
                raise Failed(f"--apply changes a RayService in the cluster: give its name instead of {self.rayservice}")
            return RayService(self.rayservice, self.namespace, self.context)
        if self.rayservice:
            return Manifest(self.rayservice, self.namespace, self.context)
        return RunningServe(Dashboard(address(self.dashboard, named), ray_token(self.token_file)))


def place(
    dashboard: str | None, token_file: Path, rayservice: str | None, namespace: str | None, context: str | None, apply: bool
) -> TargetOptions:
    """The place of these options. Raises typer.BadParameter."""
    sentence = "it is for a RayService: give --rayservice NAME too"
    common.require(rayservice is not None, sentence, namespace=namespace, context=context, apply=apply)
    return TargetOptions(dashboard, token_file, rayservice, namespace, context, apply)


@contextlib.contextmanager
def running(stage: str, url: str, key_file: Path | None, options: TargetOptions, wait: str = "15m") -> Iterator[Run]:
    """The steps on one stage. Ends the command with a sentence where one fails."""
    wait_s = seconds(wait)
    with reporting(), Service(url, api_key(key_file)) as service:
        known = service.all()
        said: list[str] = []

        def report(sentence: str) -> None:
            if sentence not in said[-1:]:
                said[:] = [sentence]
                errors.print(Text(printable(sentence)), soft_wrap=True)

        yield Run(service, lambda: options.target(known["serve_api"]), stage, known["application"], report, wait_s)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    try:
        yield
    except (Failed, DashboardError) as error:
        fail("rollout", error)
    except KeyboardInterrupt:
        errors.print("Ended. The rollout goes on as it is: `sonograph rollout status` shows it.")
        raise typer.Exit(130) from None  # as shells count: 128, and SIGINT's number


def shares(
    steps: tuple[float, ...] | None, every_s: float | None, min_requests: int | None, share: float | None, bounds: dict[str, Any]
) -> dict[str, Any]:
    """`plan` and `share` of the request that begins a rollout. Raises typer.BadParameter."""
    from pydantic import ValidationError

    from graphs.rollouts.state import Plan

    if steps is None:
        if every_s is not None or min_requests is not None or bounds:
            raise typer.BadParameter("budgets, --every and --min-requests belong to a plan: add --steps 5,20,50,100")
        return {"share": share or 0.0, "plan": None}
    if share is not None:
        raise typer.BadParameter("is fixed, and --steps changes it: choose one", param_hint="--share")
    timing = {name: value for name, value in (("every_s", every_s), ("min_requests", min_requests)) if value is not None}
    budgets = {name: None if bound == values.NONE else bound for name, bound in bounds.items()}
    plan = {"steps": list(steps), **timing, "budgets": budgets}
    try:
        Plan.model_validate(plan)
    except ValidationError as error:
        sentences = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise typer.BadParameter(f"the plan is wrong: {sentences}") from error
    return {"share": 0.0, "plan": plan}


def measured(recordings: list[Recording], service: Service, stage: str) -> dict[str, int]:
    """Word errors of both models on the recordings, with a bar of the progress."""
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("Transcribing by both models", total=len(recordings))
        return measure(
            recordings,
            lambda content, model: service.transcribe(content, stage, model),
            lambda done: progress.update(task, completed=done),
        )


def change_status(stage: str, status: str, url: str, key_file: Path | None) -> None:
    with reporting(), Service(url, api_key(key_file)) as service:
        service.change(stage, status=status)
        print_status(service, stage)


def only(rollouts: dict[str, Any], stage: str) -> dict[str, Any]:
    """The stage's rollout. Raises Failed."""
    if stage not in rollouts:
        raise Failed(f"{stage} has no rollout: `sonograph rollout start {stage} --set KEY=VALUE` begins one")
    return dict(rollouts[stage])


def tables(service: Service, stage: str | None) -> Group | Text:
    """The rollouts, or one of them."""
    found = service.all()["rollouts"]
    shown = {stage: only(found, stage)} if stage else found
    if not shown:
        return Text("No stage has a rollout: `sonograph rollout start STAGE --set KEY=VALUE` begins one.")
    parts = [part for name, view in shown.items() for part in (table.rollout(name, view), Text())]
    return Group(*parts[:-1])


def print_status(service: Service, stage: str | None) -> None:
    console.print(tables(service, stage))


def say(sentence: str) -> None:
    console.print(Text(sentence), soft_wrap=True)


def warn(sentence: str) -> None:
    errors.print(Text.assemble(("Warning: ", "bold"), sentence), soft_wrap=True)
