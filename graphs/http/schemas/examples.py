"""What the OpenAPI document shows as answers: a running service gave them all (`python -m testing.examples`)."""

import json
from pathlib import Path
from typing import Any

ANSWERS: dict[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
"""By route, and by a problem's code after `problem` or `openai`; pictures are cut."""
MARK = "the answer: "


def shown(name: str) -> dict[str, Any]:
    """For a media type of an answer: a mark, which `fill` replaces."""
    return {"example": MARK + name} if name in ANSWERS else {}


def fill(document: Any) -> Any:
    """The document with the answers in it. Only now, since FastAPI drops every null on its way there."""
    if isinstance(document, dict):
        return {name: fill(value) for name, value in document.items()}
    if isinstance(document, list):
        return [fill(value) for value in document]
    return ANSWERS[document.removeprefix(MARK)] if isinstance(document, str) and document.startswith(MARK) else document
