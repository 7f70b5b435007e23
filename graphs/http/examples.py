"""What the OpenAPI document shows as answers: a running service gave them all (`python -m tests.examples`)."""

import json
from pathlib import Path
from typing import Any

ANSWERS: dict[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
"""By route, and by a problem's code after `problem` or `openai`; media that is not text is cut."""


def shown(name: str) -> dict[str, Any]:
    """For a media type of an answer."""
    return {"example": ANSWERS[name]} if name in ANSWERS else {}
