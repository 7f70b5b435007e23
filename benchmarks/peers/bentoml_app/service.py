"""The graph in BentoML: a service for each model, with adaptive batching, and one that calls both."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import bentoml
from bentoml.validators import ContentType
from models import Diffusion, Whisper

BOUND = int(os.environ["BOUND"])


# By default a caller closes its connections after 100 requests, those in use too.
CONNECTION = {"max_requests": 1_000_000, "max_age": 86_400.0}


@bentoml.service(workers=2, traffic={"timeout": 60}, runner_connection=CONNECTION)
class Transcriber:
    def __init__(self) -> None:
        self.model = Whisper()

    @bentoml.api
    def transcribe(self, recording: bytes) -> str:
        return self.model.transcribe(recording)


@bentoml.service(workers=1, traffic={"timeout": 60}, runner_connection=CONNECTION)
class Painter:
    def __init__(self) -> None:
        self.model = Diffusion()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def draw(self, prompts: list[str]) -> list[bytes]:
        return self.model.draw(prompts)


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": BOUND})
class Graph:
    transcriber = bentoml.depends(Transcriber)
    painter = bentoml.depends(Painter)

    @bentoml.api(route="/graph")
    async def graph(self, file: Path, context: bentoml.Context) -> Annotated[bytes, ContentType("image/png")]:
        text = await self.transcriber.to_async.transcribe(recording=file.read_bytes())  # noqa: ASYNC240 (some 100 KB)
        image = await self.painter.to_async.draw(prompts=[text])
        context.response.headers["X-Transcript"] = quote(text)
        return image[0]
