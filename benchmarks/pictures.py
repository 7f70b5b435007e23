"""CPU of four pictures of one request, drawn together, beside one picture: `python -m benchmarks.pictures`.

The diffusion deployment's class and its Triton server run in this process and its stub, without Ray; `graphs.pictures.draw` sends the
pictures. CPU is that of this process and the stub, encoding included, less their idle cost. A pair is one picture and four, in turns.
"""

import argparse
import asyncio
import io
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from rich.console import Console

from benchmarks.measure import Idle, cpu_s, interval, record, tree
from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.roles.text_to_image import GenerateRequest, Image
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.pictures import draw, requests

RESULTS = Path("benchmarks/results/pictures.json")
N = 4
GOAL = 2.5
TOLERANCE = 2
"""Of 255, in every channel, between a picture of a batch and the one drawn alone, as in the tests of batches."""


def _pixels(image: Image) -> Any:
    return np.asarray(Pillow.open(io.BytesIO(image.encoded))).astype(int)


def together(pairs: int) -> dict[str, Any]:
    """Measure both in turns; return the ratio's median and interval, and the quality."""
    warnings.filterwarnings("ignore", "coroutine 'ModelDeployment.__del__'")  # only Serve awaits it
    with asyncio.Runner() as runner:
        diffusion = Diffusion(DiffusionSettings())

        async def stage(request: GenerateRequest, context: RequestContext) -> Image:
            return await diffusion.run(request, context.time_left)

        def drawn(seed: int, n: int) -> list[Image]:
            each = requests(GenerateRequest("a red apple", seed=seed), n)
            return runner.run(draw(stage, each, RequestContext("benchmark", TimeLeft(300))))

        warm = {n: drawn(0, n) for n in (1, N)}
        assert [len(images) for images in warm.values()] == [1, N]
        processes = tree(os.getpid())
        idle = Idle(processes, 5).cpu_per_s
        used_s: dict[int, list[float]] = {1: [], N: []}
        batches, different, equal = list[float](), 0, 0
        for number in range(pairs):
            found = dict[int, list[Image]]()
            for n in (1, N) if number % 2 == 0 else (N, 1):
                began_s, began_cpu_s = time.perf_counter(), cpu_s(processes)
                found[n] = drawn(number * N, n)
                used_s[n].append(cpu_s(processes) - began_cpu_s - idle * (time.perf_counter() - began_s))
            batches += [image.compute_time.batch_size for image in found[N]]
            alone = [*found[1], *(drawn(number * N + index, 1)[0] for index in range(1, N))]
            for one, other in zip(alone, found[N], strict=True):
                different = max(different, int(np.abs(_pixels(one) - _pixels(other)).max()))
                equal += one.encoded == other.encoded
        runner.run(diffusion.close())
    ratios = [four / one for one, four in zip(used_s[1], used_s[N], strict=True)]
    low, high = interval(ratios)
    return {
        "n": N,
        "pairs": pairs,
        "cpu_s": {str(n): round(statistics.median(values), 3) for n, values in used_s.items()},
        "ratio": round(statistics.median(ratios), 2),
        "interval": [round(low, 2), round(high, 2)],
        "met": high < GOAL and different <= TOLERANCE,
        "images in a step": round(statistics.mean(batches), 2),
        "greatest difference from alone, of 255": different,
        "equal to alone, byte for byte": f"{equal} of {pairs * N}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    record(RESULTS, {"together": together}, ["together"], parser.parse_args().pairs, Console(width=120))
    print(RESULTS.read_text())
