"""The graph in FastAPI: endpoints that are plain functions run in Starlette's thread pool."""

from threading import Lock
from urllib.parse import quote

from fastapi import FastAPI, Response, UploadFile
from models import Diffusion, Whisper

app = FastAPI()
whisper = Whisper()
diffusion = Diffusion()
drawing = Lock()  # a pipeline's scheduler has the state of one call


@app.get("/ready")
def ready() -> str:
    return "ready"


@app.post("/graph")
def graph(file: UploadFile) -> Response:
    text = whisper.transcribe(file.file.read())
    with drawing:
        [image] = diffusion.draw([text])
    return Response(image, media_type="image/png", headers={"X-Transcript": quote(text)})
