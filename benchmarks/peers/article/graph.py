"""The blog article's architecture of the graph, on this project's engines, under Ray Serve; README.md lists its properties."""

from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, UploadFile
from fastapi.responses import FileResponse
from numpy.typing import NDArray
from PIL import Image
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments.triton.server import triton_home
from graphs.audio.decode import decode

http = FastAPI()


def start_triton() -> Any:
    """Start a Triton server in the caller's process, without a model."""
    import tritonserver

    server = tritonserver.Server(
        model_repository=str(Path(__file__).with_name("repository")),
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        backend_directory=str(triton_home() / "backends"),
    )
    return server.start(wait_until_ready=True)


class Whisper:
    def __init__(self) -> None:
        self._triton = start_triton()
        self._model: Any = None

    def detect(self, recording: bytes) -> str:
        if self._model is None:
            self._model = self._triton.load("whisper")
        audio = decode(recording, 60)
        text = ""
        for response in self._model.infer(inputs={"AUDIO": audio}):
            text = response.outputs["TEXT"].to_bytes_array()[0].decode()
        return text


class Diffusion:
    def __init__(self) -> None:
        self._triton = start_triton()
        self._model: Any = None

    def generate(self, prompt: str) -> NDArray[np.uint8] | None:
        """Return pixels [height, width, 3], RGB."""
        if self._model is None:
            self._model = self._triton.load("diffusion")
        text = np.array([prompt.encode()], dtype=np.object_)
        pixels = None
        for response in self._model.infer(inputs={"PROMPT": text}):
            pixels = np.array(np.from_dlpack(response.outputs["IMAGE"]))
        return pixels


@serve.ingress(http)
class Ingress:
    def __init__(self, whisper: DeploymentHandle[Any], diffusion: DeploymentHandle[Any], folder: str) -> None:
        self._whisper = whisper
        self._diffusion = diffusion
        self._path = Path(folder) / "generated_image.jpg"

    @http.post("/graph")
    async def graph(self, file: UploadFile) -> FileResponse:
        prompt = await self._whisper.detect.remote(await file.read())
        pixels = await self._diffusion.generate.remote(prompt)
        Image.fromarray(pixels).save(self._path)
        return FileResponse(self._path)


def app(args: dict[str, str]) -> Application:
    """Bind the application; `args["folder"]` is the folder of its one image file."""
    whisper, diffusion = serve.deployment()(Whisper).bind(), serve.deployment()(Diffusion).bind()
    return serve.deployment()(Ingress).bind(whisper, diffusion, args["folder"])
