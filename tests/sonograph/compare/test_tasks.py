"""A task as a worker runs it, in this process."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sonograph.compare.tasks import Outcome, Task, run, sentence
from sonograph.compare.works import Checkpoint, Computed, Transcription, described
from testing import media, speech
from tests.sonograph.compare.fakes import WORDS, FakeWork, measured

BLANK = replace(measured(), text=None, mean_log_probability=None, length_s=None, node="", pid=0, cores=())


def task(folder: Path, model: str = "base", key: str | None = None, timeout_s: float = 60) -> Task:
    return Task(BLANK, FakeWork(model, folder), key or f"{folder} {model}", timeout_s)


def loads(folder: Path) -> int:
    return len(list(folder.glob("loaded-*")))


def test_an_outcome_has_the_text_and_where_when_and_by_what_it_was_made(tmp_path: Path) -> None:
    began_s = time.time()
    found = run(task(tmp_path), b"a", "node 1")
    one = found.measured
    assert (found.fault, one.error) == ("", None)
    assert (one.text, one.mean_log_probability, one.language, one.length_s) == (WORDS, -0.25, "en", 2.0)
    assert (one.node, one.pid) == ("node 1", os.getpid())
    assert began_s <= one.started_s <= one.ended_s <= time.time()
    assert one.peak_bytes > 1 << 20
    assert one.load_s > 0


def test_a_process_loads_a_model_once_and_another_one_in_its_place(tmp_path: Path) -> None:
    found = [run(task(tmp_path, model), b"a", "n").measured for model in ("base", "base", "tiny.en", "base")]
    assert [one.load_s > 0 for one in found] == [True, False, True, True]
    assert loads(tmp_path) == 3


@pytest.mark.parametrize(
    ("model", "content", "fault", "error"),
    [
        ("broken", b"a", "model", "the model does not load: its file is cut off"),
        ("base", b"unreadable", "input", "the recording has no audio track"),
        ("base", b"\xff", "task", "UnicodeDecodeError|utf-8"),
        ("base", b"wrong", "task", "language de needs a multilingual model"),
    ],
)
def test_a_failure_says_what_failed(tmp_path: Path, model: str, content: bytes, fault: str, error: str) -> None:
    found = run(task(tmp_path, model), content, "n")
    assert found.fault == fault
    assert found.measured.error is not None
    assert any(part in found.measured.error for part in error.split("|"))
    assert found.measured.text is None


def test_a_task_beyond_its_time_ends_and_the_next_one_loads_the_model_anew(tmp_path: Path) -> None:
    assert run(task(tmp_path), b"a", "n").fault == ""
    found = run(task(tmp_path, timeout_s=0.1), b"hang", "n")
    assert (found.fault, found.measured.error) == ("task", "it took longer than 0.1 s, its --timeout")
    assert 0 < found.measured.wall_s < 60
    assert run(task(tmp_path), b"a", "n").measured.load_s > 0


def test_the_bound_of_a_task_leaves_the_processs_own_alarm_as_it_was(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGALRM)
    timer = signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        run(task(tmp_path), b"a", "n")
        assert signal.getsignal(signal.SIGALRM) is handler
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("set it\nto 1"), "set it to 1"),
        (KeyError("a"), "KeyError: 'a'"),
        (MemoryError(), "MemoryError"),
        (OSError("x" * 1000), "OSError: " + "x" * 500),
    ],
)
def test_an_error_is_one_line_and_not_long(error: Exception, expected: str) -> None:
    assert sentence(error) == expected


def test_a_checkpoint_is_known_by_its_content_and_a_folders_by_all_files(tmp_path: Path) -> None:
    class At(FakeWork):
        def checkpoint(self) -> Path | None:
            return self.folder

    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "unet").mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        (folder / "unet" / "weights.safetensors").write_text("123")
    found = [described(At("base", folder), 1) for folder in (one, other)]
    assert found[0] == found[1]
    assert found[0].size_bytes == 5
    (other / "unet" / "weights.safetensors").write_text("124")
    assert described(At("base", other), 1).identity != found[0].identity


def test_a_missing_checkpoint_is_loaded_first_and_may_then_be_there(tmp_path: Path) -> None:
    class Downloaded(FakeWork):
        def load(self, threads: int) -> Any:
            (self.folder / "model.bin").write_text("12")

        def checkpoint(self) -> Path | None:
            place = self.folder / "model.bin"
            return place if place.exists() else None

    class Nowhere(Downloaded):
        def load(self, threads: int) -> Any:
            pass

    with pytest.raises(FileNotFoundError):
        described(Nowhere("base", tmp_path), 1)
    found: Checkpoint = described(Downloaded("base", tmp_path), 1)
    assert found.size_bytes == 2


class Heard(Transcription):
    """A model without weights, whose recordings are decoded as the real ones' are."""

    def load(self, threads: int) -> Any:
        return None

    def compute(self, engine: Any, given: Any) -> Computed:
        return Computed(str(given.size))


def heard(content: bytes, timeout_s: float = 60) -> Outcome:
    return run(Task(BLANK, Heard({}), "heard", timeout_s), content, "n")


def test_a_recording_is_decoded_with_the_services_bounds_and_refusals() -> None:
    found = heard((speech.HERE / "cat-slt.ogg").read_bytes()).measured
    assert (found.error, found.text, found.length_s) == (None, "40560", 2.535)
    for content, error in ((b"", "0 bytes"), (b"x" * 1000, "cannot be read as wav"), (media.wav(bytes(32000)), "is silent")):
        refused = heard(content)
        assert refused.fault == "input"
        assert error in str(refused.measured.error)


def test_a_decoder_that_hangs_is_ended_with_its_task_and_the_next_recording_is_read() -> None:
    content = (speech.HERE / "cat-slt.ogg").read_bytes()
    assert heard(content).measured.error is None
    (template,) = (one for one in psutil.Process().children() if "graphs.audio.worker" in one.cmdline())
    (worker,) = template.children()
    worker.suspend()
    assert heard(content, timeout_s=0.5).measured.error == "it took longer than 0.5 s, its --timeout"
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()
    assert heard(content).measured.error is None
