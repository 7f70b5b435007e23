"""The graph in LitServe: one API with both models, as its guide to several models in one API has it."""

import os
from urllib.parse import quote

from fastapi import Request, Response
from litserve import LitAPI, LitServer
from models import Diffusion, Whisper

BOUND = int(os.environ["BOUND"])


class Graph(LitAPI):
    def setup(self, device: str) -> None:
        self.whisper = Whisper()
        self.diffusion = Diffusion()

    def decode_request(self, request: Request) -> bytes:  # LitServe gives the form of such a request
        return request["file"].file.read()

    def predict(self, recordings: list[bytes]) -> list[tuple[str, bytes]]:
        texts = [self.whisper.transcribe(recording) for recording in recordings]
        return list(zip(texts, self.diffusion.draw(texts), strict=True))

    def encode_response(self, output: tuple[str, bytes]) -> Response:
        text, image = output
        return Response(image, media_type="image/png", headers={"X-Transcript": quote(text)})


if __name__ == "__main__":
    graph = Graph(max_batch_size=8, batch_timeout=0.01, api_path="/graph")
    server = LitServer(graph, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]), timeout=60)
    server.run(
        generate_client_file=False, host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, limit_concurrency=BOUND + 1
    )
