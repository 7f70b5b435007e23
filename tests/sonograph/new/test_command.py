"""`sonograph new`: the names that it takes, what it writes, and that an error leaves nothing."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sonograph.cli import cli
from sonograph.new.command import ROLES
from testing.checkouts import checkout
from tests.laws.test_words import NOT_FIRST, first_words

pytestmark = pytest.mark.slow

PARTS = ("deployments", "graphs", "images/docker-bake.hcl", "testing/fakes.py", "pyproject.toml")
LONG = "z" * 30


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"), paths=PARTS)


@pytest.fixture
def unchanged(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test in a checkout in which it changes nothing."""
    monkeypatch.chdir(untouched)
    before = files(untouched)
    yield
    assert files(untouched) == before


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return checkout(tmp_path, paths=PARTS)


def new(*words: str) -> Result:
    return CliRunner().invoke(cli, ["new", *words], env={"COLUMNS": "80"})


def files(root: Path) -> dict[Path, str]:
    """Return the text of each file, and an empty one for each folder, by path."""
    paths = [path.relative_to(root) for path in root.rglob("*") if not path.is_symlink()]
    return {path: (root / path).read_text(errors="replace") if (root / path).is_file() else "" for path in paths}


def refusal(result: Result) -> str:
    """Return the one sentence of a command that has failed."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("sonograph new: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(
            (name, "is no name for a model")
            for name in ("Mirror", "my_model", "3d", "class", "", "über", "../mirror", f"{LONG}z")
        ),
        *((name, "a module of deployments/") for name in ("whisper", "triton", "errors")),
        *((name, "a module of graphs/") for name in ("core", "ingress", "rollouts")),
        *((name, "an extra of pyproject.toml") for name in ("s3", "dev")),
        *((name, "a target of images/docker-bake.hcl") for name in ("all", "wheel", "common")),
        *((name, "a part of the settings") for name in ("models", "json", "section")),
        *((name, "an attribute of every graph") for name in ("run", "path")),
        ("decode", "a stage of every graph"),
        ("memory", "a resource of Ray's"),
        (f"ro{'om'}", "a word that this project does without"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_model_is_refused_a_name_that_is_none_or_taken(name: str, reason: str) -> None:
    sentence = refusal(new("model", name))
    assert name in sentence
    assert reason in sentence


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(
            (name, "is no name for a graph")
            for name in ("words", "Voice_to_words", "voice_to_", "_to_words", "a__to_b", "a_to_b_")
        ),
        (f"a_to_{LONG}", "is no name for a graph"),
        ("voice_to_image", "a module of graphs/"),
        ("image_to_image", "a role"),
        ("room_to_words", "a word that this project does without"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_graph_is_refused_a_name_that_is_none_or_taken(name: str, reason: str) -> None:
    assert reason in refusal(new("graph", name))


@pytest.mark.parametrize("words", [("model", "mirror"), ("graph", "speech_to_words")])
def test_another_folder_than_a_checkout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path} is no checkout of Sonograph's repository" in refusal(new(*words))
    assert files(tmp_path) == {}


@pytest.mark.usefixtures("unchanged")
def test_a_role_without_templates_is_refused_and_help_names_the_others() -> None:
    result = new("model", "mirror", "--role", "text_to_speech")
    assert result.exit_code == 2
    assert "there is no text_to_speech here" in result.stderr
    helped = " ".join(new("model", "--help").stdout.replace("│", "").split())
    assert ROLES == ["image_to_image", "speech_to_text", "text_to_image"]
    assert ", ".join(ROLES) in helped


@pytest.mark.parametrize(
    ("words", "existing"),
    [
        (("model", "mirror"), "deployments/mirror/README.md"),
        (("model", "mirror"), "tests/deployments/mirror/test_engine.py"),
        (("model", "mirror"), "pyproject.toml.new"),
        (("graph", "speech_to_words"), "tests/graphs/test_speech_to_words.py"),
    ],
)
def test_nothing_is_overwritten_and_nothing_is_left(root: Path, words: tuple[str, str], existing: str) -> None:
    (root / existing).parent.mkdir(parents=True, exist_ok=True)
    (root / existing).write_text("mine")
    before = files(root)
    assert f"{existing} exists, and nothing is overwritten" in refusal(new(*words))
    assert files(root) == before


def test_where_a_file_cannot_be_written_nothing_is_left(root: Path) -> None:
    (root / "tests").write_text("a file in the place of the folder")
    before = files(root)
    assert "cannot be written: Not a directory" in refusal(new("model", "mirror"))
    assert files(root) == before


def test_a_second_time_the_name_is_taken(root: Path) -> None:
    for words in (("model", "mirror"), ("graph", "speech_to_words")):
        assert new(*words).exit_code == 0
        before = files(root)
        assert f"{words[1]} is taken" in refusal(new(*words))
        assert files(root) == before


def test_the_files_and_the_next_steps_are_printed_in_two_columns(root: Path) -> None:
    before = files(root)
    printed = new("model", "mirror").stdout.splitlines()
    written, steps = printed[1 : printed.index("Next:")], printed[printed.index("Next:") + 1 :]
    after = files(root)
    changed = {path for path, text in after.items() if before.get(path) != text and (root / path).is_file()}
    assert {Path(line.split()[0]) for line in written} == changed
    column = steps[0].index("replace what")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in (*steps, written[-1]))


@pytest.mark.parametrize(
    ("role", "name"), [*((role, LONG) for role in ROLES), *zip(ROLES, ("a", "model2", "shows"), strict=True)]
)
def test_a_model_of_any_name_is_written_as_the_code_is(root: Path, role: str, name: str) -> None:
    assert new("model", name, "--role", role).exit_code == 0
    is_written_as_the_code_is(root, f"deployments/{name}", f"tests/deployments/{name}")
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert extras[name] == {"file": [f"deployments/{name}/requirements.txt"]}
    assert "REPLACE" in (root / "deployments" / name / "engine.py").read_text()


@pytest.mark.parametrize("name", ["a_to_b", "speech_to_words", "voices_to_many_2_words_of_them"])
def test_a_graph_of_any_name_is_written_as_the_code_is(root: Path, name: str) -> None:
    assert new("graph", name).exit_code == 0
    is_written_as_the_code_is(root, f"graphs/{name}.py", f"tests/graphs/test_{name}.py")


def is_written_as_the_code_is(root: Path, *paths: str) -> None:
    for command in (["check"], ["format", "--check"]):
        ruff = subprocess.run([sys.executable, "-m", "ruff", *command, *paths], cwd=root, capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout
    for path in (file for one in paths for file in ([root / one] if one.endswith(".py") else (root / one).rglob("*.py"))):
        assert "$" not in path.read_text()
        assert not [word for _, word in first_words(ast.parse(path.read_text())) if NOT_FIRST.fullmatch(word)]
