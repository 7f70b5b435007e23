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
from deployments.concurrency import requests_per_replica
from deployments.diffusion import GenerateOptions, Image
from deployments.paths import model_name, model_version
from deployments.whisper import TranscribeOptions, Transcript
from graphs.audio.decode import SAMPLE_RATE_HZ, decode
from graphs.audio.vad import require_speech
from graphs.core import stage
from graphs.core.context import Given
from graphs.core.latency import retry_after_s
from graphs.core.metrics import INGRESS, Figures
from graphs.core.model_info import Served
from graphs.core.readiness import Rooms
from graphs.core.stage import Stage
from graphs.http.access_log import Line
from graphs.http.app import create_app
from graphs.http.auth import Access
from graphs.http.parameters import DrawParameters
from graphs.http.responses import Drawing
from graphs.serve import proxy, topology
from graphs.serve.topology import StageNow
from graphs.settings import VoiceToImageSettings


class VoiceToImage:
    """The ingress: it holds no model. Serve's HTTP proxy calls the app that `__serve_build_asgi_app__` returns."""

    def __init__(self, settings: VoiceToImageSettings, whisper: DeploymentHandle[Any], diffusion: DeploymentHandle[Any]) -> None:
        self._settings = settings
        self._whisper = whisper
        self._diffusion = diffusion

    def __serve_build_asgi_app__(self) -> FastAPI:
        proxy.warn_if_absent()
        self._figures = Figures()
        application = serve.get_replica_context().app_name
        self._rooms = Rooms(application, ("whisper", "diffusion"))
        heard, drawn = (
            requests_per_replica(self._settings.whisper.max_batch),
            requests_per_replica(self._settings.diffusion.max_batch),
        )
        self._transcribe = Stage("whisper", self._whisper, Transcript, self._rooms, self._figures, heard)
        self._generate = Stage("diffusion", self._diffusion, Image, self._rooms, self._figures, drawn)
        app = create_app(self, self._rooms, self._settings.http, served(self._settings))
        if self._settings.http.show_graph:
            topology.show(app, application, self._stages, Access(self._settings.http.keys, None))
        return app

    async def listen(self, recording: bytes, given: Given) -> NDArray[np.int16]:
        """`recording`: compressed bytes, as they came. Gives int16 [samples], mono 16 kHz, with speech in it.

        Raises a DeploymentError that names its stage, as all of these do.
        """
        started_s = time.perf_counter()
        with self._figures.stage("decode"):
            listening = asyncio.to_thread(listen, recording, self._settings.http.max_audio_s)
            audio = await stage.run("decode", listening, given.time_left)
        took_s = time.perf_counter() - started_s
        given.line.audio_s = audio.size / SAMPLE_RATE_HZ
        given.line.took(decode=took_s * 1000)
        self._figures.finished("decode", took_s, audio_s=given.line.audio_s)
        return audio

    async def transcribe(self, audio: NDArray[np.int16], options: TranscribeOptions, given: Given) -> Transcript:
        started_s = time.perf_counter()
        key = options.task, audio.size // (10 * SAMPLE_RATE_HZ)  # below a window it does not scale with the length
        transcript: Transcript = await self._transcribe.call(
            "transcribe", audio, options, given=given, key=key, units=whisper.windows(audio.size)
        )
        given.line.took(whisper=(time.perf_counter() - started_s) * 1000)
        given.line.transcript = transcript.text
        return transcript

    async def generate(self, prompt: str, options: GenerateOptions, previews: int, given: Given) -> Image:
        started_s = time.perf_counter()
        image: Image = await self._generate.call(
            "generate",
            prompt,
            options,
            given=given,
            key=self._size(options),
            units=self._steps(options),
            previews=previews,
        )
        given.line.steps = (given.line.steps or 0) + image.cost.units
        given.line.took(diffusion=(time.perf_counter() - started_s) * 1000 - image.encode_ms, encode=image.encode_ms)
        return image

    async def draw(self, audio: NDArray[np.int16], parameters: DrawParameters, format: str, given: Given) -> Drawing:
        """What was heard, drawn."""
        transcript = await self.transcribe(audio, parameters.transcribe_options(), given)
        if given.tell is not None:
            given.tell(transcript)
        prompt = f"{parameters.prompt_prefix} {transcript.text}".strip()
        options = parameters.generate_options(format)
        given.line.seed = options.seed
        image = await self.generate(prompt, options, parameters.previews, given)
        return Drawing(transcript, prompt, options.seed, image, dict(given.line.timings_ms))

    def ended(self, line: Line) -> None:
        """Counts a request of the ingress, and its error where that was none of a stage's."""
        self._figures.started(INGRESS)
        if line.code is not None and line.stage is None:
            self._figures.failed(INGRESS, line.code)

    def retry_after_s(self, requests: int) -> float:
        """When `requests` will have been answered, by what the stages were seen to take."""
        return retry_after_s(
            requests, [(stage.pace, self._rooms.replicas(stage.name)) for stage in (self._transcribe, self._generate)]
        )

    def _stages(self) -> list[StageNow]:
        models = (self._settings.whisper.model, self._settings.diffusion.model)
        return [
            StageNow(stage.name, model_name(model), model_version(stage.name), *stage.queue)
            for stage, model in zip((self._transcribe, self._generate), models, strict=True)
        ]

    def _steps(self, options: GenerateOptions) -> int:
        return self._settings.diffusion.steps if options.steps is None else options.steps

    def _size(self, options: GenerateOptions) -> tuple[int | None, int | None, bool]:
        """What a denoising step's time depends on: width, height, and whether there is guidance."""
        scale = self._settings.diffusion.guidance_scale if options.guidance_scale is None else options.guidance_scale
        return options.width, options.height, scale > 1


def served(settings: VoiceToImageSettings) -> Served:
    """What the edge says of the models."""
    return Served(model_name(settings.whisper.model), model_name(settings.diffusion.model), settings.diffusion.max_side_px)


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
