"""PROMPT, NEGATIVE_PROMPT, FORMAT (png, jpeg, webp) BYTES [1], UTF-8; STEPS INT32 [1]; GUIDANCE_SCALE FP32 [1];
SIZE INT32 [2]: width, height in pixels, 0 for the model's own; SEED UINT32 [1];
PROGRESS UINT8 [1]: 1 for a word after each step; PREVIEWS INT32 [1]: at most so many of those with a preview
->  IMAGE UINT8 [bytes]: the encoded picture; IMAGE_SIZE INT32 [2]; PROMPT_TRUNCATED, FLAGGED UINT8 [1]: 0 or 1;
ENCODE_MS FP32 [1]; STEPS_TAKEN INT32 [1]; COST_S FP32 [2]: all of it, and the denoising of it, waiting excluded;
ROWS FP32 [1]: pictures in its calls of the UNet, on average. Before that, a word after a step:
STEP INT32 [2]: how many are done, of how many; ETA_MS FP32 [1]: the rest of them, at the pace so far;
PREVIEW UINT8 [bytes], encoded; PREVIEW_SIZE INT32 [2].

Requests share the UNet's calls: each joins at the next denoising step, by one asyncio loop.
No steps are answered at once with an empty picture: the health probe. The instance is a process on the CPU for Triton; the
engine takes the GPU by its own setting. Counters among Triton's metrics: sonograph_denoising_steps, and
sonograph_denoising_steps_saved, what cancelled requests did not come to.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.diffusion.batch import Batch, Left
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.memory import Budget
from deployments.diffusion.types import Picture, Progress, Prompt
from deployments.triton import stub


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = stub.parameters(args)
        self._name = given["name"]
        engine = DiffusionEngine(
            given["model"], given["device"], given["precision"], int(given["threads"]), given["safety_checker"] == "True"
        )
        self._steps = stub.Counter("sonograph_denoising_steps", "Denoising steps that ran")
        self._saved = stub.Counter("sonograph_denoising_steps_saved", "Denoising steps that cancelling saved")
        self._batch = Batch(engine, int(given["max_batch"]), Budget.of(engine), self._steps.add)

    async def execute(self, requests: list[Any]) -> None:
        await stub.answer_together(requests, self._generate)

    def finalize(self) -> None:
        self._batch.close()

    async def _generate(self, request: Any, tell: stub.Tell) -> stub.Outputs:
        steps = int(stub.array(request, "STEPS")[0])
        if steps == 0:
            return _outputs(Picture(b"", 0, 0, False, False, 0.0, 0, 0.0, 0.0))
        width, height = stub.array(request, "SIZE").tolist()
        prompt = Prompt(
            text=stub.text(request, "PROMPT"),
            negative=stub.text(request, "NEGATIVE_PROMPT"),
            steps=steps,
            guidance_scale=float(stub.array(request, "GUIDANCE_SCALE")[0]),
            width=width,
            height=height,
            seed=int(stub.array(request, "SEED")[0]),
            format=stub.text(request, "FORMAT"),
        )
        notes = {"prompt": prompt.text, "seed": str(prompt.seed), "model": self._name}
        progress, previews = bool(stub.array(request, "PROGRESS")[0]), int(stub.array(request, "PREVIEWS")[0])
        told = (lambda step: tell(_step(step))) if progress else None
        try:
            return _outputs(await self._batch.draw(prompt, notes, request.is_cancelled, told, previews))
        except Left as left:
            self._saved.add(left.steps)
            raise stub.Cancelled(str(left)) from left


def _step(progress: Progress) -> dict[str, NDArray[Any]]:
    said: dict[str, NDArray[Any]] = {
        "STEP": np.array([progress.done, progress.of], dtype=np.int32),
        "ETA_MS": np.array([progress.eta_ms], dtype=np.float32),
    }
    if progress.preview is None:
        return said
    encoded, *size = progress.preview
    return said | {"PREVIEW": np.frombuffer(encoded, dtype=np.uint8), "PREVIEW_SIZE": np.array(size, dtype=np.int32)}


def _outputs(picture: Picture) -> dict[str, NDArray[Any]]:
    return {
        "IMAGE": np.frombuffer(picture.encoded, dtype=np.uint8),
        "IMAGE_SIZE": np.array([picture.width, picture.height], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([picture.prompt_truncated], dtype=np.uint8),
        "FLAGGED": np.array([picture.flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([picture.encode_ms], dtype=np.float32),
        "STEPS_TAKEN": np.array([picture.steps], dtype=np.int32),
        "COST_S": np.array([picture.compute_s, picture.denoise_s], dtype=np.float32),
        "ROWS": np.array([picture.rows], dtype=np.float32),
    }
