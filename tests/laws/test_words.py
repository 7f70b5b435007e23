"""The words of the project: one word for each thing, and none that a reader would have to learn."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HISTORY = ("CHANGELOG.md", "docs/moves.md", "docs/decisions/")
"""They name what has gone."""
OF_ENGLISH = {
    "training/small_stable_diffusion/templates.py",  # phrases that people say
    "tests/graphs/audio/test_vad.py",  # noise of real ones
    "tests/laws/test_words.py",
}
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
