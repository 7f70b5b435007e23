"""A model's inputs as its config.pbtxt states them. Each request is checked against them before it is submitted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.errors import DeploymentError


class Contract:
    """Types and shapes of a model's inputs, from Triton's metadata; -1 is any length.

    A request that Triton itself refuses on submission leaks in its binding, and the server then never stops.
    """

    def __init__(self, name: str, metadata: list[dict[str, Any]], batched: bool = False) -> None:
        """`batched`: the first dimension that Triton states is the batch's, and the rest is a request's."""
        self._name = name
        self.batched = batched
        self._inputs = {one["name"]: (numpy_dtype(one["datatype"]), one["shape"][1 if batched else 0 :]) for one in metadata}

    def tensors(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The inputs as Triton reads them: a batch of one where it batches, and contiguous, since it ignores an array's strides.

        Raises DeploymentError for inputs that differ from the contract: a defect of the caller, not of the request.
        """
        self.check(inputs)
        arrays = {name: array[None] if self.batched else array for name, array in inputs.items()}
        return {name: array if array.dtype == object else np.ascontiguousarray(array) for name, array in arrays.items()}

    def check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if set(inputs) != set(self._inputs):
            raise DeploymentError(f"{self._name} takes the inputs {_list(self._inputs)}, not {_list(inputs)}")
        for name, array in inputs.items():
            dtype, shape = self._inputs[name]
            if array.dtype != dtype or not _fits(array.shape, shape):
                raise DeploymentError(f"{self._name} takes {name} as {dtype} {shape}, not as {array.dtype} {list(array.shape)}")


def _fits(shape: tuple[int, ...], stated: list[int]) -> bool:
    return len(shape) == len(stated) and all(length in (-1, own) for length, own in zip(stated, shape, strict=True))


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's type for Triton's name of one, such as FP32."""
    return np.dtype(object) if name == "BYTES" else np.dtype(name.lower().replace("fp", "float"))
