"""The answers in the OpenAPI document, recorded from a running service (`python -m testing.examples`)."""

import json
from pathlib import Path
from typing import Any

ANSWERS: dict[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
"""By route, and by a problem's code after `problem` or `openai`; pictures are shortened."""
MARK = "the answer: "


def shown(name: str) -> dict[str, Any]:
    """A mark for a media type of an answer, which `fill` replaces."""
    return {"example": MARK + name} if name in ANSWERS else {}


def fill(document: Any) -> Any:
    """The document with the answers in it. They are put in last, since FastAPI drops every null."""
    if isinstance(document, dict):
        return {name: fill(value) for name, value in document.items()}
    if isinstance(document, list):
        return [fill(value) for value in document]
    return ANSWERS[document.removeprefix(MARK)] if isinstance(document, str) and document.startswith(MARK) else document
