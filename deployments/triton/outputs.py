"""A response's tensors as arrays of their own: one that stayed in Triton's memory would keep the server from stopping.

tritonserver's own conversion, through DLPack, takes five times as long: half a millisecond of each request.
"""

import ctypes
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.errors import DeploymentError
from deployments.triton.contract import numpy_dtype

Tensors = dict[str, NDArray[Any]]
"""Tensors by name. BYTES are arrays of dtype object, whose items are `bytes`. Those of a response cannot be written to."""


def copied(outputs: Mapping[str, Any], batched: bool) -> Tensors:
    """Arrays with the content of tritonserver's tensors. `batched`: the first dimension, the batch's, has one row and goes."""
    tensors = {name: _copied(name, tensor) for name, tensor in outputs.items()}
    return {name: array[0] for name, array in tensors.items()} if batched else tensors


def _copied(name: str, tensor: Any) -> NDArray[Any]:
    if tensor.memory_type.name not in ("CPU", "CPU_PINNED"):
        raise DeploymentError(f"the output {name} is in memory of the kind {tensor.memory_type.name}; only the host's is read")
    content = ctypes.string_at(tensor.data_ptr, tensor.size) if tensor.size else b""
    if tensor.data_type.name == "BYTES":
        strings = list(_strings(content))
        array = np.empty(len(strings), object)
        array[:] = strings
    else:
        array = np.frombuffer(content, numpy_dtype(tensor.data_type.name))
    return array.reshape(tensor.shape)


def _strings(content: bytes) -> Iterator[bytes]:
    """The elements of a tensor of type BYTES: each has its length before it, in the machine's byte order."""
    offset = 0
    while offset < len(content):
        (length,) = struct.unpack_from("=I", content, offset)
        offset += 4 + length
        yield content[offset - length : offset]
