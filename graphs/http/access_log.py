"""One JSON line for each request, in the ingress replica's log (`ray.serve`)."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from starlette.requests import ClientDisconnect

from deployments.errors import DeploymentError

log = logging.getLogger("ray.serve")
CLIENT_LEFT = 499
"""What Serve's access log calls a request whose client left before the answer."""


@dataclass
class Line:
    """What the line will say. Routes and graphs fill it in as they learn it; what nobody learnt is null."""

    request_id: str
    route: str = "/graph"
    key: str | None = None
    """The name of the API key that it came with."""
    status: int = 200
    """Also of an error that was sent as an event, after the stream's own 200."""
    code: str | None = None
    stage: str | None = None
    """Where it failed."""
    cancelled: bool = False
    """The client left."""
    retried: list[str] = field(default_factory=list)
    """The stages that were tried again."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """By stage."""
    audio_s: float | None = None
    steps: int | None = None
    """Denoising steps that ran, of all its pictures."""
    seed: int | None = None
    transcript: str | None = None
    """Is left out of the line unless `http.log_transcripts` is true."""

    def took(self, **timings_ms: float) -> None:
        """Adds to the stages' times."""
        for stage, ms in timings_ms.items():
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + ms

    def failed(self, error: Exception) -> None:
        """A stream that ends with an error event calls it; what is raised comes here by itself."""
        known = error if isinstance(error, DeploymentError) else DeploymentError()
        self.status, self.code, self.stage = known.status, known.code, known.stage

    def left(self) -> None:
        self.status, self.cancelled = CLIENT_LEFT, True


@contextlib.contextmanager
def line(
    request_id: str, transcripts: bool, ended: Callable[[Line], None] = lambda line: None, route: str = "/graph"
) -> Iterator[Line]:
    """Around all of a request's work, a stream's too. Writes the line at its end, however it ends; `transcripts`: with the words.

    `ended` is given the line then.
    """
    started_s = time.perf_counter()
    said = Line(request_id, route)
    try:
        yield said
    except (asyncio.CancelledError, GeneratorExit, ClientDisconnect):
        said.left()
        raise
    except Exception as error:
        said.failed(error)
        raise
    finally:
        ended(said)
        _write(said, (time.perf_counter() - started_s) * 1000, transcripts)


def _write(said: Line, took_ms: float, transcripts: bool) -> None:
    """ASCII with escapes: nothing that a client sent can end the line, or steer a terminal."""
    content = {"event": "request", **asdict(said), "took_ms": round(took_ms, 1)}
    content["timings_ms"] = {stage: round(ms, 1) for stage, ms in said.timings_ms.items()}
    if not transcripts:
        del content["transcript"]
    log.info(json.dumps(content, ensure_ascii=True, default=str))
