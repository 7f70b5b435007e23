"""Step-level batching over a scripted engine: the jobs of each call, cancelling, failures and order."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from deployments.diffusion.batch import Batch
from deployments.diffusion.denoising import Decoded, Denoising, Generated
from deployments.diffusion.job import JobCancelled
from deployments.diffusion.memory import MemoryBudget
from deployments.diffusion.preview import has_preview
from deployments.errors import InvalidInput, ModelUnavailable
from deployments.roles.text_to_image import GenerateRequest, Preview, Step

pytestmark = pytest.mark.torch


class ScriptedEngine:
    """Model that records the prompts of each call. A call waits for `permits`; a prompt can fail in a method named in `failures`."""

    threads = 1

    def __init__(self, **failures: str) -> None:
        self.calls: list[list[str]] = []
        self.started = 0
        """Return the calls that have started: the last of them may wait for a permit."""
        self.decoded: list[list[str]] = []
        self.permits, self.finished = threading.Semaphore(0), threading.Semaphore(0)
        self.failures = failures

    def size(self, request: GenerateRequest) -> tuple[int, int]:
        if request.width == 1:
            raise InvalidInput("width and height must be multiples of 8 for this model")
        return request.width or 8, request.height or 8

    def begin(self, request: GenerateRequest) -> Denoising:
        self._fail("begin", request.prompt)
        width, height = self.size(request)
        scheduler = SimpleNamespace(timesteps=range(request.steps or 0))
        latents = torch.zeros(1, 4, height // 8, width // 8)
        return Denoising(
            width, height, 1.0, False, scheduler, {"prompt": request.prompt}, latents, latents, torch.zeros(1, 1, 1), None
        )

    def predict(self, states: Sequence[Denoising]) -> list[torch.Tensor]:
        self.started += 1
        self.permits.acquire(timeout=10)
        prompts = self._prompts(states)
        self.calls.append(prompts)
        self.finished.release()
        for prompt in prompts:
            self._fail("predict", prompt)
        return [torch.zeros(1)] * len(states)

    def advance(self, state: Denoising, predicted: torch.Tensor) -> None:
        self._fail("advance", state.step_kwargs["prompt"])
        state.step += 1

    def wait(self) -> None:
        pass

    def preview(self, states: Sequence[Denoising]) -> list[Preview]:
        for prompt in self._prompts(states):
            self._fail("preview", prompt)
        return [Preview(state.step_kwargs["prompt"].encode(), state.width, state.height) for state in states]

    def decode(self, states: Sequence[Denoising]) -> list[Decoded]:
        prompts = self._prompts(states)
        self.decoded.append(prompts)
        for prompt in prompts:
            self._fail("decode", prompt)
        return [Decoded(np.zeros((state.height, state.width, 3), np.uint8), False) for state in states]

    def allow_call(self) -> None:
        self.permits.release()

    def _prompts(self, states: Sequence[Denoising]) -> list[str]:
        return [state.step_kwargs["prompt"] for state in states]

    def _fail(self, method: str, prompt: str) -> None:
        if self.failures.get(method) == prompt:
            raise ArithmeticError(f"{prompt} fails in {method}")


class RecordingWorker(ThreadPoolExecutor):
    """One thread that records the names of its calls."""

    def __init__(self) -> None:
        super().__init__(1)
        self.names: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.names.append(fn.__name__)
        return super().submit(fn, *args, **kwargs)


class WaitingEncoder(ThreadPoolExecutor):
    """One thread whose calls wait for `permit`."""

    def __init__(self) -> None:
        super().__init__(1, initializer=lambda: self.permit.wait(10))
        self.permit = threading.Event()


class Bench:
    """A batch over a scripted engine."""

    def __init__(
        self, max_batch: int = 8, budget: MemoryBudget | None = None, engine: ScriptedEngine | None = None, **executors: Any
    ) -> None:
        self.engine = engine or ScriptedEngine()
        self.steps_run = 0
        self.batch = Batch(self.engine, max_batch, budget, self._count, **executors)
        self.disconnected: set[str] = set()
        self.progress: dict[str, list[Step]] = {}

    def _count(self, steps: int) -> None:
        self.steps_run += steps

    def generate(self, prompt: str, steps: int = 3, silent: bool = False, **options: Any) -> asyncio.Task[Generated]:
        """`silent`: without progress."""
        progress = self.progress.setdefault(prompt, [])
        is_cancelled = functools.partial(self.disconnected.__contains__, prompt)
        request = GenerateRequest(prompt, steps=steps, **options)
        return asyncio.create_task(self.batch.generate(request, {}, is_cancelled, None if silent else progress.append))

    async def run_calls(self, calls: int) -> None:
        """Allow calls until there have been so many, and the next one has started."""
        while len(self.engine.calls) < calls:
            self.engine.allow_call()
            assert await asyncio.to_thread(self.engine.finished.acquire, timeout=10)
        for _ in range(100):  # there is no next one where all images are finished
            if self.engine.started > calls:
                break
            await asyncio.sleep(0.005)

    async def finish(self, *tasks: asyncio.Task[Generated]) -> list[Generated | BaseException]:
        for _ in range(1000):
            self.engine.allow_call()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_image_joins_at_the_next_step_and_leaves_after_its_last() -> None:
    bench = Bench()
    long = bench.generate("long", 5)
    await bench.run_calls(1)  # its second step is running now
    short = bench.generate("short", 2)
    await asyncio.sleep(0.02)
    first, second = await bench.finish(long, short)
    assert bench.engine.calls == [["long"], ["long"], ["long", "short"], ["long", "short"], ["long"]]
    assert isinstance(first, Generated)
    assert isinstance(second, Generated)
    times = first.image.compute_time, second.image.compute_time
    assert ([time.units for time in times], bench.steps_run) == ([5, 2], 7)
    assert [time.batch_size for time in times] == [7 / 5, 2.0]
    assert all(time.fixed_s > 0 and time.unit_s > 0 for time in times)


async def test_steps_run_back_to_back_where_no_job_needs_the_event_loop() -> None:
    worker = RecordingWorker()
    bench = Bench(worker=worker)
    assert isinstance((await bench.finish(bench.generate("silent", steps=5, silent=True)))[0], Generated)
    assert (worker.names, len(bench.engine.calls)) == (["_begin", "_denoise", "_decode"], 5)
    worker.names.clear()
    await bench.finish(bench.generate("with progress", steps=5))
    assert worker.names == ["_begin", *["_denoise"] * 5, "_decode"]


async def test_a_job_without_progress_still_lets_others_join_and_leaves_at_the_next_step() -> None:
    bench = Bench()
    first = bench.generate("first", steps=9, silent=True)
    await bench.run_calls(2)  # the third is running now
    second = bench.generate("second", steps=4, silent=True)
    await asyncio.sleep(0)  # now it waits
    await bench.run_calls(4)
    bench.disconnected.add("first")
    cancelled, generated = await bench.finish(first, second)
    assert isinstance(cancelled, JobCancelled)
    assert isinstance(generated, Generated)
    assert bench.engine.calls == [["first"]] * 3 + [["first", "second"]] * 2 + [["second"]] * 2
    assert cancelled.steps_saved == 4


async def test_images_that_end_together_are_decoded_together() -> None:
    bench = Bench()
    await bench.finish(*(bench.generate(prompt, 2) for prompt in "abc"))
    assert bench.engine.decoded == [["a", "b", "c"]]


async def test_a_finished_image_is_encoded_during_the_next_steps() -> None:
    encoder = WaitingEncoder()
    bench = Bench(encoder=encoder)
    short, long = bench.generate("short", 1), bench.generate("long", 4, format="webp")
    await bench.run_calls(4)
    assert bench.engine.calls == [["short", "long"], ["long"], ["long"], ["long"]]
    assert not short.done()
    encoder.permit.set()
    first, second = await bench.finish(short, long)
    assert isinstance(first, Generated)
    assert isinstance(second, Generated)
    assert first.image.encoded.startswith(b"\x89PNG")
    assert second.image.encoded.startswith(b"RIFF")


async def test_sizes_take_turns_and_a_stream_of_new_sizes_starves_none() -> None:
    bench = Bench(max_batch=3)
    tasks = [bench.generate("old", 4), bench.generate("wide", 4, width=16)]
    tasks += [bench.generate(f"tall {number}", 1, height=8 * number) for number in range(2, 12)]
    await bench.finish(*tasks)
    assert all(len(prompts) == 1 for prompts in bench.engine.calls)
    assert [prompts[0] for prompts in bench.engine.calls[:6]] == ["old", "wide", "tall 2", "old", "wide", "tall 3"]
    last = max(number for number, prompts in enumerate(bench.engine.calls) if prompts == ["old"])
    assert last <= 3 * 4, "each of the three sizes has every third call"
    assert len(bench.engine.calls) == 4 + 4 + 10


async def test_a_step_has_at_most_max_batch_images_and_the_rest_join_in_order() -> None:
    bench = Bench(max_batch=2)
    await bench.finish(*(bench.generate(prompt, 1) for prompt in "abcde"))
    assert bench.engine.calls == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_step_has_no_more_images_than_fit_memory_and_one_alone_always_runs() -> None:
    bench = Bench(budget=MemoryBudget(available_bytes=2.5 * 64 * 10, step_bytes_per_pixel=10, decode_bytes_per_pixel=0))
    tasks = [bench.generate(prompt, 1) for prompt in "abc"]
    tasks.append(bench.generate("huge", 1, width=800, height=800))
    assert all(isinstance(one, Generated) for one in await bench.finish(*tasks))
    assert [prompts for prompts in bench.engine.calls if "huge" not in prompts] == [["a", "b"], ["c"]]


async def test_images_wait_for_others_until_one_more_would_not_fit_and_then_join_at_the_next_step() -> None:
    bench = Bench(max_batch=3, max_delay_s=60)
    tasks = [bench.generate("a", 3)]
    await asyncio.sleep(0.05)  # the batch waits by now
    tasks += [bench.generate("b", 1), bench.generate("c", 1)]
    await bench.run_calls(1)
    tasks.append(bench.generate("d", 1))  # "a" is drawn
    await bench.finish(*tasks)
    assert bench.engine.calls == [["a", "b", "c"], ["a"], ["a", "d"]]


async def test_images_wait_for_others_as_far_as_they_fit_memory() -> None:
    budget = MemoryBudget(available_bytes=2.5 * 64 * 10, step_bytes_per_pixel=10, decode_bytes_per_pixel=0)
    bench = Bench(budget=budget, max_delay_s=60)
    tasks = [bench.generate("a", 1)]
    await asyncio.sleep(0.05)
    tasks.append(bench.generate("b", 1))
    await bench.finish(*tasks)
    assert bench.engine.calls == [["a", "b"]]


async def test_an_image_waits_for_others_no_longer_than_the_delay() -> None:
    bench = Bench(max_delay_s=0.05)
    generated = (await bench.finish(bench.generate("alone", 1)))[0]
    assert isinstance(generated, Generated)
    assert bench.engine.calls == [["alone"]]


async def test_a_request_cancelled_while_it_waits_for_others_ends_at_once() -> None:
    bench = Bench(max_delay_s=60)
    tasks = [bench.generate("left", 5), bench.generate("stays", 5)]
    await asyncio.sleep(0.05)
    bench.disconnected.add("left")
    cancelled = (await asyncio.gather(tasks[0], return_exceptions=True))[0]
    assert isinstance(cancelled, JobCancelled)
    assert (cancelled.steps_saved, bench.engine.calls) == (5, [])
    tasks[1].cancel()


async def test_a_cancelled_request_is_not_in_the_next_step_and_the_others_are() -> None:
    bench = Bench()
    first, second = bench.generate("first", 6), bench.generate("second", 4)
    await bench.run_calls(2)  # the third is running now
    bench.disconnected.add("first")
    cancelled, generated = await bench.finish(first, second)
    assert isinstance(cancelled, JobCancelled)
    assert isinstance(generated, Generated)
    assert bench.engine.calls == [["first", "second"]] * 3 + [["second"]]
    assert cancelled.steps_saved == 3
    assert bench.steps_run + cancelled.steps_saved == 6 + 4


async def test_a_request_cancelled_while_it_waits_never_starts() -> None:
    bench = Bench(max_batch=1)
    running, waiting = bench.generate("running", 3), bench.generate("waiting", 7)
    await bench.run_calls(1)
    bench.disconnected.add("waiting")
    _, cancelled = await bench.finish(running, waiting)
    assert isinstance(cancelled, JobCancelled)
    assert (cancelled.steps_saved, bench.engine.calls) == (7, [["running"]] * 3)


async def test_an_image_begins_once_it_has_a_place() -> None:
    bench = Bench(max_batch=1)
    before_ns = time.time_ns()
    running = bench.generate("running", 3)
    await bench.run_calls(1)
    submitted_ns = time.time_ns()
    waiting = bench.generate("waiting", 1)
    await bench.run_calls(2)
    still_ns = time.time_ns()
    first, second = await bench.finish(running, waiting)
    assert isinstance(first, Generated)
    assert isinstance(second, Generated)
    assert before_ns <= first.began_ns <= submitted_ns <= still_ns <= second.began_ns


async def test_cancelling_the_await_cancels_the_work() -> None:
    bench = Bench()
    first, second = bench.generate("first", 6), bench.generate("second", 3)
    await bench.run_calls(1)
    first.cancel()
    await bench.finish(first, second)
    assert bench.engine.calls == [["first", "second"]] * 2 + [["second"]]


@pytest.mark.parametrize("method", ["begin", "predict", "advance", "preview", "decode"])
async def test_a_failing_request_fails_alone(method: str) -> None:
    bench = Bench(engine=ScriptedEngine(**{method: "bad"}))
    good, bad, other = await bench.finish(*(bench.generate(prompt, 4, previews=1) for prompt in ("good", "bad", "other")))
    assert isinstance(good, Generated)
    assert isinstance(other, Generated)
    assert str(bad) == f"bad fails in {method}"
    assert isinstance((await bench.finish(bench.generate("next", 1)))[0], Generated)


async def test_a_bad_format_and_a_bad_size_fail_alone_too() -> None:
    bench = Bench()
    good, format, size = await bench.finish(
        bench.generate("good"), bench.generate("gif", format="gif"), bench.generate("size", width=1)
    )
    assert isinstance(good, Generated)
    assert isinstance(format, KeyError)
    assert isinstance(size, InvalidInput)


async def test_a_request_whose_progress_cannot_be_sent_fails_alone() -> None:
    bench = Bench()

    def broken(step: Step) -> None:
        raise BrokenPipeError(str(step.step))

    failing = asyncio.create_task(bench.batch.generate(GenerateRequest("failing", steps=3), {}, on_step=broken))
    generated, error = await bench.finish(bench.generate("good"), failing)
    assert isinstance(generated, Generated)
    assert isinstance(error, BrokenPipeError)
    assert str(error) == "1"


async def test_images_that_do_not_fit_memory_together_run_alone_and_one_that_still_does_not_is_refused() -> None:
    class Small(ScriptedEngine):
        def predict(self, states: Sequence[Denoising]) -> list[torch.Tensor]:
            if len(states) > 1 or states[0].step_kwargs["prompt"] == "large":
                raise torch.OutOfMemoryError
            return super().predict(states)

    bench = Bench(engine=Small())
    good, large = await bench.finish(bench.generate("good"), bench.generate("large"))
    assert isinstance(good, Generated)
    assert isinstance(large, ModelUnavailable)


async def test_a_defect_of_the_loop_itself_fails_every_job_and_the_next_one_runs() -> None:
    bench = Bench()
    count = bench.batch._on_steps
    bench.batch._on_steps = lambda steps: 1 // 0
    assert [type(one) for one in await bench.finish(*(bench.generate(prompt) for prompt in "ab"))] == [ZeroDivisionError] * 2
    bench.batch._on_steps = count
    assert isinstance((await bench.finish(bench.generate("next")))[0], Generated)


async def test_each_job_reports_its_own_steps_and_previews_and_the_event_loop_is_free_meanwhile() -> None:
    bench = Bench()
    first, second = bench.generate("first", 4, previews=1), bench.generate("second", 2)
    await asyncio.sleep(0.05)  # a call is running, and waits
    assert bench.progress == {"first": [], "second": []}
    await bench.finish(first, second)
    assert [(one.step, one.steps) for one in bench.progress["first"]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [one.preview for one in bench.progress["first"]] == [None, Preview(b"first", 8, 8), None, None]
    assert [(one.step, one.steps) for one in bench.progress["second"]] == [(1, 2), (2, 2)]
    assert bench.progress["first"][-1].eta_ms == 0 < bench.progress["first"][0].eta_ms


@pytest.mark.parametrize(("previews", "shown"), [(0, []), (1, [2]), (2, [1, 3]), (9, [0, 1, 2, 3, 4])])
def test_previews_are_spread_evenly_and_the_last_step_has_none(previews: int, shown: list[int]) -> None:
    assert [step for step in range(6) if has_preview(step, 6, previews)] == shown
