"""Step-level batching, as the service has it, and its peer, request-level batching: for `benchmarks.steps` and `benchmarks.gpu`."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from deployments.diffusion.batch import Batch
from deployments.diffusion.encode import encode
from deployments.roles.text_to_image import GenerateRequest, Step

Generate = Callable[[GenerateRequest], Awaitable[Any]]


class StepLevel:
    """The service's batch, with a record of its batch sizes and first steps."""

    def __init__(self, engine: Any, limit: int) -> None:
        self.batch_sizes: list[int] = []
        self.to_first: list[float] = []
        """Time from each request to the end of its first step, in units of its own average step."""
        self._batch = Batch(engine, limit, on_steps=self.batch_sizes.append)

    async def generate(self, request: GenerateRequest) -> None:
        started_s, first_s = time.perf_counter(), list[float]()

        def on_step(step: Step) -> None:
            if step.step == 1:
                first_s.append(time.perf_counter())

        generated = await self._batch.generate(request, {}, on_step=on_step)
        self.to_first.append((first_s[0] - started_s) / generated.image.compute_time.unit_s)


class RequestLevel:
    """Images that begin together are a batch until the last has ended. All are returned then, or each when it ends."""

    def __init__(self, engine: Any, limit: int, each_when_it_ends: bool = False) -> None:
        self._limit = limit
        self._each_when_it_ends = each_when_it_ends
        self._engine = engine
        self._waiting: deque[tuple[GenerateRequest, asyncio.Future[None]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(1, "diffusion", torch.set_num_threads, (engine.threads,))

    async def generate(self, request: GenerateRequest) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((request, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            await loop.run_in_executor(self._worker, self._denoise, batch, loop)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _denoise(self, batch: list[tuple[GenerateRequest, asyncio.Future[None]]], loop: asyncio.AbstractEventLoop) -> None:
        running = [(self._engine.begin(request), request, done) for request, done in batch]
        while running:
            self._engine.step([state for state, _, _ in running])
            ended = [one for one in running if one[0].step == one[0].steps]
            running = [one for one in running if one[0].step < one[0].steps]
            if ended:
                decoded = self._engine.decode([state for state, _, _ in ended])
                for (pixels, _), (_, request, done) in zip(decoded, ended, strict=True):
                    encode(pixels, request.format, {})
                    if self._each_when_it_ends:
                        loop.call_soon_threadsafe(done.set_result, None)


async def saturate(
    generate: Generate, request: Callable[[int], GenerateRequest], clients: int, images: int
) -> tuple[float, float]:
    """CPU seconds and wall seconds of `images` by so many clients that never pause. `request`: that of each number."""
    numbers = iter(range(images))

    async def client() -> None:
        for number in numbers:
            await generate(request(number))

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.process_time() - cpu_s, time.perf_counter() - wall_s
