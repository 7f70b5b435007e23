"""What the edge needs of a graph."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.diffusion import GenerateOptions, Image
from deployments.whisper import TranscribeOptions, Transcript
from graphs.core.context import Given
from graphs.http.access_log import Line
from graphs.http.parameters import DrawParameters
from graphs.http.responses import Drawing


class Graph(Protocol):
    async def listen(self, recording: bytes, given: Given) -> NDArray[np.int16]: ...

    async def transcribe(self, audio: NDArray[np.int16], options: TranscribeOptions, given: Given) -> Transcript: ...

    async def generate(self, prompt: str, options: GenerateOptions, previews: int, given: Given) -> Image: ...

    async def draw(self, audio: NDArray[np.int16], parameters: DrawParameters, format: str, given: Given) -> Drawing: ...

    def ended(self, line: Line) -> None: ...

    def retry_after_s(self, requests: int) -> float: ...
