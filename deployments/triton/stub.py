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
    """The one item of a BYTES input."""
    item = pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0]
    return bytes(item).decode("utf-8")


def array(request: Any, name: str) -> NDArray[Any]:
    """An input of a fixed-size type. It points into shared memory: copy what has to outlive the request."""
    tensor: NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return tensor


def texts(items: list[str]) -> NDArray[Any]:
    """A BYTES output of shape [len(items)], UTF-8."""
    return np.array([item.encode("utf-8") for item in items], dtype=np.object_)


class Reply:
    """One request's answers, which may come after `execute` has returned, from another thread. What it fails with is its own."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()

    def tell(self, outputs: Outputs) -> None:
        """A word on the way."""
        self._sender.send(_response(outputs))

    def end(self, outcome: Outputs | Exception) -> None:
        """The last of them. Never raises."""
        try:
            response = _failure(outcome) if isinstance(outcome, Exception) else _response(outcome)
        except Exception as error:
            response = _failure(error)
        try:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            log.exception("an answer could not be sent")

    def leave_if_cancelled(self) -> None:
        leave_if_cancelled(self._sender)


async def answer_together(requests: list[Any], serve: Callable[[Any, Tell], Awaitable[Outputs]]) -> None:
    """For a model that serves many requests at once in its event loop: each is sent what `serve` tells on the way, then what it
    returns. What one fails with is its own. All of it runs in the loop's thread.
    """
    await asyncio.gather(*(_answer(request, serve) for request in requests))


def leave_if_cancelled(request: Any) -> None:
    if request.is_cancelled():
        raise Cancelled("the caller has left")


async def _answer(request: Any, serve: Callable[[Any, Tell], Awaitable[Outputs]]) -> None:
    reply = Reply(request)
    outcome: Outputs | Exception
    try:
        outcome = await serve(request, reply.tell)
    except Exception as error:
        outcome = error
    reply.end(outcome)


def _failure(error: Exception) -> Any:
    match error:
        case InvalidInput():
            return _refuse(str(error), pb_utils.TritonError.INVALID_ARG)
        case ModelUnavailable():
            return _refuse(str(error), pb_utils.TritonError.UNAVAILABLE)
        case Cancelled():
            return _refuse(str(error), pb_utils.TritonError.CANCELLED)
    log.error("the model failed", exc_info=error)
    return _refuse(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _response(outputs: Outputs) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, value) for name, value in outputs.items()])


def _refuse(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
