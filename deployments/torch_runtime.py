"""torch's threads, precision and copies to a GPU in a model's process. Runs in the stub."""

import logging
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("sonograph")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def set_threads(threads: int) -> None:
    """Set torch's threads, and those of OpenMP and MKL below it, in the calling thread and those it starts, whatever OMP_NUM_THREADS says.

    The number is the replica's CPUs (`concurrency.declared_cpus`). torch's interop pool, which runs operators in parallel, has one
    thread: no model here has such operators. CTranslate2 has threads of its own, of the same number.
    """
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)  # torch allows it once


def resolve_device(name: str) -> str:
    """Return the device of a setting: `auto` is a GPU if there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def upload(values: Any, device: torch.device | str) -> Tensor:
    """A tensor, or a list of integers as int64, on the device. The host does not wait for the GPU, and copies nothing on a CPU."""
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.int64)
    if torch.device(device).type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def dtype(precision: str, device: str) -> torch.dtype:
    """torch's type of a precision: one of PRECISIONS, or `auto`, which is fp16 on a GPU and fp32 on a CPU."""
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "fp32"
    if precision == "bf16" and device == "cpu" and not cpu_has_bf16():
        log.warning("this CPU has no instructions for bf16 and is slower in it than in fp32: set precision to auto")
    return PRECISIONS[precision]


def cpu_has_bf16() -> bool:
    """Whether the CPU has AVX512_BF16 or AMX. Without them torch emulates bf16, and tiny.en took 4 times the CPU of fp32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
