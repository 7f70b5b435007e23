"""PROMPT, NEGATIVE_PROMPT, FORMAT (png, jpeg, webp) BYTES [1], UTF-8; STEPS INT32 [1]; GUIDANCE_SCALE FP32 [1];
SIZE INT32 [2]: width, height in pixels, 0 for the model's own; SEED UINT32 [1]
->  IMAGE UINT8 [bytes]: the encoded picture; IMAGE_SIZE INT32 [2]; PROMPT_TRUNCATED, FLAGGED UINT8 [1]: 0 or 1; ENCODE_MS FP32 [1].

No steps (STEPS 0) are answered at once with an empty IMAGE: the health probe. The instance is a process on the CPU for
Triton; the engine takes the GPU by its own setting.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments import pb
from deployments.diffusion.engine import DiffusionEngine, Picture, Prompt


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = pb.parameters(args)
        self._name = given["name"]
        self._engine = DiffusionEngine(
            given["model"], given["device"], given["precision"], int(given["threads"]), given["safety_checker"] == "True"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return pb.answer(requests, self._generate)

    def _generate(self, request: Any) -> dict[str, NDArray[Any]]:
        steps = int(pb.array(request, "STEPS")[0])
        if steps == 0:
            return _outputs(Picture(b"", 0, 0, False, False, 0.0))
        width, height = pb.array(request, "SIZE").tolist()
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

        def leave_if_cancelled(step: int) -> None:
            if request.is_cancelled():
                raise pb.Cancelled(f"cancelled before step {step}")

        notes = {"prompt": prompt.text, "seed": str(prompt.seed), "model": self._name}
        return _outputs(self._engine.generate(prompt, notes, leave_if_cancelled))


def _outputs(picture: Picture) -> dict[str, NDArray[Any]]:
    return {
        "IMAGE": np.frombuffer(picture.encoded, dtype=np.uint8),
        "IMAGE_SIZE": np.array([picture.width, picture.height], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([picture.prompt_truncated], dtype=np.uint8),
        "FLAGGED": np.array([picture.flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([picture.encode_ms], dtype=np.float32),
    }
