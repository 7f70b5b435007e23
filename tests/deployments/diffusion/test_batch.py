"""Step-level batching: who joins and leaves when, over an engine of known steps; and that a shared picture is the one drawn alone."""

import asyncio
import functools
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deployments.diffusion import DiffusionSettings
from deployments.diffusion.batch import Batch, Left
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.memory import Budget, free_bytes, peak_bytes
from deployments.diffusion.types import Denoising, Picture, Progress, Prompt
from deployments.errors import InvalidInput, ModelUnavailable
from testing.pipelines import pixels
from testing.random_pipelines import set_scheduler, write

WITHIN = 2
"""Of 255, in every channel."""


class Known:
    """An engine that keeps which pictures shared each call, by their texts. A call waits for `gate`, and a text can fail somewhere."""

    threads = 1

    def __init__(self, **fails: str) -> None:
        self.calls: list[list[str]] = []
        self.begun = 0
        """Calls that have begun: the last of them may wait for the gate."""
        self.decoded: list[list[str]] = []
        self.gate, self.began = threading.Semaphore(0), threading.Semaphore(0)
        self.fails = fails

    def size(self, prompt: Prompt) -> tuple[int, int]:
        if prompt.width == 1:
            raise InvalidInput("width and height must be multiples of 8 for this model")
        return prompt.width or 8, prompt.height or 8

    def begin(self, prompt: Prompt) -> Denoising:
        self._fail("begin", prompt.text)
        width, height = self.size(prompt)
        scheduler = SimpleNamespace(timesteps=range(prompt.steps))
        latents = torch.zeros(1, 4, height // 8, width // 8)
        return Denoising(width, height, 1.0, False, scheduler, {"text": prompt.text}, latents, torch.zeros(1, 1, 1), None)

    def predict(self, rows: Sequence[Denoising]) -> list[torch.Tensor]:
        self.begun += 1
        self.gate.acquire(timeout=10)
        texts = self._named(rows)
        self.calls.append(texts)
        self.began.release()
        for text in texts:
            self._fail("predict", text)
        return [torch.zeros(1)] * len(rows)

    def advance(self, row: Denoising, predicted: torch.Tensor) -> None:
        self._fail("advance", row.step_kwargs["text"])
        row.done += 1

    def preview(self, rows: Sequence[Denoising]) -> list[tuple[bytes, int, int]]:
        for text in self._named(rows):
            self._fail("preview", text)
        return [(row.step_kwargs["text"].encode(), row.width, row.height) for row in rows]

    def decode(self, rows: Sequence[Denoising]) -> list[tuple[NDArray[Any], bool]]:
        texts = self._named(rows)
        self.decoded.append(texts)
        for text in texts:
            self._fail("decode", text)
        return [(np.zeros((row.height, row.width, 3), np.uint8), False) for row in rows]

    def step(self) -> None:
        """Lets one call run."""
        self.gate.release()

    def _named(self, rows: Sequence[Denoising]) -> list[str]:
        return [row.step_kwargs["text"] for row in rows]

    def _fail(self, where: str, text: str) -> None:
        if self.fails.get(where) == text:
            raise ArithmeticError(f"{text} fails in {where}")


class Bench:
    def __init__(self, most: int = 8, budget: Budget | None = None, **fails: str) -> None:
        self.engine = Known(**fails)
        self.ran = 0
        self.batch = Batch(self.engine, most, budget, self._count)
        self.gone: set[str] = set()
        self.told: dict[str, list[Progress]] = {}

    def _count(self, steps: int) -> None:
        self.ran += steps

    def draw(self, text: str, steps: int = 3, previews: int = 0, **asked: Any) -> asyncio.Task[Picture]:
        told = self.told.setdefault(text, [])
        left = functools.partial(self.gone.__contains__, text)
        return asyncio.create_task(self.batch.draw(Prompt(text, steps=steps, **asked), {}, left, told.append, previews))

    async def called(self, calls: int) -> None:
        """Lets calls run until there have been so many, and the next one is about to."""
        while len(self.engine.calls) < calls:
            self.engine.step()
            assert await asyncio.to_thread(self.engine.began.acquire, timeout=10)
        for _ in range(100):  # where all is drawn, there is no next one
            if self.engine.begun > calls:
                break
            await asyncio.sleep(0.005)

    async def all(self, *drawn: asyncio.Task[Picture]) -> list[Picture | BaseException]:
        for _ in range(1000):
            self.engine.step()
        return await asyncio.gather(*drawn, return_exceptions=True)


async def test_a_picture_joins_at_the_next_step_and_leaves_at_its_last() -> None:
    bench = Bench()
    long = bench.draw("long", 5)
    await bench.called(1)  # its second is running now
    short = bench.draw("short", 2)
    await asyncio.sleep(0.02)
    first, second = await bench.all(long, short)
    assert bench.engine.calls == [["long"], ["long"], ["long", "short"], ["long", "short"], ["long"]]
    assert isinstance(first, Picture)
    assert isinstance(second, Picture)
    assert (first.steps, second.steps, bench.ran) == (5, 2, 7)
    assert (first.rows, second.rows) == (7 / 5, 2.0)
    assert 0 < first.denoise_s < first.compute_s


async def test_the_loop_is_asked_only_where_somebody_is_to_be_told_let_go_or_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, asked = Bench(), list[str]()
    work = bench.batch._work

    async def noted(what: Any, rows: Any) -> None:
        asked.append(what.__name__)
        await work(what, rows)

    monkeypatch.setattr(bench.batch, "_work", noted)
    drawn = asyncio.create_task(bench.batch.draw(Prompt("quiet", steps=5), {}))
    assert isinstance((await bench.all(drawn))[0], Picture)
    assert (asked, len(bench.engine.calls)) == (["_begin", "_denoise", "_decode"], 5)
    asked.clear()
    await bench.all(bench.draw("told", steps=5))
    assert asked == ["_begin", *["_denoise"] * 5, "_decode"]


async def test_who_is_told_nothing_lets_others_in_and_leaves_at_the_next_step_all_the_same() -> None:
    bench = Bench()
    quiet = asyncio.create_task(bench.batch.draw(Prompt("quiet", steps=9), {}, lambda: "quiet" in bench.gone))
    await bench.called(2)  # the third is running now
    comes = asyncio.create_task(bench.batch.draw(Prompt("comes", steps=4), {}))
    await asyncio.sleep(0)  # now it waits
    await bench.called(4)
    bench.gone.add("quiet")
    left, picture = await bench.all(quiet, comes)
    assert isinstance(left, Left)
    assert isinstance(picture, Picture)
    assert bench.engine.calls == [["quiet"]] * 3 + [["quiet", "comes"]] * 2 + [["comes"]] * 2
    assert left.steps == 4


async def test_pictures_that_end_together_are_decoded_together() -> None:
    bench = Bench()
    await bench.all(*(bench.draw(text, 2) for text in "abc"))
    assert bench.engine.decoded == [["a", "b", "c"]]


async def test_a_finished_picture_is_compressed_beside_the_next_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    may, bench = threading.Event(), Bench()
    monkeypatch.setattr(
        "deployments.diffusion.batch.encode", lambda pixels, format, notes: str(may.wait(10)).encode() + format.encode()
    )
    short, long = bench.draw("short", 1), bench.draw("long", 4, format="webp")
    await bench.called(4)
    assert bench.engine.calls == [["short", "long"], ["long"], ["long"], ["long"]]
    assert not short.done()
    may.set()
    first, second = await bench.all(short, long)
    assert isinstance(first, Picture)
    assert isinstance(second, Picture)
    assert (first.encoded, second.encoded) == (b"Truepng", b"Truewebp")


async def test_sizes_take_turns_and_a_stream_of_new_sizes_starves_nobody() -> None:
    bench = Bench(most=3)
    drawn = [bench.draw("old", 4), bench.draw("wide", 4, width=16)]
    drawn += [bench.draw(f"tall {number}", 1, height=8 * number) for number in range(2, 12)]
    await bench.all(*drawn)
    assert all(len(texts) == 1 for texts in bench.engine.calls)
    assert [texts[0] for texts in bench.engine.calls[:6]] == ["old", "wide", "tall 2", "old", "wide", "tall 3"]
    last = max(number for number, texts in enumerate(bench.engine.calls) if texts == ["old"])
    assert last <= 3 * 4, "each of the three has every third call"
    assert len(bench.engine.calls) == 4 + 4 + 10


async def test_no_more_share_a_step_than_the_bound_and_the_rest_are_taken_in_order() -> None:
    bench = Bench(most=2)
    await bench.all(*(bench.draw(text, 1) for text in "abcde"))
    assert bench.engine.calls == [["a", "b"], ["c", "d"], ["e"]]


async def test_no_more_share_a_step_than_memory_holds_and_one_alone_always_does() -> None:
    bench = Bench(budget=Budget(bytes=2.5 * 64 * 10, per_pixel=10))
    drawn = [bench.draw(text, 1) for text in "abc"]
    drawn.append(bench.draw("huge", 1, width=800, height=800))
    assert all(isinstance(one, Picture) for one in await bench.all(*drawn))
    assert [texts for texts in bench.engine.calls if "huge" not in texts] == [["a", "b"], ["c"]]


async def test_who_leaves_is_not_in_the_next_step_and_the_others_are() -> None:
    bench = Bench()
    leaves, stays = bench.draw("leaves", 6), bench.draw("stays", 4)
    await bench.called(2)  # the third is running now
    bench.gone.add("leaves")
    left, picture = await bench.all(leaves, stays)
    assert isinstance(left, Left)
    assert isinstance(picture, Picture)
    assert bench.engine.calls == [["leaves", "stays"]] * 3 + [["stays"]]
    assert left.steps == 3
    assert bench.ran + left.steps == 6 + 4


async def test_who_leaves_while_waiting_never_starts() -> None:
    bench = Bench(most=1)
    runs, waits = bench.draw("runs", 3), bench.draw("waits", 7)
    await bench.called(1)
    bench.gone.add("waits")
    _, left = await bench.all(runs, waits)
    assert isinstance(left, Left)
    assert (left.steps, bench.engine.calls) == (7, [["runs"]] * 3)


async def test_an_await_that_is_cancelled_is_leaving_too() -> None:
    bench = Bench()
    leaves, stays = bench.draw("leaves", 6), bench.draw("stays", 3)
    await bench.called(1)
    leaves.cancel()
    await bench.all(leaves, stays)
    assert bench.engine.calls == [["leaves", "stays"]] * 2 + [["stays"]]


@pytest.mark.parametrize("where", ["begin", "predict", "advance", "preview", "decode"])
async def test_what_fails_fails_alone(where: str) -> None:
    bench = Bench(**{where: "bad"})
    good, bad, other = await bench.all(*(bench.draw(text, 4, previews=1) for text in ("good", "bad", "other")))
    assert isinstance(good, Picture)
    assert isinstance(other, Picture)
    assert str(bad) == f"bad fails in {where}"
    assert isinstance((await bench.all(bench.draw("next", 1)))[0], Picture)


async def test_a_bad_format_and_a_bad_size_fail_alone_too() -> None:
    bench = Bench()
    good, format, size = await bench.all(bench.draw("good"), bench.draw("gif", format="gif"), bench.draw("size", width=1))
    assert isinstance(good, Picture)
    assert isinstance(format, KeyError)
    assert isinstance(size, InvalidInput)


async def test_who_cannot_be_told_of_a_step_fails_alone() -> None:
    bench = Bench()

    def deaf(progress: Progress) -> None:
        raise BrokenPipeError(str(progress.done))

    told = asyncio.create_task(bench.batch.draw(Prompt("deaf", steps=3), {}, tell=deaf))
    picture, error = await bench.all(bench.draw("good"), told)
    assert isinstance(picture, Picture)
    assert isinstance(error, BrokenPipeError)
    assert str(error) == "1"


async def test_memory_that_runs_out_is_tried_alone_and_then_said() -> None:
    class Small(Known):
        def predict(self, rows: Sequence[Denoising]) -> list[torch.Tensor]:
            if len(rows) > 1 or rows[0].step_kwargs["text"] == "large":
                raise torch.OutOfMemoryError
            return super().predict(rows)

    bench = Bench()
    bench.batch = Batch(Small(), 8)
    bench.engine = bench.batch._engine
    good, large = await bench.all(bench.draw("good"), bench.draw("large"))
    assert isinstance(good, Picture)
    assert isinstance(large, ModelUnavailable)


async def test_a_defect_of_the_loop_itself_leaves_nobody_waiting() -> None:
    bench = Bench()
    bench.batch._count = lambda steps: 1 // 0
    assert [type(one) for one in await bench.all(*(bench.draw(text) for text in "ab"))] == [ZeroDivisionError] * 2
    bench.batch._count = lambda steps: None
    assert isinstance((await bench.all(bench.draw("next")))[0], Picture)


async def test_each_is_told_its_own_steps_and_previews_and_the_loop_is_free_meanwhile() -> None:
    bench = Bench()
    first, second = bench.draw("first", 4, previews=1), bench.draw("second", 2)
    await asyncio.sleep(0.05)  # a call is running, and waits
    assert bench.told == {"first": [], "second": []}
    await bench.all(first, second)
    assert [(one.done, one.of) for one in bench.told["first"]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [one.preview for one in bench.told["first"]] == [None, (b"first", 8, 8), None, None]
    assert [(one.done, one.of) for one in bench.told["second"]] == [(1, 2), (2, 2)]
    assert bench.told["first"][-1].eta_ms == 0 < bench.told["first"][0].eta_ms


# The real loop


@pytest.fixture(scope="module")
def builtin() -> DiffusionEngine:
    return DiffusionEngine(DiffusionSettings().model)


MIXED = [
    Prompt("a red apple", steps=9, seed=1),
    Prompt("a cat", steps=4, guidance_scale=1.0, seed=2),
    Prompt("a blue house", "dark, blurry", steps=12, guidance_scale=7.5, seed=3),
    Prompt("a tree", steps=6, guidance_scale=0.0, seed=4, width=96, height=64),
    Prompt("a red apple", steps=7, seed=4294967295, width=96, height=64),
    Prompt("a fish", steps=1, seed=6),
    Prompt("a yellow boat", steps=5, guidance_scale=4.0, seed=7, width=64, height=96),
    Prompt("a dog", steps=10, seed=8),
]


async def together(engine: DiffusionEngine, prompts: Sequence[Prompt], most: int = 8) -> tuple[list[Picture], int]:
    """Each joins a step after the one before it, and one that leaves early is among them. With the greatest batch."""
    shared: list[int] = []
    stepped, loop = asyncio.Event(), asyncio.get_running_loop()

    def count(rows: int) -> None:
        shared.append(rows)
        loop.call_soon_threadsafe(stepped.set)

    async def step() -> None:
        stepped.clear()
        async with asyncio.timeout(60):
            await stepped.wait()

    batch = Batch(engine, most, count=count)
    drawn: list[asyncio.Task[Picture]] = []
    drawn.append(asyncio.create_task(batch.draw(prompts[0], {})))
    leaves = asyncio.create_task(batch.draw(replace(prompts[0], seed=99, steps=50), {}))
    for prompt in prompts[1:]:
        await step()
        drawn.append(asyncio.create_task(batch.draw(prompt, {})))
    await step()
    await step()
    leaves.cancel()
    pictures = await asyncio.gather(*drawn)
    batch.close()
    return pictures, max(shared)


def differences(engine: DiffusionEngine, prompts: Sequence[Prompt], pictures: Sequence[Picture]) -> list[int]:
    """The greatest of any channel, from the picture that is drawn alone."""
    alone = [pixels(engine.generate(prompt, {})).astype(int) for prompt in prompts]
    return [int(np.abs(one - pixels(picture)).max()) for one, picture in zip(alone, pictures, strict=True)]


@pytest.mark.parametrize("order", [1, -1])
async def test_a_picture_of_a_mixed_batch_is_the_one_that_is_drawn_alone(builtin: DiffusionEngine, order: int) -> None:
    prompts = MIXED[::order]
    pictures, most = await together(builtin, prompts)
    assert most >= 3
    assert max(differences(builtin, prompts, pictures)) <= WITHIN
    assert len({picture.encoded for picture in pictures}) == len(prompts)


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [
        ("sd", "EulerAncestralDiscreteScheduler"),
        ("sd", "PNDMScheduler"),
        ("sdxl", "DPMSolverMultistepScheduler"),
        ("sdxl", "EulerDiscreteScheduler"),
    ],
)
async def test_other_pipelines_and_schedulers_keep_their_pictures_apart_too(kind: str, scheduler: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    set_scheduler(tmp_path, scheduler)
    engine = DiffusionEngine(str(tmp_path))
    pictures, most = await together(engine, MIXED[:5])
    assert most >= 2
    assert max(differences(engine, MIXED[:5], pictures)) <= WITHIN


def test_what_has_no_guidance_takes_half_of_the_unets_batch(builtin: DiffusionEngine) -> None:
    sizes: list[int] = []
    hook = builtin._pipeline.unet.register_forward_pre_hook(lambda unet, given: sizes.append(len(given[0])))
    scales = (3.0, 1.0, 0.0, 7.5)
    builtin.step([builtin.begin(Prompt("a cat", guidance_scale=scale)) for scale in scales])
    hook.remove()
    assert sizes == [2 + 1 + 1 + 2]


def test_a_text_is_encoded_once_and_few_are_kept(builtin: DiffusionEngine) -> None:
    encoded: list[int] = []
    hook = builtin._pipeline.text_encoder.register_forward_hook(lambda *given: encoded.append(1))
    for seed in range(3):
        builtin.begin(Prompt("a green frog", "a negative of its own", seed=seed))
    assert len(encoded) == 2
    for number in range(40):
        builtin.begin(Prompt(f"thing {number}", guidance_scale=0))
    builtin.begin(Prompt("a green frog", guidance_scale=0))
    hook.remove()
    assert len(encoded) == 2 + 40 + 1


# Memory


def test_the_peak_is_what_lives_at_once() -> None:
    kib = 256  # floats

    def work() -> None:
        one = torch.zeros(kib)
        view = one.view(16, 16)
        two = view + 1
        del one, view
        del two
        torch.zeros(kib)

    assert peak_bytes(work) == 2 * 1024


def test_what_one_picture_takes_grows_with_the_model(builtin: DiffusionEngine, tmp_path: Path) -> None:
    write(tmp_path, "sd")
    small, large = Budget.of(DiffusionEngine(str(tmp_path))), Budget.of(builtin)
    assert 0 < small.per_pixel < large.per_pixel
    assert 0 < large.bytes < free_bytes("cpu")


def test_a_budget_always_holds_one() -> None:
    budget = Budget(bytes=1000, per_pixel=1)
    assert [budget.holds(count, 400) for count in (1, 2, 3)] == [True, True, False]
    assert budget.holds(1, 4000)


def test_what_is_free_is_bounded_by_the_containers_limit(tmp_path: Path) -> None:
    whole = free_bytes("cpu", tmp_path)
    assert whole > 2**24
    (tmp_path / "memory.stat").write_text("anon 3145728\nfile 4096\nshmem 1048576\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes("cpu", tmp_path) == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{10 * 2**20}\n")
    assert free_bytes("cpu", tmp_path) == 6 * 2**20
