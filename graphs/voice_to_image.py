"""The graph: a recording is transcribed, and what was said is drawn."""

import asyncio
import time
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments import diffusion, whisper
from deployments.time_left import TimeLeft
from graphs import stages
from graphs.http import edge
from graphs.http.answers import Drawing
from graphs.http.audio import decode
from graphs.http.parameters import DrawParameters
from graphs.http.rooms import Rooms
from graphs.http.speech import require_speech
from graphs.settings import VoiceToImageSettings


class VoiceToImage:
    """The ingress: it holds no model. Serve's HTTP proxy calls the app that `__serve_build_asgi_app__` returns."""

    def __init__(self, settings: VoiceToImageSettings, whisper: DeploymentHandle[Any], diffusion: DeploymentHandle[Any]) -> None:
        self._settings = settings
        self._whisper = whisper
        self._diffusion = diffusion

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._rooms = Rooms(serve.get_replica_context().app_name, ("whisper", "diffusion"))
        return edge.build(self, self._rooms, self._settings.http, self._settings.diffusion.max_side_px)

    async def draw(
        self, recording: bytes, parameters: DrawParameters, format: str, time_left: TimeLeft, request_id: str
    ) -> Drawing:
        """`recording`: compressed bytes, as they came. Raises a DeploymentError that names its stage."""
        started_s = time.perf_counter()
        listening = asyncio.to_thread(listen, recording, self._settings.http.max_audio_s)
        audio = await stages.run("decode", listening, time_left)
        decoded_s = time.perf_counter()

        self._rooms.require("whisper")
        transcribing = self._whisper.transcribe.remote(audio, parameters.transcribe_options(), time_left, request_id)
        transcript = await stages.run("whisper", transcribing, time_left)
        transcribed_s = time.perf_counter()

        self._rooms.require("diffusion")
        prompt = f"{parameters.prompt_prefix} {transcript.text}".strip()
        options = parameters.generate_options(format)
        image = await stages.run("diffusion", self._diffusion.generate.remote(prompt, options, time_left, request_id), time_left)
        timings_ms = {
            "decode": (decoded_s - started_s) * 1000,
            "whisper": (transcribed_s - decoded_s) * 1000,
            "diffusion": (time.perf_counter() - transcribed_s) * 1000 - image.encode_ms,
            "encode": image.encode_ms,
        }
        return Drawing(transcript, prompt, options.seed, image, timings_ms)


def listen(recording: bytes, max_audio_s: float) -> NDArray[np.int16]:
    """int16 [samples], mono 16 kHz, with speech in it."""
    audio = decode(recording, max_audio_s)
    require_speech(audio)
    return audio


def app(settings: VoiceToImageSettings) -> Application:
    """`serve run graphs.voice_to_image:app`; the settings are the application's `args`."""
    ingress = serve.deployment(
        name="ingress",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=64,
        health_check_period_s=4,
        graceful_shutdown_timeout_s=60,
    )(serve.ingress()(VoiceToImage))
    return ingress.bind(settings, whisper.bind(settings.whisper), diffusion.bind(settings.diffusion))
