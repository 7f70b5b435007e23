"""Step-level batching over the engine, in one asyncio loop: an image joins at the next denoising step and leaves after its last.

Images of one size share a call of the UNet, whatever their steps, seeds, guidance and prompts; sizes take turns. All of torch runs
in one worker thread, so that the event loop can accept and cancel requests meanwhile; finished pixels are encoded in another
thread, at the same time as the next steps. Knows neither Triton nor Ray.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from deployments.diffusion.denoising import Decoded, Denoising, Generated
from deployments.diffusion.encode import encode
from deployments.diffusion.engine import translate_error
from deployments.diffusion.job import Job
from deployments.diffusion.memory import MemoryBudget
from deployments.roles.text_to_image import GenerateRequest, Image, Preview, Step
from deployments.torch_runtime import set_threads

log = logging.getLogger("sonograph")
CANCEL_POLL_S = 0.1
"""A job that waits for others is asked so often whether it is cancelled."""


class Engine(Protocol):
    """The part of `DiffusionEngine` that a batch needs."""

    threads: int

    def size(self, request: GenerateRequest) -> tuple[int, int]: ...
    def begin(self, request: GenerateRequest) -> Denoising: ...
    def predict(self, states: Sequence[Denoising]) -> list[torch.Tensor]: ...
    def advance(self, state: Denoising, predicted: torch.Tensor) -> None: ...
    def wait(self) -> None: ...
    def preview(self, states: Sequence[Denoising]) -> list[Preview]: ...
    def decode(self, states: Sequence[Denoising]) -> list[Decoded]: ...


class Batch:
    """Images that are denoised together, and those that wait for a place, first come, first served."""

    def __init__(
        self,
        engine: Engine,
        max_batch: int,
        budget: MemoryBudget | None = None,
        on_steps: Callable[[int], None] = lambda steps: None,
        worker: Executor | None = None,
        encoder: Executor | None = None,
        max_delay_s: float = 0.0,
    ) -> None:
        """`max_batch`: most images at once; fewer where `budget` requires it. `max_delay_s`: longest time that an image waits for
        others, while none is drawn.

        `on_steps` is called in the worker thread with the number of denoising steps that run next. `worker` and `encoder`: of one
        thread each.
        """
        self._engine = engine
        self._max_batch = max_batch
        self._budget = budget
        self._max_delay_s = max_delay_s
        self._on_steps = on_steps
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._running: list[Job] = []
        """In denoising; the job at the front has waited longest for its next step."""
        self._loop: asyncio.Task[None] | None = None
        self._worker = worker or ThreadPoolExecutor(1, "diffusion", set_threads, (engine.threads,))
        self._encoder = encoder or ThreadPoolExecutor(1, "encode")

    async def generate(
        self,
        request: GenerateRequest,
        metadata: Mapping[str, str],
        is_cancelled: Callable[[], bool] = lambda: False,
        on_step: Callable[[Step], None] | None = None,
    ) -> Generated:
        """Generate one image. `is_cancelled` is called before each step; `on_step` after each, `request.previews` times with a preview.

        `metadata` becomes a PNG's text chunks. Raises JobCancelled, InvalidInput, ModelUnavailable. Cancelling the await ends the work too.
        """
        job = Job(request, self._engine.size(request), is_cancelled, on_step)
        self._waiting.append(job)
        self._arrived.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        pixels, flagged = await job.decoded
        encoded, encode_s = await asyncio.get_running_loop().run_in_executor(
            self._encoder, _encode, pixels, request.format, metadata
        )
        return Generated(_image(job, encoded, encode_s), flagged, job.began_ns)

    def close(self) -> None:
        """End the threads after the calls that they are in."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._encoder.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        try:
            while self._waiting or self._running:
                self._remove_ended()
                if not self._running:
                    await self._gather()
                await self._join()
                if self._running:
                    await self._step()
        except Exception as error:
            log.exception("the batch failed")
            for job in (*self._waiting, *self._running):
                job.outcome = error
                job.resolve()
            self._waiting.clear()
            self._running.clear()

    def _remove_ended(self) -> None:
        """Remove finished, failed and cancelled jobs."""
        self._waiting = deque(job for job in self._waiting if not job.resolve())
        self._running = [job for job in self._running if not job.resolve()]

    async def _gather(self) -> None:
        """Wait until the first of the waiting jobs has waited for the longest delay, or one more would not fit."""
        while self._waiting and self._fits(self._waiting, self._waiting[-1]):
            left_s = self._waiting[0].arrived_s + self._max_delay_s - time.perf_counter()
            if left_s <= 0:
                return
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), min(left_s, CANCEL_POLL_S))
            self._remove_ended()

    async def _join(self) -> None:
        """Move waiting jobs into the batch, in their order, while the next one fits."""
        joining: list[Job] = []
        while self._waiting and self._fits([*self._running, *joining], self._waiting[0]):
            joining.append(self._waiting.popleft())
        if joining:
            self._running += joining  # before the call: a failure of the batch must reach them
            await self._in_worker(self._begin, joining)
            self._remove_finished()

    def _fits(self, jobs: Sequence[Job], job: Job) -> bool:
        same_size = sum(other.size == job.size for other in jobs)
        in_memory = self._budget is None or self._budget.fits(same_size + 1, job.size[0] * job.size[1])
        return len(jobs) < self._max_batch and in_memory

    async def _step(self) -> None:
        """Run the next call of the UNet, or calls, for all jobs with the front one's batch key, and move these to the back."""
        key = self._running[0].state.batch_key
        jobs = [job for job in self._running if job.state.batch_key == key]
        self._running = [job for job in self._running if job.state.batch_key != key] + jobs
        await self._in_worker(self._denoise, jobs)
        if previewed := [job for job in jobs if job.outcome is None and job.wants_preview()]:
            await self._in_worker(self._preview, previewed)
        for job in jobs:
            self._report(job)
        if finished := [job for job in jobs if job.outcome is None and not job.decoded.done() and job.steps_left == 0]:
            await self._in_worker(self._decode, finished)
        self._remove_finished()

    def _remove_finished(self) -> None:
        """Remove finished and failed jobs."""
        self._running = [job for job in self._running if job.outcome is None or not job.resolve()]

    def _report(self, job: Job) -> None:
        preview, job.preview = job.preview, None
        if job.outcome is None and job.on_step is not None and not job.decoded.done():
            step, steps = job.state.step, job.state.steps
            eta_ms = (time.perf_counter() - job.first_step_s) / step * (steps - step) * 1000
            try:
                job.on_step(Step(step, steps, eta_ms, preview))
            except Exception as error:
                job.outcome = error

    async def _in_worker(self, work: Callable[[list[Job]], None], jobs: list[Job]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, work, jobs)

    # In the worker thread:

    def _begin(self, jobs: list[Job]) -> None:
        for job in jobs:
            started_s, job.began_ns = time.perf_counter(), time.time_ns()
            try:
                job.started = self._engine.begin(job.request)
            except Exception as error:
                job.outcome = translate_error(error)
            job.fixed_s += time.perf_counter() - started_s

    def _denoise(self, jobs: list[Job]) -> None:
        """Run steps back to back while no job needs the event loop: the round trip would slow a client that is alone."""
        self._denoise_once(jobs)
        while len(jobs) == len(self._running) and not self._waiting and not any(job.needs_event_loop() for job in jobs):
            self._denoise_once(jobs)

    def _denoise_once(self, jobs: list[Job]) -> None:
        self._on_steps(len(jobs))
        started_s = time.perf_counter()
        for job, predicted in zip(jobs, _together_or_alone(self._engine.predict, jobs), strict=True):
            job.first_step_s = job.first_step_s or started_s
            job.batch_sizes += len(jobs)
            if isinstance(predicted, Exception):
                job.outcome = predicted
                continue
            try:
                self._engine.advance(job.state, predicted)
            except Exception as error:
                job.outcome = translate_error(error)
        self._engine.wait()
        for job in jobs:
            job.denoise_s += time.perf_counter() - started_s

    def _preview(self, jobs: list[Job]) -> None:
        started_s = time.perf_counter()
        for job, preview in zip(jobs, _together_or_alone(self._engine.preview, jobs), strict=True):
            if isinstance(preview, Exception):
                job.outcome = preview
            else:
                job.preview = preview
        for job in jobs:
            job.fixed_s += time.perf_counter() - started_s

    def _decode(self, jobs: list[Job]) -> None:
        started_s = time.perf_counter()
        for job, decoded in zip(jobs, _together_or_alone(self._engine.decode, jobs), strict=True):
            job.outcome = decoded
        for job in jobs:
            job.fixed_s += time.perf_counter() - started_s


def _together_or_alone[Result](
    work: Callable[[Sequence[Denoising]], Sequence[Result]], jobs: Sequence[Job]
) -> list[Result | Exception]:
    """The results of one call for all; where it fails, those of one call each, so that an error fails its own job alone."""
    try:
        return [*work([job.state for job in jobs])]
    except Exception as error:
        if len(jobs) == 1:
            return [translate_error(error)]
        return [_together_or_alone(work, [job])[0] for job in jobs]


def _encode(pixels: NDArray[Any], format: str, metadata: Mapping[str, str]) -> tuple[bytes, float]:
    """The encoded image, and the seconds that it took."""
    started_s = time.perf_counter()
    encoded = encode(pixels, format, metadata)
    return encoded, time.perf_counter() - started_s


def _image(job: Job, encoded: bytes, encode_s: float) -> Image:
    state = job.state
    return Image(
        encoded,
        state.width,
        state.height,
        state.prompt_truncated,
        encode_ms=encode_s * 1000,
        compute_time=job.compute_time(encode_s),
    )
