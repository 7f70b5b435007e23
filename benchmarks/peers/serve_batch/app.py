"""The graph in Ray Serve: an ingress, and a deployment with `@serve.batch` for each model."""

import os
from urllib.parse import quote

from fastapi import FastAPI, Response, UploadFile
from models import Diffusion, Whisper
from ray import serve
from ray.serve.handle import DeploymentHandle

http = FastAPI()
BOUND = int(os.environ["BOUND"])


@serve.deployment(num_replicas=2, max_ongoing_requests=1, max_queued_requests=BOUND, ray_actor_options={"num_cpus": 0.5})
class Transcriber:
    def __init__(self) -> None:
        self.model = Whisper()

    def transcribe(self, recording: bytes) -> str:
        return self.model.transcribe(recording)


@serve.deployment(max_ongoing_requests=16, max_queued_requests=BOUND)
class Painter:
    def __init__(self) -> None:
        self.model = Diffusion()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def draw(self, prompts: list[str]) -> list[bytes]:
        return self.model.draw(prompts)


@serve.deployment(max_ongoing_requests=BOUND // 2, max_queued_requests=BOUND // 2, ray_actor_options={"num_cpus": 0})
@serve.ingress(http)
class Ingress:
    def __init__(self, transcriber: DeploymentHandle, painter: DeploymentHandle) -> None:
        self.transcriber = transcriber.options(method_name="transcribe")
        self.painter = painter.options(method_name="draw")

    @http.get("/ready")
    async def ready(self) -> str:
        return "ready"

    @http.post("/graph")
    async def graph(self, file: UploadFile) -> Response:
        text = await self.transcriber.remote(await file.read())
        image = await self.painter.remote(text)
        return Response(image, media_type="image/png", headers={"X-Transcript": quote(text)})


app = Ingress.bind(Transcriber.bind(), Painter.bind())
