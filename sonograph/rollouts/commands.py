"""`sonograph rollout start|status|pause|resume|promote|abort|remove`."""

import contextlib
import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from sonograph.draw import api_key, printable
from sonograph.events import Failed
from sonograph.rollouts import values
from sonograph.rollouts.service import Service
from sonograph.rollouts.table import rollout as as_table

RAY_TOKEN = Path("~/.ray/auth_token")
WAIT_S = 900.0
WATCH_S = 2.0

cli = typer.Typer(no_args_is_help=True, help="Try another model for a stage on a part of the requests: docs/rollouts.md.")
console = Console(highlight=False)

Stage = Annotated[str, typer.Argument(help="The stage's model: `whisper`, `diffusion`.")]
Url = Annotated[str, typer.Option("--service", help="Address of the service.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="File with an operator's API key; without it SONOGRAPH_KEY.", show_default=False)
]
DashboardUrl = Annotated[
    str | None, typer.Option("--dashboard", help="Address of Ray's dashboard; without it the one the service names, on this machine.")
]
TokenFile = Annotated[Path, typer.Option("--ray-token-file", help="File with Ray's token, for its dashboard.", envvar="RAY_AUTH_TOKEN_PATH")]
RayServiceName = Annotated[
    str | None,
    typer.Option("--rayservice", help="In Kubernetes: a RayService's manifest or name; prints the patch of its serveConfigV2."),
]
Namespace = Annotated[str, typer.Option(help="The RayService's namespace; without it kubectl's.")]
Live_ = Annotated[bool, typer.Option("--live", help="Apply the patch of the RayService by kubectl.")]
Wait = Annotated[str, typer.Option("--wait", help="Longest wait for an application: `15m`.")]
LOCAL = "http://127.0.0.1:8000"


def _budget(help: str, parser: Any) -> Any:
    return typer.Option(help=f"{help} `none`: no such budget.", parser=parser, metavar="BOUND", rich_help_panel="The plan's budgets")


def _of_plan(help: str, parser: Any, metavar: str) -> Any:
    return typer.Option(help=help, parser=parser, metavar=metavar, rich_help_panel="The candidate's share")


@cli.command()
def start(
    context: typer.Context,
    stage: Stage,
    set_: Annotated[list[str], typer.Option("--set", help="A setting that differs from the stable model's: `model=small.en`. Repeatable.")],
    name: Annotated[str | None, typer.Option(help="Name of the candidate's Serve application.", show_default=False)] = None,
    steps: Annotated[Any, _of_plan("Shares in percent, in turn: `5,20,50,100`.", values.steps, "PERCENTS")] = None,
    every: Annotated[Any, _of_plan("Least time of a step: `10m`.", values.seconds, "TIME")] = None,
    min_requests: Annotated[int | None, typer.Option(min=0, help="Least requests of the candidate in a step.", rich_help_panel="The candidate's share")] = None,
    share: Annotated[Any, _of_plan("A fixed share instead of steps.", values.percent, "PERCENT")] = None,
    mirror: Annotated[Any, _of_plan("Requests that both models compute, to compare them.", values.percent, "PERCENT")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Mirrored requests to keep.", rich_help_panel="The candidate's share")] = 0,
    max_errors: Annotated[Any, _budget("Requests that fail: `1%`.", values.share)] = None,
    max_p50: Annotated[Any, _budget("Median time: `1.2x` the stable model's.", values.multiple)] = None,
    max_p95: Annotated[Any, _budget("95th percentile of the time: `1.2x`.", values.multiple)] = None,
    max_cpu: Annotated[Any, _budget("CPU time of a request: `1.5x`.", values.multiple)] = None,
    max_empty: Annotated[Any, _budget("More empty results: `1%`.", values.share)] = None,
    max_repetition: Annotated[Any, _budget("More transcripts that repeat themselves: `1%`.", values.share)] = None,
    max_logprob_drop: Annotated[Any, _budget("Fall of the tokens' mean log probability, in nats: `0.1`.", values.nats)] = None,
    max_word_drift: Annotated[Any, _budget("Words that differ, for the same weights: `3%`.", values.share)] = None,
    max_pixel_drift: Annotated[Any, _budget("Pixels' difference, for the same weights: `2%`.", values.share)] = None,
    max_picture_drift: Annotated[Any, _budget("1 - SSIM of the pictures, for the same weights: `5%`.", values.share)] = None,
    max_word_errors: Annotated[Any, _budget("Word error rate on --labelled: `1.05x`.", values.multiple)] = None,
    labelled: Annotated[Path | None, typer.Option(help="Recordings with known texts, which both models transcribe first: lines of a path, a tab, the text.")] = None,
    num_cpus: Annotated[float | None, typer.Option(min=0, help="CPUs of a replica; without it the stable model's.")] = None,
    num_gpus: Annotated[float | None, typer.Option(min=0, help="GPUs of a replica; without it the stable model's.")] = None,
    resources: Annotated[list[str] | None, typer.Option(help="Custom resources of a replica: `whisper=1`. Repeatable.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of the candidate.")] = 1,
    group: Annotated[str, typer.Option(help="In Kubernetes: a worker group with an image of its own, by its custom resource.")] = "",
    even_if_full: Annotated[bool, typer.Option(help="Do not ask first whether a node has room: an autoscaler adds one.")] = False,
    import_path: Annotated[str, typer.Option(help="The candidate's application.")] = "deployments.candidate:app",
    url: Url = LOCAL,
    key_file: KeyFile = None,
    dashboard: DashboardUrl = None,
    ray_token_file: TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: Namespace = "",
    live: Live_ = False,
    wait: Wait = "15m",
) -> None:
    """Start a candidate beside a stage's model, and give it its first requests. Repeatable: it goes on where it ended."""
    from sonograph.rollouts.serve_config import Candidate
    from sonograph.rollouts.steps import begin

    bounds = {option: bound for option, bound in context.params.items() if option.startswith("max_") and bound is not None}
    request = {
        **_shares(steps, every, min_requests, share, bounds),
        "mirror": mirror or 0,
        "samples": samples,
    }
    changes = values.settings(set_)
    if "max_word_errors" in bounds and bounds["max_word_errors"] != values.NONE and labelled is None:
        raise typer.BadParameter("needs recordings with known texts: --labelled texts.tsv", param_hint="--max-word-errors")
    options = {
        name: value
        for name, value in (
            ("num_cpus", num_cpus),
            ("num_gpus", num_gpus),
            ("resources", values.resources(resources) if resources else None),
        )
        if value is not None
    }
    drifts = [_option(name) for name in bounds if name.endswith("_drift")]
    if drifts and "model" in changes:
        console.print(f"[yellow]Another model gives other results, also a better one: {', '.join(drifts)} may abort it.[/yellow]")
    with _run(stage, url, key_file, dashboard, ray_token_file, rayservice, namespace, live, wait) as run:
        application = name or run.default_name
        recordings = _recordings(labelled)
        run.deploy(Candidate(stage, application, changes, options, group, replicas, import_path), even_if_full)
        measure = (lambda: _measured(recordings, run.service, stage)) if recordings else None
        begin(run, {"application": application, **request}, measure)
        _print_status(run.service, stage)


@cli.command()
def status(
    stage: Annotated[str | None, typer.Argument(help="The stage; without it all of them.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the service's answer.")] = False,
    watch: Annotated[bool, typer.Option(help="Show it anew every two seconds, until Ctrl-C.")] = False,
    url: Url = LOCAL,
    key_file: KeyFile = None,
) -> None:
    """Show the rollouts: the candidate's share, the figures of both models, and each budget's verdict."""
    with _reporting(), Service(url, api_key(key_file)) as service:
        if as_json:
            found = service.all()["rollouts"]
            print(json.dumps(_only(found, stage) if stage else found, indent=2))
        elif not watch:
            _print_status(service, stage)
        else:
            with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as screen:
                while True:
                    screen.update(_tables(service, stage), refresh=True)
                    time.sleep(WATCH_S)


@cli.command()
def pause(stage: Stage, url: Url = LOCAL, key_file: KeyFile = None) -> None:
    """Keep the candidate's share as it is: no next step, while broken budgets still abort."""
    _change_status(stage, "paused", url, key_file)


@cli.command()
def resume(stage: Stage, url: Url = LOCAL, key_file: KeyFile = None) -> None:
    """Go on with the plan's steps."""
    _change_status(stage, "running", url, key_file)


@cli.command()
def promote(
    stage: Stage,
    url: Url = LOCAL,
    key_file: KeyFile = None,
    dashboard: DashboardUrl = None,
    ray_token_file: TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: Namespace = "",
    live: Live_ = False,
    wait: Wait = "15m",
) -> None:
    """Make the candidate's settings the stable model's, and remove the candidate. Repeatable: it goes on where it ended."""
    with _run(stage, url, key_file, dashboard, ray_token_file, rayservice, namespace, live, wait) as run:
        run.promote()
        console.print(f"{stage} has the candidate's settings: write them into its config file too", soft_wrap=True)


@cli.command()
def abort(
    stage: Stage,
    keep_application: Annotated[bool, typer.Option(help="Keep the candidate's application running, without requests.")] = False,
    url: Url = LOCAL,
    key_file: KeyFile = None,
    dashboard: DashboardUrl = None,
    ray_token_file: TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: Namespace = "",
    live: Live_ = False,
) -> None:
    """Give every request to the stable model again, and remove the candidate; its figures stay."""
    with _run(stage, url, key_file, dashboard, ray_token_file, rayservice, namespace, live, "15m") as run:
        run.abort(keep_application)
        _print_status(run.service, stage)


@cli.command()
def remove(
    stage: Stage,
    url: Url = LOCAL,
    key_file: KeyFile = None,
    dashboard: DashboardUrl = None,
    ray_token_file: TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: Namespace = "",
    live: Live_ = False,
) -> None:
    """Remove the rollout with its figures, and the candidate's application."""
    with _run(stage, url, key_file, dashboard, ray_token_file, rayservice, namespace, live, "15m") as run:
        run.remove()
        console.print(f"{stage} has no rollout")
