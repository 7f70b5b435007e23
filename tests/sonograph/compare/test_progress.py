"""Progress: bars on a terminal, lines elsewhere."""

import io
import re

from rich.console import Console

from sonograph.compare.progress import Progress
from tests.sonograph.compare.fakes import measured

TINY, EVIL = "tiny.en, openai-whisper", "\x1b[31mbase"


def text(console: Console) -> str:
    found = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return " ".join(found.replace("━", "").replace("╸", "").replace("╺", "").split())


def test_a_terminal_shows_each_candidate_with_what_is_done_and_failed_before_and_now() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    before = [measured(candidate=TINY), measured(candidate=EVIL, error="it was killed"), measured(candidate="base")]
    with Progress(console, [TINY, EVIL, "base"], 3, before) as bars:
        bars.advance(measured(candidate=TINY))
        bars.advance(measured(candidate=EVIL, error="it was killed"))
    assert f"{TINY} 2/3" in text(console)
    assert "\\x1b[31mbase 2/3 2 failed" in text(console)
    assert text(console).endswith("base 1/3")


def test_elsewhere_a_line_now_and_then_says_how_much_is_done() -> None:
    console = Console(file=io.StringIO(), width=100)
    with Progress(console, [TINY], 3, [], line_s=0) as bars:
        bars.advance(measured(candidate=TINY))
        bars.advance(measured(candidate=TINY, error="it was killed"))
    assert text(console) == "1 of 3 done, 0 failed. 2 of 3 done, 1 failed."
    quiet = Console(file=io.StringIO(), width=100)
    with Progress(quiet, [TINY], 3, []) as bars:
        bars.advance(measured(candidate=TINY))
    assert text(quiet) == ""


def test_a_cluster_without_a_free_cpu_is_named_once_until_the_first_result() -> None:
    console = Console(file=io.StringIO(), width=100)
    with Progress(console, [TINY], 3, [], patience_s=0) as bars:
        bars.idle(lambda: (1.0, 4.0), 2)
        bars.idle(lambda: (1.0, 4.0), 2)
    assert text(console) == "No result for 0 s: 1 of the cluster's 4 CPUs are free, and a task takes 2."
    quiet = Console(file=io.StringIO(), width=100)
    with Progress(quiet, [TINY], 3, [], patience_s=0) as bars:
        bars.advance(measured(candidate=TINY))
        bars.idle(lambda: (0.0, 4.0), 2)
    assert text(quiet) == ""
