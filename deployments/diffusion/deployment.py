"""The diffusion model's Serve class: a typed request to its Triton model and back, whole or as a stream."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from deployments.base import ModelDeployment
from deployments.compute_time import ComputeTime
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.errors import ContentRefused
from deployments.roles.text_to_image import GenerateRequest, Image, Preview, Step
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors, Triton

log = logging.getLogger("ray.serve")


class Diffusion(ModelDeployment[DiffusionSettings, GenerateRequest, Image]):
    def __init__(self, settings: DiffusionSettings, triton: Triton | None = None) -> None:
        super().__init__(settings, triton)
        log.info("diffusion serves %s", settings.card())

    def engine_config(self, threads: int) -> EngineConfig:
        settings = self.settings
        return EngineConfig(
            model=settings.model,
            device=settings.device,
            precision=settings.precision,
            threads=threads,
            safety_checker=settings.safety_checker,
            max_batch=settings.max_batch,
            max_queue_delay_s=settings.max_queue_delay_s,
        )

    def warm_up(self) -> Tensors:
        return _inputs(self.settings.with_defaults(GenerateRequest("warm-up", steps=2)), progress=False)

    def probe(self) -> Tensors:
        return _inputs(GenerateRequest("", steps=0, guidance_scale=0.0), progress=False)

    async def run(self, request: GenerateRequest, time_left: TimeLeft, request_id: str = "") -> Image:
        """The image. Raises ContentRefused, InvalidInput, ModelUnavailable, DeadlineExceeded."""
        inputs = _inputs(self.settings.with_defaults(request), progress=False)
        return self._image(await self.infer(inputs, time_left, request_id))

    async def stream(self, request: GenerateRequest, time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[Step | Image]:
        """Each denoising step, at most `request.previews` of them with a preview, then the image. Raises the same as `run`."""
        inputs = _inputs(self.settings.with_defaults(request), progress=True)
        async with aclosing(self.infer_stream(inputs, time_left, request_id)) as responses:
            async for outputs in responses:
                yield self._image(outputs) if "IMAGE" in outputs else _step(outputs)

    def _image(self, outputs: Tensors) -> Image:
        if outputs["FLAGGED"][0]:
            raise ContentRefused("the safety checker refused the picture: say something else, or try another seed")
        width, height = outputs["IMAGE_SIZE"].tolist()
        fixed_s, unit_s = outputs["COMPUTE_S"].tolist()
        return Image(
            outputs["IMAGE"].tobytes(),
            width,
            height,
            prompt_truncated=bool(outputs["PROMPT_TRUNCATED"][0]),
            encode_ms=float(outputs["ENCODE_MS"][0]),
            model=self.settings.model_name,
            compute_time=ComputeTime(
                fixed_s, unit_s, int(outputs["STEPS_TAKEN"][0]), float(outputs["BATCH_SIZE"][0]), self.cpu_s()
            ),
        )


def _inputs(request: GenerateRequest, progress: bool) -> Tensors:
    return {
        "PROMPT": np.array([request.prompt.encode()], dtype=np.object_),
        "NEGATIVE_PROMPT": np.array([request.negative_prompt.encode()], dtype=np.object_),
        "STEPS": np.array([request.steps], dtype=np.int32),
        "GUIDANCE_SCALE": np.array([request.guidance_scale], dtype=np.float32),
        "SIZE": np.array([request.width or 0, request.height or 0], dtype=np.int32),
        "SEED": np.array([request.seed], dtype=np.uint32),
        "FORMAT": np.array([request.format.encode()], dtype=np.object_),
        "PROGRESS": np.array([progress], dtype=np.uint8),
        "PREVIEWS": np.array([request.previews], dtype=np.int32),
    }


def _step(outputs: Tensors) -> Step:
    step, steps = outputs["STEP"].tolist()
    preview = None
    if "PREVIEW" in outputs:
        preview = Preview(outputs["PREVIEW"].tobytes(), *outputs["PREVIEW_SIZE"].tolist())
    return Step(step, steps, float(outputs["ETA_MS"][0]), preview)
