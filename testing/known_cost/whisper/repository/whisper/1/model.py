"""Inputs and outputs are those of the real model (deployments/whisper). Each segment takes SEGMENT_S; requests do not share time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from deployments.roles.speech_to_text import Segment
from deployments.triton import stub
from testing.known_cost import SEGMENT_S, segments, text


class TritonPythonModel:
    async def execute(self, requests: list[Any]) -> None:
        await stub.respond_concurrently(requests, self._transcribe)

    async def _transcribe(self, request: Any, send: stub.Send) -> stub.Outputs:
        audio, progress = stub.array(request, "AUDIO")[0].copy(), bool(stub.array(request, "PROGRESS").flat[0])
        found = segments(audio) if audio.size else ()
        for segment in found:
            await asyncio.sleep(SEGMENT_S)
            stub.check_cancelled(request)
            if progress:
                send(_outputs([segment]))
        return _outputs(found) | {
            "TEXT": stub.texts([text(audio) if audio.size else ""])[None],
            "LANGUAGE": stub.texts(["en"])[None],
            "COMPUTE_S": np.array([[SEGMENT_S * len(found)]], dtype=np.float32),
            "BATCH_SIZE": np.array([[1]], dtype=np.int32),
        }


def _outputs(found: Sequence[Segment]) -> dict[str, Any]:
    stats = [(one.start, one.end, one.avg_logprob, one.no_speech_prob) for one in found]
    return {
        "SEGMENT_TEXT": stub.texts([one.text for one in found])[None],
        "SEGMENT_STATS": np.array(stats, dtype=np.float32).reshape(1, -1, 4),
    }
