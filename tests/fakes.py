"""Stand-ins that tests hand in where a Triton server, a graph or Serve's controller would be."""

import asyncio
import os
from collections.abc import Mapping
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

from deployments.diffusion import Image
from deployments.time_left import TimeLeft
from deployments.triton import Tensors
from deployments.whisper import Segment, Transcript
from graphs.http.answers import Drawing
from graphs.http.parameters import DrawParameters

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

    async def check(self) -> None:
        if self.script and isinstance(self.script[0], Exception):
            raise self.script[0]

    async def close(self) -> None:
        self.closed += 1


def texts(*items: str) -> NDArray[Any]:
    """A BYTES tensor."""
    return np.array([item.encode() for item in items], dtype=np.object_)


def drawing(text: str = "a red apple", format: str = "png", seed: int = 7) -> Drawing:
    segment = Segment(0.0, 1.5, text, -0.25, 0.125)
    image = Image(PNG, 64, 64, prompt_truncated=False, encode_ms=2.0, model="tiny")
    timings_ms = {"decode": 1.04, "whisper": 20.0, "diffusion": 30.0, "encode": 2.0}
    return Drawing(Transcript(text, "en", (segment,), "tiny.en"), text, seed, image, timings_ms)


@dataclass
class FakeGraph:
    """Draws at once: answers with `result`, or raises it."""

    result: Drawing | Exception = field(default_factory=drawing)
    requests: list[tuple[bytes, DrawParameters, str, TimeLeft, str]] = field(default_factory=list)

    async def draw(
        self, recording: bytes, parameters: DrawParameters, format: str, time_left: TimeLeft, request_id: str
    ) -> Drawing:
        self.requests.append((recording, parameters, format, time_left, request_id))
        await asyncio.sleep(0)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def serve_status(**rooms: DeploymentStatusOverview) -> ServeStatus:
    """What Serve's controller knows of the application `sonograph`."""
    overview = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, rooms)
    return ServeStatus(applications={"sonograph": overview})


def room_status(status: str = "HEALTHY", message: str = "", **replicas: int) -> DeploymentStatusOverview:
    """`replicas`: how many there are in each state, one that runs where none is named."""
    # Declared as an enumeration's members, and plain strings when they arrive.
    return DeploymentStatusOverview(status, DeploymentStatusTrigger.UNSPECIFIED, replicas or {"RUNNING": 1}, message)
