"""`python -m benchmarks.gpu` with tiny models on the CPU: each row, the record, and what a run that was cut off goes on with."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
import whisper
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from rich.console import Console
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.gpu import images, measuring, models, table, transcription
from benchmarks.gpu.options import Options
from benchmarks.gpu.report import Report
from benchmarks.gpu.run import run
from testing.service import ROOT

pytestmark = pytest.mark.torch

PARTS = ["whisper", "turbo", "sd15", "sd-turbo", "sdxl"]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The results of a whole run with tiny models, and what it printed."""
    folder = tmp_path_factory.mktemp("gpu")
    result = command("--tiny", "--out", str(folder))
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout


def test_each_row_is_measured_and_each_check_holds(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    parts = json.loads((folder / "tiny.json").read_text())["parts"]
    assert list(parts) == PARTS
    for part, rows in parts.items():
        assert not [name for name, row in rows.items() if {"error", "not run"} & row.keys()], (part, rows)
        checks = [row["holds"] for row in rows.values() if "holds" in row]
        assert checks == [True, True]
    for part in PARTS[:2]:
        row = parts[part]["a transcript in a batch against alone"]
        assert row["tokens"] == [12], "no transcript ends before its bound"
        assert row["distinct"] > 1
    for part in PARTS[2:]:
        row = parts[part]["an image in a batch against alone"]
        assert row["batch"] < row["tolerance"] < row["another image"]
        assert ("joined at step 2" in row) == (part != "sd-turbo")
        memory = parts[part]["memory"]
        assert set(memory["peak bytes"]) == set(memory["estimate"])
    assert "not run" in printed, "the table says which figures a tiny run has not"
    assert len(list(folder.iterdir())) == 2
    with Image.open(folder / "tiny.png") as picture:
        assert picture.width > 5 * 600


def test_a_run_goes_on_where_it_ended(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    document = json.loads((folder / "tiny.json").read_text())
    del document["parts"]["sd-turbo"]["memory"]
    document["parts"]["sd-turbo"]["compiled"] = {"error": "RuntimeError: as if"}
    document["parts"]["sd-turbo"]["batch 1"]["mark"] = "kept"
    (tmp_path / "tiny.json").write_text(json.dumps(document))
    assert run(["sd-turbo"], True, tmp_path, 100.0) == []
    rows = json.loads((tmp_path / "tiny.json").read_text())["parts"]["sd-turbo"]
    assert "peak bytes" in rows["memory"]
    assert "error" not in rows["compiled"]
    assert rows["batch 1"]["mark"] == "kept"


def test_what_does_not_fit_the_time_is_left_and_said(tmp_path: Path) -> None:
    assert run(["sd-turbo"], True, tmp_path, 0.0) == []
    rows = json.loads((tmp_path / "tiny.json").read_text())["parts"]["sd-turbo"]
    assert {tuple(row) for row in rows.values()} == {("not run",)}


def test_other_code_or_another_card_starts_anew(tmp_path: Path) -> None:
    path, console = tmp_path / "card.json", Console(file=(tmp_path / "printed").open("w"))
    first = Report(path, {"card": "A", "code_sha256": "1"}, {}, console)
    first.part("sd15", 10).row("batch 1", lambda: {"images a second": 1.0})
    assert Report(path, {"card": "A", "code_sha256": "1"}, {}, console).parts["sd15"]["batch 1"]["images a second"] == 1.0
    for other in ({"card": "B", "code_sha256": "1"}, {"card": "A", "code_sha256": "2"}):
        assert Report(path, other, {}, console).parts == {}


def test_an_error_ends_its_own_row_and_the_run_says_so(tmp_path: Path) -> None:
    console = Console(file=(tmp_path / "printed").open("w"))
    report = Report(tmp_path / "card.json", {}, {}, console)
    part = report.part("sd15", 10)

    def fail() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    part.row("batch 16", fail)
    part.row("precision", lambda: {"holds": False})
    part.row("memory", lambda: {"peak bytes": {}})
    assert part.rows["batch 16"]["error"] == "OutOfMemoryError: CUDA out of memory"
    assert report.failed == ["sd15: batch 16", "sd15: precision"]


def test_without_a_gpu_it_says_what_to_do() -> None:
    result = command("--only", "sd15")
    assert (result.returncode, result.stdout) == (1, "")
    assert "torch sees no GPU here: run this on one, or add --tiny" in result.stderr
    result = command("--only", "sd15,sd3")
    assert result.returncode == 2
    assert "--only names sd3; the parts are whisper, turbo, sd15, sd-turbo, sdxl" in result.stderr


PARAMETERS = {
    "sd15": (859_520_964, 83_653_863, 123_060_480, 0),
    "sd-turbo": (865_910_724, 83_653_863, 340_387_840, 0),
    "sdxl": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
}
"""UNet, VAE and text encoders of the published checkpoints."""


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_pipelines_have_the_published_sizes(name: str) -> None:
    shape = models.SHAPES[name]
    with torch.device("meta"):
        found = (
            count(UNet2DConditionModel(**shape.unet)),
            count(AutoencoderKL(**shape.vae)),
            count(CLIPTextModel(CLIPTextConfig(**shape.text, vocab_size=49408))),
            count(CLIPTextModelWithProjection(CLIPTextConfig(**shape.text_2, vocab_size=49408))) if shape.text_2 else 0,
        )
    assert found == PARAMETERS[name]


@pytest.mark.parametrize(("name", "parameters"), [("large-v3", 1_543_490_560), ("turbo", 808_878_080)])
def test_the_whispers_have_the_published_sizes(name: str, parameters: int) -> None:
    dims = models.WHISPER[name]
    with torch.device("meta"), patch.object(torch.Tensor, "to_sparse", lambda tensor: tensor):
        model = whisper.Whisper(dims)
    assert count(model) + dims.n_audio_ctx * dims.n_audio_state == parameters, "the encoder's positions are stored too"


def test_the_same_seed_gives_the_same_weights_and_another_model_others() -> None:
    one, two = (models.random_whisper(models.TINY_WHISPER, "cpu") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in one.parameters())


def test_a_check_can_fail() -> None:
    """A batch whose rows influence each other, and a precision that is none."""
    options = Options.of(tiny=True)
    one = images.Images(models.tiny(models.SHAPES["sd15"]), options, torch.float32)
    predict = one.engine.predict
    with patch.object(one.engine, "predict", lambda states: [sum(predict(states)) / len(states)] * len(states)):
        assert not images.together(one, 0.01)["holds"]
    assert images.together(one, 0.01)["holds"]
    transcriber = transcription.Transcriber(models.TINY_WHISPER, options, torch.float32)
    pick = transcriber.backend._filters.pick

    def mixed(logits: torch.Tensor, *arguments: Any) -> Any:
        return pick(logits.mean(dim=0, keepdim=True).expand_as(logits).clone(), *arguments)

    with patch.object(transcriber.backend._filters, "pick", mixed):
        assert not transcription.together(transcriber, options, 0.001)["holds"]


def test_the_busy_time_is_the_union_of_the_kernels() -> None:
    assert measuring.covered([(0, 2), (1, 3), (5, 6), (5.5, 5.6)]) == 4
    assert measuring.covered([]) == 0


def test_an_error_is_a_share_of_the_reference_and_never_nan() -> None:
    reference = torch.tensor([3.0, 4.0])
    assert measuring.error(reference * 1.1, reference) == pytest.approx(0.1)
    assert measuring.error(torch.tensor([3.0, float("nan")]), reference) == float("inf")


def test_the_profiler_and_torchs_reports_of_waits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU with the same calls: no kernel, and no wait."""
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(measuring, "profile", lambda activities: Profiler())

    def work() -> None:
        import warnings

        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    assert measuring.waits(work, "cuda") == {f"tests/benchmarks/test_gpu.py:{work.__code__.co_firstlineno + 3}": 1}
    assert modes == ["warn", "default"]
    found = measuring.busy(lambda: None, "cuda")
    assert found is not None
    assert found["kernels"] == 2


class Profiler:
    """A profile of two kernels and an operator of the host."""

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None: ...

    def events(self) -> list[Any]:
        kind = {name: SimpleNamespace(name=name) for name in ("CUDA", "CPU")}
        spans = [("CUDA", 0, 2), ("CUDA", 3, 4), ("CPU", 0, 100)]
        return [SimpleNamespace(device_type=kind[name], time_range=SimpleNamespace(start=a, end=b)) for name, a, b in spans]


def test_the_document_has_the_tables_of_the_results() -> None:
    document = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert table.tables(ROOT / "benchmarks" / "results" / "gpu") in document


def test_a_table_says_what_was_not_run(finished: tuple[Path, str]) -> None:
    empty = table.table(None, {}).splitlines()
    assert empty[0] == "| | goal | no card yet |"
    assert all(line.endswith("| not run |") for line in empty[2:])
    parts = json.loads((finished[0] / "tiny.json").read_text())["parts"]
    parts["sd15"]["precision"]["holds"] = False
    lines = table.table({"card": "A card"}, parts).splitlines()
    assert lines[0] == "| | goal | A card |"
    assert "| SD 1.5, 512 px, 20 steps: correctness | hold | fails: precision |" in lines
