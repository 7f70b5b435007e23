"""`sonograph compare`: models over many recordings, as tasks of Ray's: what each costs, and how right it is."""

from pathlib import Path
from typing import Annotated

import typer

from sonograph.compare import options

SPEECH = "Recordings"
PICTURES = "Pictures"
TASKS = "Tasks"
ENGINES = "openai-whisper"


def compare(
    models: Annotated[
        str, typer.Option(help="Models with commas between them: `tiny.en,base`; a name or a path, as in whisper.model.")
    ],
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(help="Recordings, or folders of them with all below.", metavar="RECORDINGS...", show_default=False),
    ] = None,
    engines: Annotated[
        str,
        typer.Option(help="Engines of Whisper, each with each model: `openai-whisper,faster-whisper`.", rich_help_panel=SPEECH),
    ] = ENGINES,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="File of known texts, each line a recording's name, a tab, and its words. Without it texts are compared with the largest "
            "model's.",
            rich_help_panel=SPEECH,
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str,
        typer.Option(help="Language of the recordings, such as `de`; without it each model detects it.", rich_help_panel=SPEECH),
    ] = "",
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="File of prompts, one a line: compare models that draw, such as `small-stable-diffusion`, and not recordings. "
            "They have no score.",
            rich_help_panel=PICTURES,
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A further setting of every candidate: `padding=adaptive`, `steps=4` (docs/settings.md). Repeatable.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A YAML file of such settings, `padding: adaptive`.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results. A run goes on from what it finds there.")] = Path(
        "comparison"
    ),
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write the chosen candidate as a values file: for `sonograph render --values` on a cluster; on one machine its "
            "settings belong into the `args` of a copy of graphs/local.yaml, for `sonograph serve --config`.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage points of error above the best that a cheaper candidate may have.")
    ] = 1.0,
    address: Annotated[
        str | None,
        typer.Option(
            help="A running Ray cluster that this machine or pod is a part of: `auto`, `HOST:6379`. Without it Ray runs here meanwhile.",
            rich_help_panel=TASKS,
            show_default=False,
        ),
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="CPUs and threads of each task.", rich_help_panel=TASKS)] = 1,
    gpus: Annotated[float, typer.Option(min=0, max=64, help="GPUs of each task, or a part of one.", rich_help_panel=TASKS)] = 0.0,
    memory: Annotated[
        str,
        typer.Option(
            help="Memory that each task states, such as `2GiB`: Ray starts no more than fit.",
            rich_help_panel=TASKS,
            show_default=False,
        ),
    ] = "",
    timeout: Annotated[
        str, typer.Option(help="Longest time of a task, such as `15m`, the model's loading included.", rich_help_panel=TASKS)
    ] = "15m",
) -> None:
    """Compare models over your own recordings: time, CPU, memory and word errors, as a table, CSV and a page.

    Each model and recording is one task of Ray's, on this machine or on a cluster.

    Results are kept as they come: after Ctrl-C or a crash the same command goes on.

    Exit status: 0, or 1 where something failed, 2 for a wrong command, 130 after Ctrl-C.
    """
    from sonograph.compare.session import Request, run

    if bool(recordings) == bool(prompts):
        raise typer.BadParameter("give recordings, or --prompts with a file of prompts", param_hint="RECORDINGS")
    if prompts and (reference or language or engines != ENGINES or write):
        raise typer.BadParameter(
            "--engines, --reference, --language and --write are for recordings: pictures have no score to choose by"
        )
    if not prompts:
        options.require_scores()
    request = Request(
        recordings=tuple(recordings or ()),
        prompts=prompts,
        models=tuple(options.listed(models)),
        engines=() if prompts else tuple(options.listed(engines)),
        reference=reference,
        language=language,
        settings=options.further_settings(settings, set_ or []),
        out=out,
        write=write,
        within_points=within,
        address=address,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=options.memory(memory) if memory else None,
        timeout_s=options.duration(timeout),
    )
    raise typer.Exit(run(request))
