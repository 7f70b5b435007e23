"""Step-level batching over the engine, in one asyncio loop: a picture joins at the next denoising step and leaves at its last.

Pictures of one size share a call of the UNet, whatever their steps, seeds, guidance and prompts; sizes take turns. All of torch
runs in one worker thread, so that the loop sees who comes and who leaves; finished pixels are compressed in another, beside the next
steps. Knows neither Triton nor Ray.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from deployments.diffusion.encode import encode
from deployments.diffusion.engine import known
from deployments.diffusion.memory import Budget
from deployments.diffusion.types import Denoising, Picture, Progress, Prompt
from deployments.torch_runtime import set_threads

log = logging.getLogger("sonograph")


class Engine(Protocol):
    """What it needs of `DiffusionEngine`."""

    threads: int

    def size(self, prompt: Prompt) -> tuple[int, int]: ...
    def begin(self, prompt: Prompt) -> Denoising: ...
    def predict(self, rows: Sequence[Denoising]) -> list[torch.Tensor]: ...
    def advance(self, row: Denoising, predicted: torch.Tensor) -> None: ...
    def preview(self, rows: Sequence[Denoising]) -> list[tuple[bytes, int, int]]: ...
    def decode(self, rows: Sequence[Denoising]) -> list[tuple[NDArray[Any], bool]]: ...


class Left(Exception):
    """The caller has left."""

    def __init__(self, steps: int) -> None:
        super().__init__("the caller has left")
        self.steps = steps
        """Denoising steps that were still to come."""


type Drawn = tuple[NDArray[Any], bool]
"""Pixels, and whether the checker found them unsafe and blackened them."""


@dataclass(eq=False)
class _Row:
    prompt: Prompt
    size: tuple[int, int]
    left: Callable[[], bool]
    tell: Callable[[Progress], None] | None
    previews: int
    drawn: asyncio.Future[Drawn] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    denoising: Denoising | None = None
    outcome: Drawn | Exception | None = None
    """Left by the worker, for the loop."""
    preview: tuple[bytes, int, int] | None = None
    began_s: float = 0.0
    """Its first step."""
    fixed_s: float = 0.0
    denoise_s: float = 0.0
    shared: int = 0
    """Rows in its calls of the UNet, added up."""

    @property
    def on_its_way(self) -> Denoising:
        assert self.denoising is not None
        return self.denoising

    @property
    def steps_left(self) -> int:
        return self.prompt.steps if self.denoising is None else self.denoising.of - self.denoising.done

    def shows(self) -> bool:
        """Whether the step that it has just done has a preview."""
        return self.tell is not None and has_preview(self.on_its_way.done - 1, self.on_its_way.of, self.previews)

    def goes_on(self) -> bool:
        """Whether its next step needs nothing of the loop."""
        over = self.drawn.done() or self.outcome is not None or self.steps_left == 0
        return not over and self.tell is None and not self.left()

    def settle(self) -> bool:
        """Whether it is over: drawn, failed, or left."""
        if not self.drawn.done():
            if isinstance(self.outcome, Exception):
                self.drawn.set_exception(self.outcome)
            elif self.outcome is not None:
                self.drawn.set_result(self.outcome)
            elif self.left():
                self.drawn.set_exception(Left(self.steps_left))
        return self.drawn.done()


class Batch:
    def __init__(
        self, engine: Engine, most: int, budget: Budget | None = None, count: Callable[[int], None] = lambda steps: None
    ) -> None:
        """`most`: pictures at once; fewer where `budget` says so. `count` is told of denoising steps before they run, in the worker."""
        self._engine = engine
        self._most = most
        self._budget = budget
        self._count = count
        self._waiting: deque[_Row] = deque()
        self._rows: list[_Row] = []
        """That are being denoised; the one at the front has waited longest for its next step."""
        self._running: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(1, "diffusion", set_threads, (engine.threads,))
        self._encoder = ThreadPoolExecutor(1, "encode")

    async def draw(
        self,
        prompt: Prompt,
        notes: Mapping[str, str],
        left: Callable[[], bool] = lambda: False,
        tell: Callable[[Progress], None] | None = None,
        previews: int = 0,
    ) -> Picture:
        """`left` is asked before each step whether the caller has left; `tell` is told each step, `previews` of them shown.

        `notes` become a PNG's text chunks. Raises Left, InvalidInput, ModelUnavailable. Cancelling it is leaving too.
        """
        row = _Row(prompt, self._engine.size(prompt), left, tell, previews)
        self._waiting.append(row)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        pixels, flagged = await row.drawn
        encoded, encode_s = await asyncio.get_running_loop().run_in_executor(self._encoder, _encode, pixels, prompt.format, notes)
        return _picture(row, encoded, flagged, encode_s)

    def close(self) -> None:
        """Ends the threads after the calls that they are in."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._encoder.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        try:
            while self._waiting or self._rows:
                self._let_go()
                await self._admit()
                if self._rows:
                    await self._step()
        except Exception as error:
            log.exception("the batch failed")
            for row in (*self._waiting, *self._rows):
                row.outcome = error
                row.settle()
            self._waiting.clear()
            self._rows.clear()

    def _let_go(self) -> None:
        self._waiting = deque(row for row in self._waiting if not row.settle())
        self._rows = [row for row in self._rows if not row.settle()]

    async def _admit(self) -> None:
        """First come, first served."""
        joining: list[_Row] = []
        while self._waiting and self._has_room([*self._rows, *joining], self._waiting[0]):
            joining.append(self._waiting.popleft())
        if joining:
            self._rows += joining  # already now: what fails must reach them
            await self._work(self._begin, joining)
            self._drop_settled()

    def _has_room(self, rows: Sequence[_Row], row: _Row) -> bool:
        alike = sum(other.size == row.size for other in rows)
        fits = self._budget is None or self._budget.holds(alike + 1, row.size[0] * row.size[1])
        return len(rows) < self._most and fits

    async def _step(self) -> None:
        """The next call of the UNet, or calls, for all that share the front row's kind; they go to the back."""
        kind = self._rows[0].on_its_way.kind
        rows = [row for row in self._rows if row.on_its_way.kind == kind]
        self._rows = [row for row in self._rows if row.on_its_way.kind != kind] + rows
        await self._work(self._denoise, rows)
        shown = [row for row in rows if row.outcome is None and row.shows()]
        if shown:
            await self._work(self._show, shown)
        for row in rows:
            self._report(row)
        ended = [row for row in rows if row.outcome is None and not row.drawn.done() and row.steps_left == 0]
        if ended:
            await self._work(self._decode, ended)
        self._drop_settled()

    def _drop_settled(self) -> None:
        self._rows = [row for row in self._rows if row.outcome is None or not row.settle()]

    def _report(self, row: _Row) -> None:
        preview, row.preview = row.preview, None
        if row.outcome is None and row.tell is not None and not row.drawn.done():
            done, of = row.on_its_way.done, row.on_its_way.of
            eta_ms = (time.perf_counter() - row.began_s) / done * (of - done) * 1000
            try:
                row.tell(Progress(done, of, eta_ms, preview))
            except Exception as error:
                row.outcome = error

    async def _work(self, work: Callable[[list[_Row]], None], rows: list[_Row]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, work, rows)

    # In the worker thread:

    def _begin(self, rows: list[_Row]) -> None:
        for row in rows:
            began_s = time.perf_counter()
            try:
                row.denoising = self._engine.begin(row.prompt)
            except Exception as error:
                row.outcome = known(error)
            row.fixed_s += time.perf_counter() - began_s

    def _denoise(self, rows: list[_Row]) -> None:
        """One step, and while nobody has to be told, let go or let in, the next: to the loop and back takes a client that is alone time."""
        self._denoise_once(rows)
        while len(rows) == len(self._rows) and not self._waiting and all(row.goes_on() for row in rows):
            self._denoise_once(rows)

    def _denoise_once(self, rows: list[_Row]) -> None:
        self._count(len(rows))
        began_s = time.perf_counter()
        for row, predicted in zip(rows, _together(self._engine.predict, rows), strict=True):
            row.began_s = row.began_s or began_s
            row.shared += len(rows)
            try:
                self._engine.advance(row.on_its_way, _value(predicted))
            except Exception as error:
                row.outcome = known(error)
        for row in rows:
            row.denoise_s += time.perf_counter() - began_s

    def _show(self, rows: list[_Row]) -> None:
        began_s = time.perf_counter()
        for row, preview in zip(rows, _together(self._engine.preview, rows), strict=True):
            if isinstance(preview, Exception):
                row.outcome = preview
            else:
                row.preview = preview
        for row in rows:
            row.fixed_s += time.perf_counter() - began_s

    def _decode(self, rows: list[_Row]) -> None:
        began_s = time.perf_counter()
        for row, drawn in zip(rows, _together(self._engine.decode, rows), strict=True):
            row.outcome = drawn
        for row in rows:
            row.fixed_s += time.perf_counter() - began_s


def has_preview(step: int, of: int, previews: int) -> bool:
    """Whether this step, from 0, has one of `previews` spread evenly; the last step has none, since the picture follows."""
    return (step + 1) * (previews + 1) // of > step * (previews + 1) // of and step + 1 < of


def _together[Result](work: Callable[[Sequence[Denoising]], Sequence[Result]], rows: Sequence[_Row]) -> list[Result | Exception]:
    """What `work` makes of them in one call; where that fails, of each alone, so that what cannot be done fails alone."""
    try:
        return [*work([row.on_its_way for row in rows])]
    except Exception as error:
        if len(rows) == 1:
            return [known(error)]
        return [_together(work, [row])[0] for row in rows]


def _value[Result](result: Result | Exception) -> Result:
    if isinstance(result, Exception):
        raise result
    return result


def _encode(pixels: NDArray[Any], format: str, notes: Mapping[str, str]) -> tuple[bytes, float]:
    """The image, and the seconds that it took."""
    began_s = time.perf_counter()
    encoded = encode(pixels, format, notes)
    return encoded, time.perf_counter() - began_s


def _picture(row: _Row, encoded: bytes, flagged: bool, encode_s: float) -> Picture:
    denoising = row.on_its_way
    return Picture(
        encoded,
        denoising.width,
        denoising.height,
        denoising.truncated,
        flagged,
        encode_ms=encode_s * 1000,
        steps=denoising.of,
        denoise_s=row.denoise_s,
        compute_s=row.fixed_s + row.denoise_s + encode_s,
        rows=row.shared / denoising.of,
    )
