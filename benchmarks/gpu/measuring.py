"""Time, memory, idleness and waits of a device, and the machine that it is in."""

import gc
import hashlib
import platform
import shutil
import statistics
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from deployments.diffusion.memory import peak_bytes as live_peak_bytes

ROOT = Path(__file__).parents[2]
ENGINES = ("deployments/whisper", "deployments/diffusion", "deployments/torch_runtime.py", "benchmarks/gpu")
"""Files that the results depend on; their digest is in the record."""

Work = Callable[[], object]


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def release() -> None:
    """Free the memory of models that nothing names: an engine and its caches refer to each other, and would wait for Python's collector."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def seconds(work: Work, device: str) -> float:
    """Wall time of the work, until the device has done it."""
    wait(device)
    began_s = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began_s


def alternate(sides: Mapping[str, Work], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each side, which run in turns, in an order that alternates. The caller has warmed them up."""
    took_s: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in list(sides) if repeat % 2 == 0 else reversed(list(sides)):
            took_s[name].append(seconds(sides[name], device))
    return took_s


def rates(took_s: Mapping[str, Sequence[float]], amount: float) -> dict[str, dict[str, float]]:
    """`amount` for a second of each side: the median, the least and the greatest."""
    return {
        name: {
            "median": amount / statistics.median(some),
            "least": amount / max(some),
            "greatest": amount / min(some),
        }
        for name, some in took_s.items()
    }


def peak_bytes(work: Work, device: str) -> int:
    """Most memory that the work's tensors hold at once, above what is held before: by torch's allocator on a GPU, which counts the
    operators' own buffers too; without one by the tensors that operators return."""
    if device == "cpu":
        return live_peak_bytes(work)
    wait(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    wait(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def busy(work: Work, device: str) -> dict[str, float] | None:
    """The share of the wall time in which the GPU computes or copies, by torch's profiler; None without a GPU."""
    if device == "cpu":
        work()
        return None
    wait(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        began_s = time.perf_counter()
        work()
        wait(device)
        wall_s = time.perf_counter() - began_s
    on_gpu = [(event.time_range.start, event.time_range.end) for event in profiler.events() if event.device_type.name == "CUDA"]
    busy_s = covered(on_gpu) / 1e6
    # The profiler slows the host, so the wall time without it counts where it is shorter than the traced one.
    plain_s = min(wall_s, seconds(work, device))
    return {"share": min(1.0, busy_s / plain_s), "traced_share": busy_s / wall_s, "kernels": len(on_gpu), "wall_s": plain_s}


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def waits(work: Work, device: str) -> dict[str, int] | None:
    """How often the host waits for the GPU, by the line of code that does; None without a GPU. Explicit waits are not reported by torch."""
    if device == "cpu":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return dict(Counter(f"{_short(one.filename)}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)))


def error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Distance by the reference's length, in float64; infinite where a number is not finite."""
    found, reference = found.double().cpu(), reference.double().cpu()
    distance = float((found - reference).norm() / reference.norm())
    return distance if distance == distance else float("inf")


def machine(device: str) -> dict[str, Any]:
    """The card, the driver, the versions and the code: results of one machine and code may be continued."""
    on_gpu = device != "cpu"
    return {
        "card": torch.cuda.get_device_name(device) if on_gpu else f"CPU: {platform.processor() or platform.machine()}",
        "card_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1) if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "commit": _commit(),
        "code_sha256": _code_digest(),
    }


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()


def _commit() -> str:
    """Empty where this is no checkout: `code_sha256` names the code then."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _code_digest() -> str:
    files = sorted(
        file for place in ENGINES for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-3:])
