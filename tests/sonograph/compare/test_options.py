"""Options of the command, read and refused, before anything is loaded."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sonograph.cli import cli
from sonograph.compare import options
from testing.service import ROOT


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (options.listed, "tiny.en, base,", ["tiny.en", "base"]),
        (options.memory, "2GiB", 2 << 30),
        (options.memory, "2G", 2_000_000_000),
        (options.memory, "1.5 gb", 1_500_000_000),
        (options.memory, "800Mi", 800 << 20),
        (options.duration, "15m", 900.0),
        (options.duration, "0.5", 0.5),
    ],
)
def test_a_value_is_read(parser: Callable[[str], Any], text: str, value: Any) -> None:
    assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "text", "error"),
    [
        (options.listed, " ,", "names nothing"),
        (options.memory, "2 parsecs", "is no size: write 2GiB"),
        (options.memory, "2", "less than 1 MiB"),
        (options.duration, "0s", "not between 0 and 7 days"),
        (options.duration, "8d", "not between 0 and 7 days"),
        (options.duration, "soon", "is no time"),
    ],
)
def test_a_wrong_value_is_refused_with_a_right_one(parser: Callable[[str], Any], text: str, error: str) -> None:
    with pytest.raises(typer.BadParameter, match=error):
        parser(text)


def test_settings_of_a_file_and_of_options_are_both_used_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("padding: adaptive\nmax_batch: 2\n")
    assert options.further_settings(file, ["max_batch=4"]) == {"padding": "adaptive", "max_batch": 4}
    assert options.further_settings(None, []) == {}


@pytest.mark.parametrize(
    ("content", "error"), [("- a", "has to be a mapping"), ("a: [", "cannot be read as YAML"), ("model: base", "--models")]
)
def test_a_wrong_file_of_settings_is_refused(tmp_path: Path, content: str, error: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(typer.BadParameter, match=error):
        options.further_settings(file, [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "a.wav").write_text("a")
    (tmp_path / "texts.txt").write_text("a red apple\n")
    (tmp_path / "texts.tsv").write_text("no tab\n")
    (tmp_path / "mine.yaml").write_text("namespace: n\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--models base", "give recordings, or --prompts"),
        ("calls --prompts texts.txt --models base", "give recordings, or --prompts"),
        ("calls", "Missing option '--models'"),
        ("calls --models ,", "names nothing"),
        ("calls --models base --engines whisperx", "Input should be 'openai-whisper' or 'faster-whisper'"),
        ("calls --models base --set pading=adaptive", "did you mean padding?"),
        (
            "calls --models base --set padding=never",
            "base, openai-whisper: whisper.padding: Input should be 'adaptive' or 'always'",
        ),
        ("calls --models base --reference texts.tsv", "line 1 of texts.tsv is no name and text"),
        ("calls --models base --reference none.tsv", "none.tsv cannot be read: No such file"),
        ("calls --models base --write mine.yaml", "mine.yaml exists, and was not written by this command"),
        ("calls --models base --memory much", "much is no size"),
        ("calls --models base --cpus 0", "Invalid value for '--cpus'"),
        (
            "typo.wav --models base",
            "there is nothing to compare models over (typo.wav: it cannot be read: No such file or directory)",
        ),
        ("--prompts none.txt --models small-stable-diffusion", "none.txt cannot be read"),
        ("--prompts texts.txt --models x --write values.yaml", "are for recordings"),
        ("--prompts texts.txt --models x --set padding=adaptive", "diffusion.padding: there is no such key"),
    ],
)
def test_a_wrong_command_is_refused_with_the_reason_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, error: str
) -> None:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(cli, ["compare", *arguments.split()], env={"COLUMNS": "300"}, terminal_width=300)
    assert result.exit_code == 2
    assert error in " ".join(result.output.replace("│", " ").split())
    assert sorted(path.name for path in folder.iterdir()) == ["calls", "mine.yaml", "texts.tsv", "texts.txt"]


def test_the_help_names_every_option() -> None:
    result = CliRunner().invoke(cli, ["compare", "--help"], terminal_width=120)
    assert result.exit_code == 0
    for option in (
        "--models",
        "--engines",
        "--reference",
        "--prompts",
        "--set",
        "--out",
        "--write",
        "--within",
        "--address",
        "--cpus",
    ):
        assert option in result.output


def test_the_command_itself_loads_no_models_library() -> None:
    program = (
        "import sys; import sonograph.compare.session, sonograph.compare.works, sonograph.compare.page; "
        "from sonograph.compare.scores import normalized; normalized([('one', 'en')]); "
        "print({'torch', 'whisper', 'diffusers', 'ctranslate2', 'av', 'ray'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_the_command_line_starts_without_what_only_a_comparison_needs() -> None:
    program = "import sys; import sonograph.cli; print({'ray', 'numpy', 'jiwer', 'plotly', 'pydantic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
