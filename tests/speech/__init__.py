"""Spoken sentences by two of flite's voices, and what they say in sentences.json.

    python -m tests.speech

makes them anew; it needs flite (on Debian and Ubuntu: apt install flite).
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
VOICES = ("slt", "rms")
"""CMU ARCTIC's: a woman's and a man's, US English."""


def sentences() -> dict[Path, str]:
    """What each recording says."""
    said: dict[str, str] = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    return {HERE / name: text for name, text in said.items()}
