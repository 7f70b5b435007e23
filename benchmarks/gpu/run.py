"""A run of the parts, its record and its pictures."""

import re
from pathlib import Path

from rich.console import Console

from benchmarks.gpu import images, measuring, transcription
from benchmarks.gpu.options import Options
from benchmarks.gpu.report import Report
from benchmarks.gpu.table import draw, table

WHISPERS = {"whisper": "large-v3", "turbo": "turbo"}
"""Checkpoints by the names of their parts."""


def run(names: list[str], tiny: bool, folder: Path, part_s: float) -> list[str]:
    """Measure these parts, and return the rows that failed. Raises ValueError where there is no GPU, unless `tiny`."""
    options = Options.of(tiny)
    console = Console()
    machine = measuring.machine(options.device)
    slug = re.sub(r"[^a-z0-9]+", "-", machine["card"].lower()).strip("-") if not tiny else "tiny"
    settings = {"dtype": str(options.dtype), "tokens": options.tokens, "repeats": options.repeats, "tiny": tiny}
    report = Report(folder / f"{slug}.json", machine, settings, console)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items() if value), highlight=False, soft_wrap=True)
    for name in names:
        part = report.part(name, part_s)
        if name in WHISPERS:
            transcription.measure(WHISPERS[name], part, options)
        else:
            images.measure(name, part, options)
        measuring.release()
    report.save()
    draw(report.parts, folder / f"{slug}.png")
    console.print(table(report.machine, report.parts), markup=False, highlight=False, soft_wrap=True)
    for row in report.failed:
        console.print(f"failed: {row}", style="red", highlight=False, soft_wrap=True)
    return report.failed
