"""`sonograph rollout start|status|pause|resume|promote|abort|remove|remove-samples`. What a command needs is imported when it runs."""

import contextlib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from sonograph import options
from sonograph.addresses import URL
from sonograph.keys import RAY_TOKEN, api_key
from sonograph.option_values import seconds, settings
from sonograph.rollouts import values
from sonograph.rollouts.options import IMPORT_PATH, SHARE, Apply, RayServiceName, StageName, Wait, budget, of_plan

WATCH_S = 2.0

cli = typer.Typer(no_args_is_help=True, help="Try another model for a stage on a part of the requests: docs/rollouts.md.")


@cli.command()
def start(
    command: typer.Context,
    stage: StageName,
    set_: Annotated[
        list[str], typer.Option("--set", help="A setting that differs from the stable model's: `model=small.en`. Repeatable.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the candidate's Serve application.", show_default=False)] = None,
    steps: Annotated[Any, of_plan("Shares in percent, in turn: `5,20,50,100`.", values.steps, "PERCENTS")] = None,
    every: Annotated[Any, of_plan("Least time of a step: `10m`.", seconds, "TIME")] = None,
    min_requests: Annotated[
        int | None, typer.Option(min=0, help="Least requests of the candidate in a step.", rich_help_panel=SHARE)
    ] = None,
    share: Annotated[Any, of_plan("A fixed share instead of steps.", values.percent, "PERCENT")] = None,
    mirror: Annotated[Any, of_plan("Requests that both models compute, to compare them.", values.percent, "PERCENT")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Mirrored requests to keep.", rich_help_panel=SHARE)] = 0,
    max_errors: Annotated[Any, budget("Requests that fail: `1%`.", values.share)] = None,
    max_p50: Annotated[Any, budget("Median time: `1.2x` the stable model's.", values.multiple)] = None,
    max_p95: Annotated[Any, budget("95th percentile of the time: `1.2x`.", values.multiple)] = None,
    max_cpu: Annotated[Any, budget("CPU time of a request: `1.5x`.", values.multiple)] = None,
    max_empty: Annotated[Any, budget("More empty results: `1%`.", values.share)] = None,
    max_repetition: Annotated[Any, budget("More transcripts that repeat themselves: `1%`.", values.share)] = None,
    max_logprob_drop: Annotated[Any, budget("Fall of the tokens' mean log probability, in nats: `0.1`.", values.nats)] = None,
    max_word_drift: Annotated[Any, budget("Words that differ, for the same weights: `3%`.", values.share)] = None,
    max_pixel_drift: Annotated[Any, budget("Pixels' difference, for the same weights: `2%`.", values.share)] = None,
    max_picture_drift: Annotated[Any, budget("1 - SSIM of the pictures, for the same weights: `5%`.", values.share)] = None,
    max_word_errors: Annotated[Any, budget("Word error rate on --labelled: `1.05x`.", values.multiple)] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="Recordings with known texts, which both models transcribe first: lines of a path, a tab, the text."),
    ] = None,
    num_cpus: Annotated[float | None, typer.Option(min=0, help="CPUs of a replica; without it the stable model's.")] = None,
    num_gpus: Annotated[float | None, typer.Option(min=0, help="GPUs of a replica; without it the stable model's.")] = None,
    resources: Annotated[list[str] | None, typer.Option(help="Custom resources of a replica: `whisper=1`. Repeatable.")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of the candidate.")] = 1,
    group: Annotated[
        str, typer.Option(help="In Kubernetes: a worker group with an image of its own, by its custom resource.")
    ] = "",
    even_if_full: Annotated[
        bool, typer.Option("--even-if-full", help="Do not ask first whether it fits on a node: an autoscaler adds one.")
    ] = False,
    import_path: Annotated[str, typer.Option(help="The candidate's application.")] = IMPORT_PATH,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    dashboard: options.DashboardUrl = None,
    ray_token_file: options.TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    apply: Apply = False,
    wait: Wait = "15m",
) -> None:
    """Start a candidate beside a stage's model, and give it its first requests. Repeatable: it goes on where it ended."""
    from sonograph.rollouts import session
    from sonograph.rollouts.labelled import read
    from sonograph.rollouts.serve_config import Candidate
    from sonograph.rollouts.steps import begin

    changes = settings(set_)
    bounds = {option: bound for option, bound in command.params.items() if option.startswith("max_") and bound is not None}
    request = {"mirror": mirror or 0.0, "samples": samples, **session.shares(steps, every, min_requests, share, bounds)}
    if bounds.get("max_word_errors", values.NONE) != values.NONE and labelled is None:
        raise typer.BadParameter("needs recordings with known texts: --labelled texts.tsv", param_hint="--max-word-errors")
    drifts = [f"--{name.replace('_', '-')}" for name, bound in bounds.items() if name.endswith("drift") and bound != values.NONE]
    if drifts and "model" in changes:
        session.warn(f"another model gives other results, also a better one: {', '.join(drifts)} may abort it")
    actors = {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": values.resources(resources or []) or None}
    own = {option: value for option, value in actors.items() if value is not None}
    place = session.place(dashboard, ray_token_file, rayservice, namespace, context, apply)
    with session.running(stage, url, key_file, place, wait) as run:
        application = name or run.default_name
        recordings = read(labelled) if labelled else []
        run.deploy(Candidate(stage, application, changes, own, group, replicas, import_path), even_if_full)
        measure = (lambda: session.measured(recordings, run.service, stage)) if recordings else None
        begin(run, {"application": application, **request}, measure)
        session.print_status(run.service, stage)


@cli.command()
def status(
    stage: Annotated[str | None, typer.Argument(help="The stage; without it all of them.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the service's answer.")] = False,
    watch: Annotated[bool, typer.Option(help="Show it anew every two seconds, until Ctrl-C.")] = False,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
) -> None:
    """Show the rollouts: the candidate's share, the figures of both models, and each budget's verdict."""
    from sonograph.rollouts import session
    from sonograph.service import Service

    with session.reporting(), Service(url, api_key(key_file)) as service:
        if as_json:
            found = service.all()["rollouts"]
            print(json.dumps(session.only(found, stage) if stage else found, indent=2))
        elif not watch:
            session.print_status(service, stage)
        else:
            with contextlib.suppress(KeyboardInterrupt), Live(console=session.console, auto_refresh=False) as screen:
                while True:
                    screen.update(session.tables(service, stage), refresh=True)
                    time.sleep(WATCH_S)


@cli.command()
def pause(stage: StageName, url: options.Url = URL, key_file: options.KeyFile = None) -> None:
    """Keep the candidate's share as it is: no next step, while broken budgets still abort."""
    from sonograph.rollouts import session

    session.change_status(stage, "paused", url, key_file)


@cli.command()
def resume(stage: StageName, url: options.Url = URL, key_file: options.KeyFile = None) -> None:
    """Go on with the plan's steps."""
    from sonograph.rollouts import session

    session.change_status(stage, "running", url, key_file)


@cli.command()
def promote(
    stage: StageName,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    dashboard: options.DashboardUrl = None,
    ray_token_file: options.TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    apply: Apply = False,
    wait: Wait = "15m",
) -> None:
    """Make the candidate's settings the stable model's, and remove the candidate. Repeatable: it goes on where it ended."""
    from sonograph.rollouts import session

    place = session.place(dashboard, ray_token_file, rayservice, namespace, context, apply)
    with session.running(stage, url, key_file, place, wait) as run:
        run.promote()
        session.say(f"{stage} has the candidate's settings: write them into its config file too")


@cli.command()
def abort(
    stage: StageName,
    keep_application: Annotated[bool, typer.Option(help="Keep the candidate's application running, without requests.")] = False,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    dashboard: options.DashboardUrl = None,
    ray_token_file: options.TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    apply: Apply = False,
) -> None:
    """Give every request to the stable model again, and remove the candidate; its figures stay."""
    from sonograph.rollouts import session

    place = session.place(dashboard, ray_token_file, rayservice, namespace, context, apply)
    with session.running(stage, url, key_file, place) as run:
        run.abort(keep_application)
        session.print_status(run.service, stage)


@cli.command()
def remove(
    stage: StageName,
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    dashboard: options.DashboardUrl = None,
    ray_token_file: options.TokenFile = RAY_TOKEN,
    rayservice: RayServiceName = None,
    namespace: options.Namespace = None,
    context: options.Context = None,
    apply: Apply = False,
) -> None:
    """Remove the rollout with its figures, and the candidate's application."""
    from sonograph.rollouts import session

    place = session.place(dashboard, ray_token_file, rayservice, namespace, context, apply)
    with session.running(stage, url, key_file, place) as run:
        run.remove()
        session.say(f"{stage} has no rollout")


@cli.command()
def remove_samples(stage: StageName, url: options.Url = URL, key_file: options.KeyFile = None) -> None:
    """Remove the mirrored requests that the service has kept of a stage."""
    from sonograph.rollouts import session
    from sonograph.service import Service

    with session.reporting(), Service(url, api_key(key_file)) as service:
        session.say(f"{service.remove_samples(stage)} samples removed")
