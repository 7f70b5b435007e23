"""Triton's output tensors as arrays, against tritonserver's own conversion."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deployments.errors import DeploymentError
from deployments.triton.outputs import copied

tritonserver = pytest.importorskip("tritonserver")

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    np.arange(6, dtype=np.float16).reshape(1, 6),
    np.array([[-1, 2**31 - 1]], np.int32),
    np.array([[2**63]], np.uint64),
    np.array([[True, False]]),
    np.frombuffer(b"\x89PNG\r\n", np.uint8)[None],
    np.array([[b"a red apple", b"", b"\0\0", "äöü".encode()]], object),
    np.zeros((1, 0), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
@pytest.mark.parametrize("batched", [True, False])
def test_a_copy_is_what_tritonserver_converts_to(array: Any, batched: bool) -> None:
    tensor = tritonserver.Tensor._from_object(array)
    found = copied({"OUTPUT": tensor}, batched)["OUTPUT"]
    theirs = tensor.to_bytes_array() if array.dtype == object else np.from_dlpack(tensor)
    expected = theirs[0] if batched else theirs
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_a_copy_outlives_its_tensor() -> None:
    array = np.ones((1, 1000), np.float32)
    found = copied({"OUTPUT": tritonserver.Tensor._from_object(array)}, batched=True)["OUTPUT"]
    array[:] = 2
    assert found.sum() == 1000


def test_an_output_on_a_gpu_is_named() -> None:
    tensor = SimpleNamespace(memory_type=tritonserver.MemoryType.GPU)
    with pytest.raises(DeploymentError, match="the output OUTPUT is in memory of the kind GPU"):
        copied({"OUTPUT": tensor}, batched=True)
