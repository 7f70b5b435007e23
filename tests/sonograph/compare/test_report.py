"""The end of a run: what is printed, what is written, and whether all is well."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sonograph.compare import plan
from sonograph.compare.cluster import NoCluster
from sonograph.compare.inputs import Input, References
from sonograph.compare.measured import Node
from sonograph.compare.plan import Candidate, Checkpoint
from sonograph.compare.report import Found, Report
from sonograph.compare.values import MARK
from tests.sonograph.compare.fakes import WORDS, measured

CANDIDATES = plan.candidates("speech-to-text", ["tiny.en", "base"], ["openai-whisper"], {})
TINY, BASE = (one.label for one in CANDIDATES)
GOOD = [
    measured(candidate=BASE, input="b.wav", model="base", cpu_s=2.0),
    measured(candidate=TINY, input="b.wav", text=WORDS.replace("red", "bread")),
    measured(candidate=TINY, input="a.wav"),
    measured(candidate=BASE, input="a.wav", model="base", cpu_s=2.0),
]
ALL_KNOWN = References({"a.wav": WORDS, "b.wav": WORDS})


class FakeCluster:
    """A cluster that computes at once, or whose connection has ended."""

    def __init__(self, ended: bool = False) -> None:
        self.called: list[Any] = []
        self._ended = ended

    def nodes(self) -> dict[str, Node]:
        return {"n": Node(2.0, 1 << 30)}

    def call(self, function: Callable[..., Any], *arguments: Any, candidate: Candidate | None = None) -> Any:
        self.called.append(candidate)
        return function(*arguments)

    def result(self, handle: Any) -> Any:
        if self._ended:
            raise NoCluster("the connection to Ray ended")
        return handle


def found(**changes: Any) -> Found:
    inputs = [Input("a.wav", Path("a.wav"), "1"), Input("b.wav", Path("b.wav"), "2")]
    checkpoints = {TINY: Checkpoint("t", 10 << 20), BASE: Checkpoint("b", 20 << 20)}
    return replace(Found(GOOD, CANDIDATES, checkpoints, inputs, ALL_KNOWN, True, ""), **changes)


def reported(
    out: Path, given: Found, cluster: FakeCluster | None = None, write: Path | None = None, has_whisper: bool | None = None
) -> tuple[bool, str]:
    console = Console(file=io.StringIO(), width=120)
    out.mkdir(exist_ok=True)
    complete = Report(given, out, cluster or FakeCluster(), console, has_whisper).run(1.0, "", write)
    return complete, console.file.getvalue()


def test_a_whole_comparison_is_printed_and_written(tmp_path: Path) -> None:
    complete, printed = reported(tmp_path, found(), write=tmp_path / "values.yaml")
    assert complete
    assert f"{BASE} is chosen: it has the least error, 0.0% of the words wrong, and no cheaper one is within 1 point" in printed
    assert "failed" not in printed
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "summary.csv", "page.html", "values.yaml"}
    content = (tmp_path / "values.yaml").read_text()
    assert content.startswith(MARK)
    assert yaml.safe_load(content)["settings"] == {"whisper": {"model": "base", "engine": "openai-whisper"}}


def test_the_order_in_which_tasks_ended_changes_no_file(tmp_path: Path) -> None:
    files = []
    for name, ones in (("one", GOOD), ("other", GOOD[::-1])):
        reported(tmp_path / name, found(measured=ones))
        files.append([(tmp_path / name / file).read_bytes() for file in ("results.csv", "summary.csv")])
    assert files[0] == files[1]
    lines = list(csv.DictReader(io.StringIO(files[0][0].decode())))
    assert [(line["candidate"], line["input"]) for line in lines] == [
        (label, name) for label in (TINY, BASE) for name in ("a.wav", "b.wav")
    ]


def test_without_known_texts_the_largest_model_that_has_a_result_is_what_others_are_compared_with(tmp_path: Path) -> None:
    nothing = {"references": References(), "has_references": False}
    complete, printed = reported(tmp_path, found(**nothing))
    assert complete
    assert f"Agreement is with the words of {BASE}, the largest model here (20 MiB)." in printed
    broken = [replace(one, error="it was killed") if one.candidate == BASE else one for one in GOOD]
    _, printed = reported(tmp_path, found(measured=broken, **nothing))
    assert f"Agreement is with the words of {TINY}" in printed


def test_a_missing_reference_is_named_and_counted(tmp_path: Path) -> None:
    complete, printed = reported(tmp_path, found(references=References({"a.wav": WORDS}, ("b.wav",))))
    assert not complete
    assert "1 of 2 have no known text: b.wav" in printed


def test_a_failure_is_named_and_counted(tmp_path: Path) -> None:
    complete, printed = reported(tmp_path, found(measured=[*GOOD[:3], replace(GOOD[3], error="it was killed")]))
    assert not complete
    assert "1 of 4 failed; the same command tries them again:" in printed
    assert f"{BASE}: a.wav: it was killed" in printed


def test_a_run_that_was_stopped_says_how_to_go_on_and_chooses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    complete, printed = reported(tmp_path, found(measured=GOOD[:3], stopped="Interrupted"), write=path)
    assert not complete
    assert f"Interrupted. 3 of 4 results are kept in {tmp_path}: the same command goes on from there." in printed
    assert "chosen:" not in printed
    assert f"{path} is not written, since no candidate is chosen." in printed
    assert not path.exists()


def test_nothing_at_all_has_no_table(tmp_path: Path) -> None:
    _, printed = reported(tmp_path, found(measured=[], stopped="Interrupted"))
    assert "candidate" not in printed
    assert "0 of 4 results are kept" in printed


def test_files_that_cannot_be_written_are_named_and_the_table_is_printed_all_the_same(tmp_path: Path) -> None:
    for name in ("results.csv", "summary.csv"):
        (tmp_path / name).mkdir()
    complete, printed = reported(tmp_path, found())
    assert not complete
    assert f"{tmp_path / 'results.csv'} cannot be written: Is a directory" in printed
    assert f"{BASE} is chosen" in printed
    assert f"Written: {tmp_path / 'page.html'}" in printed


def test_where_whisper_is_not_installed_the_cluster_normalizes(tmp_path: Path) -> None:
    files = []
    for name, has_whisper in (("here", True), ("there", False)):
        cluster = FakeCluster()
        assert reported(tmp_path / name, found(), cluster, has_whisper=has_whisper)[0]
        assert cluster.called == ([] if has_whisper else [CANDIDATES[0]])
        files.append((tmp_path / name / "summary.csv").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("given", "cluster", "sentence"),
    [
        (found(), FakeCluster(ended=True), "Word errors are not counted: the connection to Ray ended"),
        (found(stopped="Interrupted"), FakeCluster(), "Word errors are counted once all is done"),
    ],
)
def test_word_errors_that_cannot_be_counted_are_named(tmp_path: Path, given: Found, cluster: FakeCluster, sentence: str) -> None:
    complete, printed = reported(tmp_path, given, cluster, has_whisper=False)
    assert not complete
    assert sentence in printed
    assert TINY in printed


def test_what_a_name_could_do_to_a_terminal_is_escaped(tmp_path: Path) -> None:
    evil = replace(GOOD[0], error="no\x1b]0;title\x07")
    _, printed = reported(tmp_path, found(measured=[evil, *GOOD[1:]], references=References(ALL_KNOWN.texts, ("b\x1b[2J.wav",))))
    assert "\\x1b]0;title\\x07" in printed
    assert "b\\x1b[2J.wav" in printed
    assert "\x07" not in printed
