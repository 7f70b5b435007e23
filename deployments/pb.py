"""Stub side of the Triton seam: what every `model.py` shares. Runs in Triton's Python stub; never imports Ray or pydantic."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # provided by the stub itself
from numpy.typing import NDArray

from deployments.errors import InvalidInput, ModelUnavailable

log = logging.getLogger("sonograph")


class Cancelled(Exception):
    """The caller has left: what was being made is dropped."""


def parameters(arguments: Mapping[str, str]) -> dict[str, str]:
    """The parameters that `InProcessTriton` added to the model's config, from `initialize`'s arguments."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    config: dict[str, Any] = json.loads(arguments["model_config"])
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


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


def answer(requests: list[Any], serve: Callable[[Any], Mapping[str, NDArray[Any]]]) -> list[Any]:
    """A response for each request, by `serve`. What one request fails with is its own; the others are served."""
    return [_respond(request, serve) for request in requests]


def _respond(request: Any, serve: Callable[[Any], Mapping[str, NDArray[Any]]]) -> Any:
    try:
        if request.is_cancelled():
            raise Cancelled("cancelled before it started")
        outputs = [pb_utils.Tensor(name, value) for name, value in serve(request).items()]
        return pb_utils.InferenceResponse(output_tensors=outputs)
    except InvalidInput as error:
        return _refuse(str(error), pb_utils.TritonError.INVALID_ARG)
    except ModelUnavailable as error:
        return _refuse(str(error), pb_utils.TritonError.UNAVAILABLE)
    except Cancelled as error:
        return _refuse(str(error), pb_utils.TritonError.CANCELLED)
    except Exception as error:
        log.exception("the model failed")
        return _refuse(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _refuse(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
