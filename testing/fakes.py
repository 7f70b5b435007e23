"""Stand-ins that tests hand in where a Triton server, a graph or Serve's controller would be."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ServeStatus,
)

from deployments.compute_time import ComputeTime
from deployments.diffusion import GenerateOptions, Image
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from deployments.whisper import Segment, TranscribeOptions, Transcript
from graphs.core.context import Given
from graphs.core.model_info import Served
from graphs.http.access_log import Line
from graphs.http.events import Event
from graphs.http.parameters import DrawParameters
from graphs.http.responses import Drawing

CHARACTERS = "".join(map(chr, range(0x180))) + "語ひ🦊\u0301\u200d\u202e\u2028\ufeff١\U0010ffff"
"""Every Latin letter and control, and others that mean trouble. Hypothesis takes seconds to tabulate all of Unicode."""
PNG = b"\x89PNG\r\n\x1a\nnot really"


class Trap:
    """Unpickling it makes a folder: code that a file of weights should not run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


class FakeTriton:
    """Answers each inference with what `script` holds next: tensors, or an error to raise. The last is kept for good."""

    def __init__(self, *script: Tensors | Exception) -> None:
        self.script = list(script)
        self.inputs: list[Mapping[str, NDArray[Any]]] = []
        self.request_ids: list[str] = []
        self.times_left: list[TimeLeft] = []
        self.closed = 0

    async def infer(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> Tensors:
        self.inputs.append(inputs)
        self.times_left.append(time_left)
        self.request_ids.append(request_id)
        result = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def stream(
        self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = ""
    ) -> AsyncGenerator[Tensors]:
        """All of the script, one after the other."""
        while len(self.script) > 1:
            yield await self.infer(inputs, time_left, request_id)
        yield await self.infer(inputs, time_left, request_id)

    async def check(self) -> None:
        if self.script and isinstance(self.script[0], Exception):
            raise self.script[0]

    def metrics(self) -> str:
        return ""

    async def close(self) -> None:
        self.closed += 1


def texts(*items: str) -> NDArray[Any]:
    """A BYTES tensor."""
    return np.array([item.encode() for item in items], dtype=np.object_)


def drawing(text: str = "a red apple", format: str = "png", seed: int = 7) -> Drawing:
    segment = Segment(0.0, 1.5, text, -0.25, 0.125)
    image = Image(PNG, 64, 64, prompt_truncated=False, encode_ms=2.0, model="tiny", cost=ComputeTime(0.01, 0.002, 12))
    timings_ms = {"decode": 1.04, "whisper": 20.0, "diffusion": 30.0, "encode": 2.0}
    return Drawing(Transcript(text, "en", (segment,), "tiny.en", ComputeTime(0.0, 0.02, 1)), text, seed, image, timings_ms)


@dataclass
class FakeGraph:
    """Hears everything and draws at once: tells `events`, and answers with `result` or raises it."""

    result: Drawing | Exception = field(default_factory=drawing)
    events: tuple[Event, ...] = ()
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    unheard: Exception | None = None
    lines: list[Line] = field(default_factory=list)
    _recordings: list[bytes] = field(default_factory=list)

    async def listen(self, recording: bytes, given: Given) -> NDArray[np.int16]:
        if self.unheard is not None:
            raise self.unheard
        self._recordings.append(recording)
        given.line.audio_s = 1.0
        return np.zeros(16_000, np.int16)

    async def transcribe(self, audio: NDArray[np.int16], options: TranscribeOptions, given: Given) -> Transcript:
        return (await self._answer((self._recordings.pop(), options, given), given)).transcript

    async def generate(self, prompt: str, options: GenerateOptions, previews: int, given: Given) -> Image:
        return (await self._answer((prompt, options, previews, given), given)).image

    async def draw(self, audio: NDArray[np.int16], parameters: DrawParameters, format: str, given: Given) -> Drawing:
        return await self._answer((self._recordings.pop(), parameters, format, given), given)

    async def _answer(self, request: tuple[Any, ...], given: Given) -> Drawing:
        self.requests.append(request)
        for event in self.events:
            if given.tell is not None:
                given.tell(event)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def ended(self, line: Line) -> None:
        self.lines.append(line)

    def retry_after_s(self, requests: int) -> float:
        return 2.0 * requests


SERVED = Served("tiny.en", "small-stable-diffusion", max_side_px=256)


def serve_status(**rooms: DeploymentStatusOverview) -> ServeStatus:
    """What Serve's controller knows of the application `sonograph`."""
    overview = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, rooms)
    return ServeStatus(applications={"sonograph": overview})


def room_status(status: str = "HEALTHY", message: str = "", **replicas: int) -> DeploymentStatusOverview:
    """`replicas`: how many there are in each state, one that runs where none is named."""
    # Declared as an enumeration's members, and plain strings when they arrive.
    return DeploymentStatusOverview(status, DeploymentStatusTrigger.UNSPECIFIED, replicas or {"RUNNING": 1}, message)
