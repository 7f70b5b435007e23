"""Stub side of the Triton seam: what every `model.py` shares. Runs in Triton's Python stub; never imports Ray or pydantic."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself
from numpy.typing import NDArray

from deployments.errors import InvalidInput, ModelUnavailable

log = logging.getLogger("sonograph")

Outputs = Mapping[str, NDArray[Any]]
"""Tensors by name: one answer, or one word on the way to it."""
Tell = Callable[[Outputs], None]


class Cancelled(Exception):
    """The caller has left: what was being made is dropped."""


def parameters(arguments: Mapping[str, str]) -> dict[str, str]:
    """The parameters that `InProcessTriton` added to the model's config, from `initialize`'s arguments."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    config: dict[str, Any] = json.loads(arguments["model_config"])
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


class Counter:
    """A counter among Triton's metrics, which the replica publishes."""

    def __init__(self, name: str, description: str) -> None:
        # Both are kept: Triton drops a metric with its last reference.
        self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        self._metric = self._family.Metric(labels={})

    def add(self, count: float) -> None:
        self._metric.increment(count)


def text(request: Any, name: str) -> str:
    """The one item of a BYTES [1] input."""
    item = pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
    return bytes(item).decode("utf-8")


def array(request: Any, name: str) -> NDArray[Any]:
    """An input of a fixed-size type. It points into shared memory: copy what has to outlive the request."""
    tensor: NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return tensor


def texts(items: list[str]) -> NDArray[Any]:
    """A BYTES output of shape [len(items)], UTF-8."""
    return np.array([item.encode("utf-8") for item in items], dtype=np.object_)


def answer(requests: list[Any], serve: Callable[[Any, Tell], Outputs]) -> None:
    """Sends each request its answers: what `serve` tells on the way, then what it returns.

    What one request fails with is its own; the others are served. `serve` asks by itself whether the caller has left.
    """
    for request in requests:
        sender = request.get_response_sender()
        sender.send(_respond(request, sender, serve), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


async def answer_together(requests: list[Any], serve: Callable[[Any, Tell], Awaitable[Outputs]]) -> None:
    """`answer` for a model that serves many requests at once in its event loop. All of these run in the loop's thread."""
    await asyncio.gather(*(_answer(request, serve) for request in requests))


def leave_if_cancelled(request: Any) -> None:
    if request.is_cancelled():
        raise Cancelled("the caller has left")


async def _answer(request: Any, serve: Callable[[Any, Tell], Awaitable[Outputs]]) -> None:
    sender = request.get_response_sender()
    try:
        response = _response(await serve(request, lambda outputs: sender.send(_response(outputs))))
    except Exception as error:
        response = _refusal(error)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _respond(request: Any, sender: Any, serve: Callable[[Any, Tell], Outputs]) -> Any:
    try:
        return _response(serve(request, lambda outputs: sender.send(_response(outputs))))
    except Exception as error:
        return _refusal(error)


def _refusal(error: Exception) -> Any:
    codes = {
        InvalidInput: pb_utils.TritonError.INVALID_ARG,
        ModelUnavailable: pb_utils.TritonError.UNAVAILABLE,
        Cancelled: pb_utils.TritonError.CANCELLED,
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return _refuse(str(error), code)
    log.error("the model failed", exc_info=error)
    return _refuse(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _response(outputs: Outputs) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, value) for name, value in outputs.items()])


def _refuse(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
