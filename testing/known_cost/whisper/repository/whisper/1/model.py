"""Inputs and outputs are those of the real model (deployments/whisper). Each segment takes SEGMENT_S; requests do not share time."""

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deployments.roles.speech_to_text import Segment
from deployments.triton import stub
from testing.known_cost import SEGMENT_S, segments
from testing.known_cost.fault import Fault


class TritonPythonModel:
    def initialize(self, arguments: Mapping[str, str]) -> None:
        self._fault = _fault(arguments)
        self._chance = random.Random(0)
        self._requests = 0
        if self._fault.never_starts:
            raise RuntimeError("this candidate never starts")

    async def execute(self, requests: list[Any]) -> None:
        await stub.respond_concurrently(requests, self._transcribe)

    async def _transcribe(self, request: Any, responder: stub.Responder) -> stub.Outputs:
        audio, progress = stub.array(request, "AUDIO")[0].copy(), bool(stub.array(request, "PROGRESS").flat[0])
        found = self._changed(segments(audio)) if audio.size else ()
        for segment in found:
            await asyncio.sleep(SEGMENT_S * self._fault.slower)
            stub.check_cancelled(request)
            if progress:
                responder.send(_outputs([segment]))
        return _outputs(found) | {
            "TEXT": stub.texts(["".join(segment.text for segment in found)])[None],
            "LANGUAGE": stub.texts(["en"])[None],
            "COMPUTE_S": np.array([[SEGMENT_S * self._fault.slower * len(found)]], dtype=np.float32),
            "BATCH_SIZE": np.array([[1]], dtype=np.int32),
        }

    def _changed(self, found: Sequence[Segment]) -> list[Segment]:
        """The segments, with the fault. The warm-up and the probes count as requests too."""
        fault = self._fault
        self._requests += 1
        if fault.dies_after and self._requests > fault.dies_after:
            os._exit(1)
        if self._requests > 1 and self._chance.random() < fault.fails:  # its warm-up succeeds
            raise RuntimeError("this candidate fails")
        logprob = float("nan") if fault.other_shape else -0.25
        return [Segment(one.start, one.end, fault.words(one.text, self._chance), logprob, one.no_speech_prob) for one in found]


def _fault(arguments: Mapping[str, str]) -> Fault:
    """The candidate's fault; none where the configuration is the real engine's."""
    try:
        return stub.config(arguments, Fault)
    except TypeError:
        return Fault()


def _outputs(found: Sequence[Segment]) -> dict[str, Any]:
    stats = [(one.start, one.end, one.avg_logprob, one.no_speech_prob) for one in found]
    return {
        "SEGMENT_TEXT": stub.texts([one.text for one in found])[None],
        "SEGMENT_STATS": np.array(stats, dtype=np.float32).reshape(1, -1, 4),
    }
