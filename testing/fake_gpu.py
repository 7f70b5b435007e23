"""A GPU that is none: tensors that say `cuda:0` and compute on the CPU, so that a test counts what makes the host wait for a GPU.

A CUDA operator whose value the host needs waits until the GPU has done all work before it. Counted are those of torch that do so
(`torch.cuda.set_sync_debug_mode` reports them on a GPU): a value read by the host, a copy to the host, a copy from pageable
memory, and operators whose result's shape depends on values. Operands on different devices are an error, as on a GPU.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "cuda:0"
ROOT = Path(__file__).parent.parent
aten = torch.ops.aten

READS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default}
"""Operators that give the host a value."""
READ_VALUES = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten.multinomial.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}
"""Operators that read values before they go on."""
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operators that take indices from the host's memory too, and copy them."""
WHOLE = {F.scaled_dot_product_attention, torch.stft}
"""Functions of several operators that run as one: the first asks CUDA for its kernels, the second changes a shape in place."""


class FakeTensor(Tensor):
    """A tensor on the fake GPU."""

    held: Tensor
    """Its values, on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> "FakeTensor":
        new: FakeTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("meta"),  # torch itself asks CUDA about tensors of `cuda`
        )
        new.held = held
        return new

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(DEVICE)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} of a tensor on the fake GPU, outside of FakeGPU")


def to_fake(module: nn.Module) -> None:
    """Move a module's parameters and buffers to the fake GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = FakeTensor(parameter.data)  # type: ignore[assignment]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = FakeTensor(buffer)


class FakeGPU:
    """While it is entered, `cuda:0` is the fake GPU, and `waits` receives a line for each wait of the host: its operator and its place."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.launches = 0
        """Operators on the fake GPU, views included."""
        self._modes = (_Functions(self), _Operators(self))

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        for patched in (
            patch.object(torch.cuda, "_lazy_init", lambda: None),
            patch.object(torch.cuda, "synchronize", lambda device=None: self.wait("synchronize")),
            # Tensors of inference mode cannot be wrapped; without gradients the operators are the same.
            patch.object(torch.inference_mode, "__enter__", lambda mode: None),
            patch.object(torch.inference_mode, "__exit__", lambda mode, *_: None),
            torch.no_grad(),
            *self._modes,
        ):
            self._stack.enter_context(patched)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait(self, operator: str) -> None:
        self.waits.append(f"{operator} at {_place()}")


class _Functions(TorchFunctionMode):
    """Functions that reach CUDA itself before they dispatch."""

    def __init__(self, gpu: FakeGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and _is_gpu(kwargs.get("device")):
            self._gpu.wait(function.__name__)
            kwargs["device"] = "cpu"
            return FakeTensor(function(*args, **kwargs))
        if function is Tensor.tolist and isinstance(args[0], FakeTensor):
            self._gpu.wait("tolist")
            return args[0].held.tolist()
        if function in WHOLE and any(isinstance(one, FakeTensor) for one in args):
            self._gpu.launches += 1
            args, kwargs = tree_map(_held, (args, kwargs))
            return FakeTensor(function(*args, **kwargs))
        return function(*args, **kwargs)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, gpu: FakeGPU) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gpu = gpu

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        on_gpu = any(isinstance(one, FakeTensor) for one in tensors)
        device = kwargs.get("device")
        to_gpu = on_gpu if device is None else _is_gpu(device)
        if function is aten._pin_memory.default:
            return _Pinned(tensors[0])
        if on_gpu or to_gpu:
            self._gpu.launches += 1
            self._count(function, args, kwargs, tensors, on_gpu, to_gpu)
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        held_args, held_kwargs = tree_map(_held, (args, kwargs))
        if function is aten._to_copy.default and on_gpu != to_gpu:
            held_kwargs.pop("non_blocking", None)
        results = function(*held_args, **held_kwargs)
        if function is aten.copy_.default:
            return tensors[0]
        if not to_gpu:
            return results
        own = {id(_held(one)): one for one in tensors}
        return tree_map(lambda one: own.get(id(one), FakeTensor(one)) if isinstance(one, Tensor) else one, results)

    def _count(
        self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], tensors: Sequence[Tensor], on_gpu: bool, to_gpu: bool
    ) -> None:
        elsewhere = [one for one in tensors if not isinstance(one, FakeTensor)]
        name = str(function)
        if function is aten._to_copy.default:
            pinned = isinstance(tensors[0], _Pinned) and kwargs.get("non_blocking")
            if on_gpu != to_gpu and not pinned:
                self._gpu.wait(name)
        elif function is aten.copy_.default:
            if elsewhere and not isinstance(elsewhere[0], _Pinned):
                self._gpu.wait(name)
        elif function in READS or (function in READ_VALUES and kwargs.get("output_size") is None):
            self._gpu.wait(name)
        elif function in INDEXING:
            indices = [one for one in args[1] if one is not None]
            if any(one.dtype == torch.bool or not isinstance(one, FakeTensor) for one in indices):
                self._gpu.wait(name)
        elif any(one.dim() for one in elsewhere):
            raise RuntimeError(f"{name} has operands on the fake GPU and on the CPU, at {_place()}")


class _Pinned(Tensor):
    """A copy in page-locked memory of the host, from which a copy to the GPU need not wait."""

    @staticmethod
    def __new__(cls, tensor: Tensor) -> "_Pinned":
        return Tensor._make_subclass(cls, tensor)  # type: ignore[attr-defined, no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def _is_gpu(device: Any) -> bool:
    """`meta` is what torch itself sees as the device of a FakeTensor."""
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _held(one: Any) -> Any:
    return one.held if isinstance(one, FakeTensor) else one.as_subclass(Tensor) if isinstance(one, _Pinned) else one


def _is_ours(file: str) -> bool:
    return file.startswith(str(ROOT)) and "site-packages" not in file and file != __file__


def _place() -> str:
    """The innermost line of this project, of the call."""
    frame = sys._getframe()
    while frame is not None and not _is_ours(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return "?" if frame is None else f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
