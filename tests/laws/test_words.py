"""The words of the project: one word for each thing, and none that a reader would have to learn."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HISTORY = ("CHANGELOG.md", "docs/moves.md", "docs/decisions/")
"""Files that name what has gone."""
OF_ENGLISH = {
    "sonograph/new/names.py",  # names that are refused for this law
    "tests/sonograph/new/test_command.py",
    "training/small_stable_diffusion/templates.py",  # phrases that people say
    "tests/graphs/audio/test_vad.py",  # noise of real ones
    "tests/laws/test_words.py",
}
NOT_FIRST = re.compile(
    "Who|What|That|Those|They|It|Applies|Passes|(?:Add|Append|Await|Cancel|Compute|Copie|Count|Download|Drop|Emit|Encode|End|Find|Fixe|"
    "Grant|Hold|Join|Keep|Leave|Load|Log|Make|Move|Pick|Raise|Receive|Refuse|Remove|Rename|Replace|Reserve|Return|Run|Save|Select|"
    "Send|Serve|Set|Show|Start|Take|Transcribe|Turn|Unpack|Wait|Write)s"
)
"""A relative clause, a pronoun without its noun, a verb in the third person."""
ROOM = re.compile(r"(?<![A-Za-z])rooms?(?![a-z])|Rooms?(?=[A-Z_(\\W]|$)")


def texts() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = (
        ".py",
        ".md",
        ".js",
        ".html",
        ".css",
        ".yaml",
        ".toml",
        ".env",
        ".hcl",
        ".pbtxt",
        "requirements.txt",
        "Dockerfile",
        "Makefile",
    )
    return [name for name in listed if name.endswith(kinds) and not name.startswith(HISTORY) and (ROOT / name).is_file()]


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in texts()}))
def test_a_model_is_not_called_a_room(folder: str) -> None:
    found = [
        f"{name}: {line.strip()}"
        for name in texts()
        if name.split("/")[0] == folder and name not in OF_ENGLISH
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if ROOM.search(line)
    ]
    assert found == [], "say model, stage, deployment or replica"


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in texts() if name.endswith(".py")}))
def test_a_docstring_starts_with_a_noun_or_an_imperative_verb(folder: str) -> None:
    found = [
        f"{name}:{line}: {first} ..."
        for name in texts()
        if name.split("/")[0] == folder and name.endswith(".py")
        for line, first in first_words(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        if NOT_FIRST.fullmatch(first)
    ]
    assert found == [], "begin with what the thing is, or with a verb such as Return"


def first_words(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and first word of each docstring, those under constants and fields included."""
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:  # a lambda's is an expression
            match statement:
                case ast.Expr(ast.Constant(str(text))) if text.split():
                    yield statement.lineno, text.split()[0].strip("`,.:")
