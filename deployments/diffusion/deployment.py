"""The diffusion room's Ray class: one typed method over its Triton model, whole or as a stream."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ray import serve
from ray.serve import Application

from deployments.base import ModelDeployment
from deployments.compute_time import ComputeTime
from deployments.concurrency import declared_cpus, max_ongoing_requests
from deployments.diffusion.settings import DiffusionSettings
from deployments.errors import ContentRefused
from deployments.paths import model_name
from deployments.time_left import TimeLeft
from deployments.triton.server import InProcessTriton, Tensors, Triton

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class GenerateOptions:
    negative_prompt: str = ""
    steps: int | None = None
    """Denoising steps, 1 to 150; None takes the setting."""
    guidance_scale: float | None = None
    """Weight of the prompt, 0 to 30; None takes the setting."""
    width: int | None = None
    """Pixels; None is the model's own size."""
    height: int | None = None
    seed: int = 0
    """0 to 4294967295."""
    format: str = "png"
    """png, jpeg or webp."""


@dataclass(frozen=True)
class Image:
    encoded: bytes
    width: int
    height: int
    prompt_truncated: bool
    """The text encoder reads a fixed number of tokens (77 for CLIP); what was beyond is not in the picture."""
    encode_ms: float
    """Part of the time that went into the image format."""
    model: str
    cost: ComputeTime


@dataclass(frozen=True)
class Preview:
    """A small JPEG of the picture as a step foresees it."""

    encoded: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Step:
    done: int
    """Denoising steps, from 1."""
    of: int
    eta_ms: float
    """Time that the rest of them will take, at the pace so far."""
    preview: Preview | None = None


class Diffusion(ModelDeployment):
    def __init__(self, settings: DiffusionSettings, triton: Triton | None = None) -> None:
        self._settings = settings
        self._name = model_name(settings.model)
        super().__init__(
            triton
            or InProcessTriton(
                Path(__file__).with_name("repository"),
                parameters={
                    "name": self._name,
                    "model": settings.model,
                    "device": settings.device,
                    "precision": settings.precision,
                    "threads": str(declared_cpus()),
                    "max_batch": str(settings.max_batch),
                    "safety_checker": str(settings.safety_checker),
                },
                warm_up=_inputs("warm-up", GenerateOptions(), 2, settings.guidance_scale),
                probe=_inputs("", GenerateOptions(), 0, 0.0),
                stall_s=settings.stall_s,
            )
        )
        log.info("diffusion serves %s", settings.card())

    async def generate(self, prompt: str, options: GenerateOptions, time_left: TimeLeft, request_id: str = "") -> Image:
        """Raises ContentRefused, InvalidInput, ModelUnavailable, DeadlineExceeded."""
        return self._image(await self.infer(self._inputs(prompt, options), time_left, request_id))

    async def generate_stream(
        self, prompt: str, options: GenerateOptions, time_left: TimeLeft, request_id: str = "", previews: int = 0
    ) -> AsyncGenerator[Step | Image]:
        """Each denoising step, at most `previews` of them with a preview; then the picture. Raises the same."""
        inputs = self._inputs(prompt, options) | _progress(True, previews)
        async with aclosing(self.stream(inputs, time_left, request_id)) as answers:
            async for outputs in answers:
                if "IMAGE" in outputs:
                    yield self._image(outputs)
                else:
                    done, of = outputs["STEP"].tolist()
                    yield Step(done, of, float(outputs["ETA_MS"][0]), _preview(outputs))

    def _inputs(self, prompt: str, options: GenerateOptions) -> Tensors:
        steps = self._settings.steps if options.steps is None else options.steps
        scale = self._settings.guidance_scale if options.guidance_scale is None else options.guidance_scale
        return _inputs(prompt, options, steps, scale)

    def _image(self, outputs: Tensors) -> Image:
        if outputs["FLAGGED"][0]:
            raise ContentRefused("the safety checker refused the picture: say something else, or try another seed")
        width, height = outputs["IMAGE_SIZE"].tolist()
        truncated, encode_ms = bool(outputs["PROMPT_TRUNCATED"][0]), float(outputs["ENCODE_MS"][0])
        (compute_s, denoise_s), steps = outputs["COST_S"].tolist(), int(outputs["STEPS_TAKEN"][0])
        cost = ComputeTime(compute_s - denoise_s, denoise_s / steps, steps, float(outputs["ROWS"][0]))
        return Image(outputs["IMAGE"].tobytes(), width, height, truncated, encode_ms, self._name, cost)


def _inputs(prompt: str, options: GenerateOptions, steps: int, guidance_scale: float) -> Tensors:
    return {
        "PROMPT": np.array([prompt.encode()], dtype=np.object_),
        "NEGATIVE_PROMPT": np.array([options.negative_prompt.encode()], dtype=np.object_),
        "STEPS": np.array([steps], dtype=np.int32),
        "GUIDANCE_SCALE": np.array([guidance_scale], dtype=np.float32),
        "SIZE": np.array([options.width or 0, options.height or 0], dtype=np.int32),
        "SEED": np.array([options.seed], dtype=np.uint32),
        "FORMAT": np.array([options.format.encode()], dtype=np.object_),
    } | _progress(False, 0)


def _progress(progress: bool, previews: int) -> Tensors:
    return {"PROGRESS": np.array([progress], dtype=np.uint8), "PREVIEWS": np.array([previews], dtype=np.int32)}


def _preview(outputs: Tensors) -> Preview | None:
    if "PREVIEW" not in outputs:
        return None
    width, height = outputs["PREVIEW_SIZE"].tolist()
    return Preview(outputs["PREVIEW"].tobytes(), width, height)


def bind(settings: DiffusionSettings) -> Application:
    """One CPU by default: the graph's config or a manifest gives more, or a GPU, and torch's threads follow."""
    return serve.deployment(
        name="diffusion",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=max_ongoing_requests(settings.max_batch),
        health_check_period_s=4,
        health_check_timeout_s=20,
        graceful_shutdown_timeout_s=30,
    )(Diffusion).bind(settings)
