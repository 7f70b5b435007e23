"""What is told of a request while it is worked on, and how POST /graph says it in a stream."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from deployments.diffusion import Step
from deployments.errors import DeploymentError
from deployments.whisper import Segment, Transcript
from graphs.http import problems
from graphs.http.responses import Drawing, picture


@dataclass(frozen=True)
class Queued:
    stage: str
    position: int
    """In the ingress's queue, 1 for the next."""


@dataclass(frozen=True)
class Retry:
    """The stage begins again: what it has told so far is void."""

    stage: str


Event = Queued | Segment | Transcript | Step | Retry
Tell = Callable[[Event], None]
TYPES = (
    "accepted",
    "queued",
    "transcript.delta",
    "transcript",
    "image.step",
    "image.preview",
    "image",
    "retry",
    "done",
    "error",
)
"""All that a stream can carry."""


class DrawingEvents:
    """The stream of one drawing."""

    def __init__(self, deadline_ms: float, format: str, request_id: str) -> None:
        self._deadline_ms = deadline_ms
        self._format = format
        self._request_id = request_id
        self._sequence = 0

    def begun(self) -> Iterator[str]:
        yield self._wire("accepted", {"deadline_ms": round(self._deadline_ms)})

    def told(self, event: Event) -> Iterator[str]:
        for type, data in _data(event):
            yield self._wire(type, data)

    def done(self, drawing: Drawing) -> Iterator[str]:
        yield self._wire("image", picture(drawing, self._format))
        yield self._wire("done", {"timings_ms": {stage: round(ms, 1) for stage, ms in drawing.timings_ms.items()}})

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield self._wire("error", {"problem": problems.content(error, self._request_id)})

    def _wire(self, type: str, data: dict[str, Any]) -> str:
        told = {"type": type, "request_id": self._request_id, "sequence": self._sequence} | data
        self._sequence += 1
        return sse(type, told, self._sequence - 1)


def sse(type: str, data: dict[str, Any], id: int | None = None) -> str:
    """One event, as it is sent."""
    said = "" if id is None else f"id: {id}\n"
    return f"event: {type}\n{said}data: {json.dumps(data, separators=(',', ':'))}\n\n"


def _data(event: Event) -> list[tuple[str, dict[str, Any]]]:
    """The event's types and data, in their order: a step with a preview is two events."""
    match event:
        case Queued():
            return [("queued", asdict(event))]
        case Retry():
            return [("retry", asdict(event))]
        case Segment():
            return [("transcript.delta", {"text": event.text, "start": event.start, "end": event.end})] if event.text else []
        case Transcript():
            segments = [asdict(segment) for segment in event.segments]
            return [("transcript", {"text": event.text, "language": event.language, "segments": segments})]
        case Step():
            said: list[tuple[str, dict[str, Any]]] = [
                ("image.step", {"step": event.done, "steps": event.of, "eta_ms": round(event.eta_ms)})
            ]
            if event.preview is not None:
                content = base64.b64encode(event.preview.encoded).decode("ascii")
                size = {"width": event.preview.width, "height": event.preview.height}
                said.append(("image.preview", {"step": event.done, "media_type": "image/jpeg", "base64": content, **size}))
            return said
