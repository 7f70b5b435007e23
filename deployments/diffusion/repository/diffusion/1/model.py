"""PROMPT, NEGATIVE_PROMPT, FORMAT (png, jpeg, webp) BYTES [1], UTF-8; STEPS INT32 [1]; GUIDANCE_SCALE FP32 [1];
SIZE INT32 [2]: width, height in pixels, 0 for the model's own; SEED UINT32 [1];
PROGRESS UINT8 [1]: 1 for a word after each step; PREVIEWS INT32 [1]: at most so many of those with a preview
->  IMAGE UINT8 [bytes]: the encoded picture; IMAGE_SIZE INT32 [2]; PROMPT_TRUNCATED, FLAGGED UINT8 [1]: 0 or 1;
ENCODE_MS FP32 [1]; STEPS_TAKEN INT32 [1]; COST_S FP32 [2]: all of it, and the denoising of it. Before that, a word after a step:
STEP INT32 [2]: how many are done, of how many; ETA_MS FP32 [1]: the rest of them, at the pace so far;
PREVIEW UINT8 [bytes], encoded; PREVIEW_SIZE INT32 [2].

No steps are answered at once with an empty picture: the health probe. The instance is a process on the CPU for Triton; the
engine takes the GPU by its own setting. Counters among Triton's metrics: sonograph_denoising_steps, and
sonograph_denoising_steps_saved, what cancelled requests did not come to.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments import pb
from deployments.diffusion.engine import Denoising, DiffusionEngine, Picture, Prompt


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = pb.parameters(args)
        self._name = given["name"]
        self._engine = DiffusionEngine(
            given["model"], given["device"], given["precision"], int(given["threads"]), given["safety_checker"] == "True"
        )
        self._steps = pb.Counter("sonograph_denoising_steps", "Denoising steps that ran")
        self._saved = pb.Counter("sonograph_denoising_steps_saved", "Denoising steps that cancelling saved")

    def execute(self, requests: list[Any]) -> None:
        pb.answer(requests, self._generate)

    def _generate(self, request: Any, tell: pb.Tell) -> pb.Outputs:
        steps = int(pb.array(request, "STEPS")[0])
        if steps == 0:
            return _outputs(Picture(b"", 0, 0, False, False, 0.0, 0, 0.0, 0.0))
        self._leave_if_cancelled(request, steps)
        width, height = pb.array(request, "SIZE").tolist()
        progress, previews = bool(pb.array(request, "PROGRESS")[0]), int(pb.array(request, "PREVIEWS")[0])
        prompt = Prompt(
            text=pb.text(request, "PROMPT"),
            negative=pb.text(request, "NEGATIVE_PROMPT"),
            steps=steps,
            guidance_scale=float(pb.array(request, "GUIDANCE_SCALE")[0]),
            width=width,
            height=height,
            seed=int(pb.array(request, "SEED")[0]),
            format=pb.text(request, "FORMAT"),
        )

        began_s = 0.0

        def before_step(step: int, of: int) -> None:
            nonlocal began_s
            began_s = began_s or time.perf_counter()
            self._leave_if_cancelled(request, of - step)
            self._steps.add(1)

        def after_step(step: int, of: int, denoising: Denoising) -> None:
            if progress:
                eta_ms = (time.perf_counter() - began_s) / (step + 1) * (of - step - 1) * 1000
                said = {"STEP": np.array([step + 1, of], dtype=np.int32), "ETA_MS": np.array([eta_ms], dtype=np.float32)}
                tell(said | (self._preview(denoising) if has_preview(step, of, previews) else {}))

        notes = {"prompt": prompt.text, "seed": str(prompt.seed), "model": self._name}
        return _outputs(self._engine.generate(prompt, notes, before_step, after_step))

    def _leave_if_cancelled(self, request: Any, left: int) -> None:
        """`left`: denoising steps that are still to come."""
        try:
            pb.leave_if_cancelled(request)
        except pb.Cancelled:
            self._saved.add(left)
            raise

    def _preview(self, denoising: Denoising) -> dict[str, NDArray[Any]]:
        encoded, width, height = self._engine.preview(denoising)
        return {
            "PREVIEW": np.frombuffer(encoded, dtype=np.uint8),
            "PREVIEW_SIZE": np.array([width, height], dtype=np.int32),
        }


def has_preview(step: int, of: int, previews: int) -> bool:
    """Whether this step, from 0, has one of `previews` spread evenly; the last step has none, since the picture follows."""
    return (step + 1) * (previews + 1) // of > step * (previews + 1) // of and step + 1 < of


def _outputs(picture: Picture) -> dict[str, NDArray[Any]]:
    return {
        "IMAGE": np.frombuffer(picture.encoded, dtype=np.uint8),
        "IMAGE_SIZE": np.array([picture.width, picture.height], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([picture.prompt_truncated], dtype=np.uint8),
        "FLAGGED": np.array([picture.flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([picture.encode_ms], dtype=np.float32),
        "STEPS_TAKEN": np.array([picture.steps], dtype=np.int32),
        "COST_S": np.array([picture.compute_s, picture.denoise_s], dtype=np.float32),
    }
