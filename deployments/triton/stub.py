"""Functions that every `model.py` shares. Runs in Triton's Python stub; never imports Ray or pydantic."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself
from numpy.typing import NDArray

from deployments import call_spans
from deployments.engine_config import from_parameters
from deployments.errors import InvalidInput, ModelUnavailable
from deployments.span import Span, TraceContext, Value, to_json

log = logging.getLogger("sonograph")

Outputs = Mapping[str, NDArray[Any]]
"""Tensors by name: a final or an intermediate response."""


DEVICE_LOST = ("CUDA error", "CUDA failed with error", "CUDA driver error")
"""Beginnings of errors after which each further call of the same process fails: an illegal access, a lost device (torch, CTranslate2)."""


class Cancelled(Exception):
    """The caller has disconnected, and its work ends."""


def config[Config](arguments: Mapping[str, str], kind: type[Config]) -> Config:
    """The engine's configuration, from `initialize`'s arguments."""
    return from_parameters(parameters(arguments), kind)


def parameters(arguments: Mapping[str, str]) -> dict[str, str]:
    """The parameters that `InProcessTriton` has added to the model's config, from `initialize`'s arguments."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    config: dict[str, Any] = json.loads(arguments["model_config"])
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


class Counter:
    """A counter among Triton's metrics, which the replica publishes."""

    def __init__(self, name: str, description: str) -> None:
        # Both references are kept: Triton drops a metric with its last one.
        self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        self._metric = self._family.Metric(labels={})

    def add(self, count: float) -> None:
        self._metric.increment(count)


def text(request: Any, name: str) -> str:
    """The one item of a BYTES input."""
    item = pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0]
    return bytes(item).decode("utf-8")


def array(request: Any, name: str) -> NDArray[Any]:
    """An input of a fixed-size type, in shared memory: copy it where it has to outlive the request."""
    tensor: NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return tensor


def texts(items: list[str]) -> NDArray[Any]:
    """A BYTES output of shape [len(items)], UTF-8."""
    return np.array([item.encode("utf-8") for item in items], dtype=np.object_)


class Recorder:
    """The spans of one traced request in the model: `compute`, to its response, and what the model adds.

    `compute` begins with the request's arrival here; a model in which requests wait for others says when it begins with this one.
    """

    def __init__(self, caller: TraceContext) -> None:
        self.compute = Span("compute", caller.span_id)
        self.spans = [self.compute]

    def began(self, at_ns: int) -> None:
        """Set the begin of `compute`, Unix time: before it the request waited for those before it."""
        self.compute.started_ns = at_ns

    def event(self, name: str, **attributes: Value) -> None:
        """Note a moment, such as the end of a denoising step."""
        self.compute.event(name, **attributes)

    def add(self, name: str, started_ns: int, ended_ns: int, **attributes: Value) -> None:
        """A span inside of `compute`. Times are Unix times."""
        self.spans.append(Span(name, self.compute.id, started_ns=started_ns, ended_ns=ended_ns, attributes=attributes))

    def output(self) -> NDArray[Any]:
        """The output TRACE of the final response."""
        self.compute.end()
        return np.array([to_json(self.spans)], dtype=np.object_)


def recorder(request: Any) -> Recorder | None:
    """The request's recorder; None where it is not traced."""
    sent = json.loads(request.parameters() or "{}").get("traceparent", "")
    caller = TraceContext.parse(sent) if sent else None
    return None if caller is None else Recorder(caller)


class Responder:
    """Send one request's responses, also after `execute` has returned and from another thread. An error fails this request alone."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self.recorder = recorder(request)

    def send(self, outputs: Outputs) -> None:
        """Send an intermediate response."""
        self._sender.send(_response(outputs))

    def finish(self, outcome: Outputs | Exception) -> None:
        """Send the final response. Never raises."""
        try:
            if self.recorder is not None and not isinstance(outcome, Exception):
                outcome = {**outcome, call_spans.OUTPUT: self.recorder.output()}
            response = _error_response(outcome) if isinstance(outcome, Exception) else _response(outcome)
        except Exception as error:
            response = _error_response(error)
        try:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            log.exception("a response could not be sent")

    def check_cancelled(self) -> None:
        """Raise Cancelled where the caller has disconnected."""
        check_cancelled(self._sender)


async def respond_concurrently(requests: list[Any], serve: Callable[[Any, Responder], Awaitable[Outputs]]) -> None:
    """Serve all requests at once in the event loop's thread: `serve` sends a request's intermediate responses by its responder, and
    returns its result.

    An error fails its request alone.
    """
    await asyncio.gather(*(_respond(request, serve) for request in requests))


def check_cancelled(request: Any) -> None:
    """Raise Cancelled where the request's caller has disconnected."""
    if request.is_cancelled():
        raise Cancelled("the caller has disconnected")


async def _respond(request: Any, serve: Callable[[Any, Responder], Awaitable[Outputs]]) -> None:
    responder = Responder(request)
    outcome: Outputs | Exception
    try:
        outcome = await serve(request, responder)
    except Exception as error:
        outcome = error
    responder.finish(outcome)


def _error_response(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=translate_error(error))


def translate_error(error: Exception) -> Any:
    """The error as Triton's; one that the model does not raise on purpose is a defect and is logged."""
    match error:
        case InvalidInput():
            return pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
        case ModelUnavailable():
            return pb_utils.TritonError(str(error), pb_utils.TritonError.UNAVAILABLE)
        case Cancelled():
            return pb_utils.TritonError(str(error), pb_utils.TritonError.CANCELLED)
    log.error("the model failed", exc_info=error)
    if is_device_lost(error):
        log.error("the GPU's state is lost with this process: it ends, and a new replica takes its place")
        os._exit(1)
    return pb_utils.TritonError(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def is_device_lost(error: Exception) -> bool:
    """Whether the process can no longer use its GPU. A lack of memory passes."""
    message = str(error)
    return any(beginning in message for beginning in DEVICE_LOST) and "out of memory" not in message


def _response(outputs: Outputs) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, value) for name, value in outputs.items()])
