"""PROMPT, NEGATIVE_PROMPT, FORMAT (png, jpeg, webp) BYTES [1], UTF-8; STEPS INT32 [1]; GUIDANCE_SCALE FP32 [1];
SIZE INT32 [2]: width, height in pixels, 0 for the model's own; SEED UINT32 [1];
PROGRESS UINT8 [1]: 1 for a response after each step; PREVIEWS INT32 [1]: most of those that carry a preview
->  IMAGE UINT8 [bytes]: the encoded image; IMAGE_SIZE INT32 [2]; PROMPT_TRUNCATED, FLAGGED UINT8 [1]: 0 or 1;
ENCODE_MS FP32 [1]; STEPS_TAKEN INT32 [1]; COMPUTE_S FP32 [2]: outside of the denoising, and of each step, without waiting;
BATCH_SIZE FP32 [1]: images in its calls of the UNet, on average. Before that, a response after a step:
STEP INT32 [2]: steps done, and in all; ETA_MS FP32 [1]: expected time of the remaining steps;
PREVIEW UINT8 [bytes]: the encoded preview; PREVIEW_SIZE INT32 [2].

Requests share the UNet's calls: each joins at the next denoising step, in one asyncio loop.
A request of no steps is answered at once with an empty image: the health probe. Triton runs the instance as a process on the CPU;
the engine takes the GPU by its own configuration. Counters among Triton's metrics: sonograph_denoising_steps, and
sonograph_denoising_steps_saved, the steps that cancelled requests did not run.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.diffusion.batch import Batch
from deployments.diffusion.denoising import Generated
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.job import JobCancelled
from deployments.diffusion.memory import MemoryBudget
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest, Image, Step
from deployments.triton import stub


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._config = stub.config(args, EngineConfig)
        engine = DiffusionEngine(self._config)
        self._steps = stub.Counter("sonograph_denoising_steps", "Denoising steps that ran")
        self._steps_saved = stub.Counter("sonograph_denoising_steps_saved", "Denoising steps that cancelled requests did not run")
        self._batch = Batch(
            engine,
            self._config.max_batch,
            MemoryBudget.measure(engine),
            self._steps.add,
            max_delay_s=self._config.max_queue_delay_s,
        )

    async def execute(self, requests: list[Any]) -> None:
        await stub.respond_concurrently(requests, self._generate)

    def finalize(self) -> None:
        self._batch.close()

    async def _generate(self, triton_request: Any, responder: stub.Responder) -> stub.Outputs:
        request = _request(triton_request)
        if request.steps == 0:
            return _image_outputs(Generated(Image(b"", 0, 0, prompt_truncated=False, encode_ms=0.0), flagged=False))
        metadata = {"prompt": request.prompt, "seed": str(request.seed), "model": self._config.model_name}
        follows, recorder = bool(stub.array(triton_request, "PROGRESS")[0]), responder.recorder

        def on_step(step: Step) -> None:
            if recorder is not None:
                recorder.event("denoising step", **{"sonograph.step": step.step, "sonograph.steps": step.steps})
            if follows:
                responder.send(_step_outputs(step))

        observer = on_step if follows or recorder is not None else None
        try:
            generated = await self._batch.generate(request, metadata, triton_request.is_cancelled, observer)
        except JobCancelled as error:
            self._steps_saved.add(error.steps_saved)
            raise stub.Cancelled(str(error)) from error
        if recorder is not None:
            recorder.began(generated.began_ns)
            image, ended_ns = generated.image, time.time_ns()
            about: dict[str, str | int] = {"sonograph.image.format": request.format, "sonograph.image.bytes": len(image.encoded)}
            recorder.add("encode", ended_ns - round(image.encode_ms * 1e6), ended_ns, **about)
        return _image_outputs(generated)


def _request(triton_request: Any) -> GenerateRequest:
    width, height = stub.array(triton_request, "SIZE").tolist()
    return GenerateRequest(
        stub.text(triton_request, "PROMPT"),
        negative_prompt=stub.text(triton_request, "NEGATIVE_PROMPT"),
        steps=int(stub.array(triton_request, "STEPS")[0]),
        guidance_scale=float(stub.array(triton_request, "GUIDANCE_SCALE")[0]),
        width=width or None,
        height=height or None,
        seed=int(stub.array(triton_request, "SEED")[0]),
        format=stub.text(triton_request, "FORMAT"),
        previews=int(stub.array(triton_request, "PREVIEWS")[0]),
    )


def _step_outputs(step: Step) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {
        "STEP": np.array([step.step, step.steps], dtype=np.int32),
        "ETA_MS": np.array([step.eta_ms], dtype=np.float32),
    }
    if step.preview is not None:
        outputs["PREVIEW"] = np.frombuffer(step.preview.encoded, dtype=np.uint8)
        outputs["PREVIEW_SIZE"] = np.array([step.preview.width, step.preview.height], dtype=np.int32)
    return outputs


def _image_outputs(generated: Generated) -> dict[str, NDArray[Any]]:
    image, time = generated.image, generated.image.compute_time
    return {
        "IMAGE": np.frombuffer(image.encoded, dtype=np.uint8),
        "IMAGE_SIZE": np.array([image.width, image.height], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([image.prompt_truncated], dtype=np.uint8),
        "FLAGGED": np.array([generated.flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([image.encode_ms], dtype=np.float32),
        "STEPS_TAKEN": np.array([time.units], dtype=np.int32),
        "COMPUTE_S": np.array([time.fixed_s, time.unit_s], dtype=np.float32),
        "BATCH_SIZE": np.array([time.batch_size], dtype=np.float32),
    }
