"""Inputs and outputs are those of the real model (deployments/diffusion). Each step takes STEP_S; requests do not share time."""

import asyncio
from typing import Any

import numpy as np

from deployments.triton import stub
from testing.known_cost import SIDE_PX, STEP_S, picture


class TritonPythonModel:
    async def execute(self, requests: list[Any]) -> None:
        await stub.respond_concurrently(requests, self._generate)

    async def _generate(self, request: Any, responder: stub.Responder) -> stub.Outputs:
        steps, progress = int(stub.array(request, "STEPS")[0]), bool(stub.array(request, "PROGRESS")[0])
        prompt, seed = stub.text(request, "PROMPT"), int(stub.array(request, "SEED")[0])
        sides_px = [side_px or SIDE_PX for side_px in stub.array(request, "SIZE").tolist()]
        for step in range(1, steps + 1):
            await asyncio.sleep(STEP_S)
            stub.check_cancelled(request)
            if progress:
                eta_ms = STEP_S * 1000 * (steps - step)
                responder.send({"STEP": np.array([step, steps], np.int32), "ETA_MS": np.array([eta_ms], np.float32)})
        return {
            "IMAGE": np.frombuffer(picture(prompt, seed), np.uint8),
            "IMAGE_SIZE": np.array(sides_px, np.int32),
            "PROMPT_TRUNCATED": np.zeros(1, np.uint8),
            "FLAGGED": np.zeros(1, np.uint8),
            "ENCODE_MS": np.zeros(1, np.float32),
            "STEPS_TAKEN": np.array([steps], np.int32),
            "COMPUTE_S": np.array([0.0, STEP_S], np.float32),
            "BATCH_SIZE": np.ones(1, np.float32),
        }
