"""Four candidates over 144 spoken recordings, by `sonograph compare`: `python -m benchmarks.comparison [--only-corpus DIR]`.

tiny.en and base, each by openai-whisper and faster-whisper, over sentences by several voices, speeds and noises whose words are known
(`benchmarks.corpus`). The command runs as a user's, with one CPU for each task; what it kept is read from its folder, and the error rates
are divided by the level of the noise. Intervals are of the recordings: another choice of sentences and noises like these.
"""

import argparse
import io
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import chart, corpus
from benchmarks.measure import circumstances, interval
from benchmarks.services import BINARIES, variables
from sonograph.compare import scores, store, summary
from sonograph.compare.measured import Measured
from sonograph.compare.scores import Errors, Scores
from testing.browser import launch
from testing.service import ROOT

RESULTS = Path(__file__).with_name("results")
PICTURE = ROOT / "docs" / "compare-page.webp"
MODELS, ENGINES = ("tiny.en", "base"), ("openai-whisper", "faster-whisper")
WIDTH_PX = 1040
WITHIN_POINTS = 1.0
console = Console(width=140)


def compare(folder: Path, out: Path) -> float:
    """Run the command over the recordings; return the seconds that it took. Raises CalledProcessError where anything failed."""
    command = [str(BINARIES / "sonograph"), "compare", str(folder), "--models", ",".join(MODELS), "--engines", ",".join(ENGINES)]
    command += ["--reference", str(folder / corpus.TEXTS), "--language", "en", "--out", str(out), "--within", str(WITHIN_POINTS)]
    began_s = time.monotonic()
    subprocess.run(command, env=variables(), check=True)
    return time.monotonic() - began_s


def summarized(measured: Sequence[Measured], recordings: Sequence[corpus.Recording], errors: Scores) -> dict[str, Any]:
    """Return each candidate's figures, and its word error rate by the level of the noise."""
    labels = list(dict.fromkeys(one.candidate for one in measured))
    rows, choice = summary.chosen(summary.rows(measured, labels, errors), WITHIN_POINTS, None)
    found: dict[str, Any] = {"recordings": len(recordings), "chosen": choice.candidate, "reason": choice.reason}
    done = [one for one in measured if one.error is None]
    found["minutes"] = sum({one.input: one.length_s or 0.0 for one in done}.values()) / 60
    found["words"] = sum(errors.reference[rows[0].candidate, one.name].words for one in recordings)
    found["candidates"] = {}
    for row in rows:
        mine = [one for one in done if one.candidate == row.candidate]
        cpu_s = [one.cpu_s / one.length_s for one in mine if one.length_s]
        wall_s = [one.wall_s / one.length_s for one in mine if one.length_s]
        wrong = {one.name: errors.reference[row.candidate, one.name] for one in recordings}
        found["candidates"][row.candidate] = {
            **{name: value for name, value in asdict(row).items() if name not in ("candidate", "agreement")},
            "cpu_s_for_a_second": {"median": statistics.median(cpu_s), "interval": interval(cpu_s)},
            "wall_s_for_a_second": {"median": statistics.median(wall_s), "interval": interval(wall_s)},
            "word_errors": of(list(wrong.values())),
            "by_noise": {level: of([wrong[one.name] for one in recordings if one.level == level]) for level in corpus.LEVELS},
        }
    found["pairs"] = {
        f"{one} - {other}": difference(
            [(errors.reference[one, each.name], errors.reference[other, each.name]) for each in recordings]
        )
        for one, other in combinations([row.candidate for row in rows], 2)
    }
    return found


def of(wrong: Sequence[Errors]) -> dict[str, Any]:
    """Return the errors for each word of all, with its 95% interval over recordings."""
    return {"rate": scores.rate(wrong), "interval": interval(wrong, rate)}


def rate(wrong: Sequence[Errors]) -> float:
    return sum(one.count for one in wrong) / max(1, sum(one.words for one in wrong))


def difference(wrong: Sequence[tuple[Errors, Errors]]) -> dict[str, Any]:
    """Return the first's error rate less the other's over the same recordings, in points."""

    def points(pairs: Sequence[tuple[Errors, Errors]]) -> float:
        return 100 * (rate([one for one, _ in pairs]) - rate([other for _, other in pairs]))

    return {"points": points(wrong), "interval": interval(wrong, points)}


def table(found: Mapping[str, Any]) -> Table:
    shown = Table("", "CPU s for a second of sound", "most memory", "word error rate (95%)", *corpus.LEVELS)
    for name, one in found["candidates"].items():
        low, high = one["word_errors"]["interval"]
        by_noise = [f"{one['by_noise'][level]['rate']:.1%}" for level in corpus.LEVELS]
        errors = f"{one['word_error_rate']:.1%} ({low:.1%} to {high:.1%})"
        star = " *" if name == found["chosen"] else ""
        cost = f"{one['cpu_s'] / one['length_s']:.3f}"
        shown.add_row(f"{name}{star}", cost, f"{one['peak_bytes'] / 2**20:.0f} MiB", errors, *by_noise)
    return shown


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the error rate by noise, and the cost."""
    names = list(found["candidates"])
    bars = [
        chart.Bar(level if at == 0 else "", 100 * found["candidates"][name]["by_noise"][level]["rate"], at)
        for level in corpus.LEVELS
        for at, name in enumerate(names)
    ]
    costs = [chart.Bar("", one["cpu_s"] / one["length_s"], at) for at, one in enumerate(found["candidates"].values())]
    panels = [
        chart.Bars("word errors, % of the words, by speech over noise", bars),
        chart.Bars("CPU s for a second of sound", costs),
    ]
    chart.draw(path, names, panels)


def photograph(page: Path, path: Path) -> None:
    """Draw the page's first charts, for the documents, as a browser shows them."""
    with sync_playwright() as playwright:
        tab = launch(playwright).new_page(viewport={"width": WIDTH_PX, "height": 800}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector("body[data-drawn]")
        bottom = tab.locator("#chart-timeline").evaluate("one => one.getBoundingClientRect().bottom + window.scrollY")
        size = {"x": 0, "y": 0, "width": WIDTH_PX, "height": bottom}
        shot = tab.screenshot(full_page=True, clip=size)
    Image.open(io.BytesIO(shot)).save(path, quality=82, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-corpus", type=Path, metavar="DIR", help="make the recordings and their texts there, and end")
    parser.add_argument("--out", type=Path, help="keep the command's results there, from which another run goes on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.only_corpus or Path(name) / "recordings"
        total = len(corpus.plan())
        recordings = list(track(corpus.make(folder), "Speaking", total=total, console=console))
        if arguments.only_corpus:
            console.print(f"{len(recordings)} recordings and {corpus.TEXTS} are in {folder}")
            return
        out = arguments.out or Path(name) / "results"
        took_s = compare(folder, out)
        measured = store.read(out)
        texts = {one.name: one.text for one in recordings}
        found = summarized(measured, recordings, scores.scored(measured, texts, None, scores.normalized, "en"))
        found |= {"took_s": took_s, "circumstances": circumstances()}
        draw(found, RESULTS / "comparison.png")
        photograph(out / "page.html", PICTURE)
    console.print(table(found), found["reason"], found["circumstances"])
    (RESULTS / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
