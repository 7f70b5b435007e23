"""A recording between its request and its transcript: it asks the model for window after window and takes part in batched steps."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from functools import cached_property

import torch

from deployments.roles.speech_to_text import Transcript
from deployments.whisper.transcription import DecodingResult, WindowRequest

SEED = 0
"""Sampling starts anew for each sequence, so that a text does not depend on those that were sampled before."""


class SequenceGroup(ABC):
    """One recording's sequences. It ends once, with `transcript` or `error`."""

    def __init__(self) -> None:
        self.transcript: Transcript | None = None
        self.error: Exception | None = None
        self.computed_s = 0.0
        """Time in steps that it took part in, from the beginning of each until its end or that of the group."""
        self.windows: list[tuple[int, int, int]] = []
        """Unix ns of each step's begin and end, and the sequences in it."""
        self.shared_s = 0.0
        """The same, but of each step only the group's share."""

    @property
    @abstractmethod
    def sequences(self) -> list["Sequence"]:
        """Sequences that the next step may take, all or some; at least one until the group is done."""

    @property
    def done(self) -> bool:
        return self.transcript is not None or self.error is not None

    @property
    def started(self) -> bool:
        """Whether it took part in a step."""
        return self.done or self.computed_s > 0

    def took_part(self, took_s: float, own_rows: int, rows: int) -> None:
        """Count a step that ends now. `own_rows`: the group's, of all `rows`."""
        self.computed_s += took_s
        self.shared_s += took_s * own_rows / rows
        ended_ns = time.time_ns()
        self.windows.append((ended_ns - int(took_s * 1e9), ended_ns, rows))

    @property
    def batch_size(self) -> int:
        """Groups in its steps, on average over their time."""
        return max(1, round(self.computed_s / self.shared_s)) if self.shared_s else 1


class Sequence(SequenceGroup):
    """One row of a batch: a recording that is decoded window by window, or a chunk of one. It leaves the step in which it ends."""

    def __init__(
        self,
        transcription: Generator[WindowRequest, object, Transcript],
        device: torch.device | str = "cpu",
        check_cancelled: Callable[[], None] = lambda: None,
        on_done: Callable[["Sequence"], None] = lambda sequence: None,
    ) -> None:
        """`transcription`: yields requests to the model and takes their results. `check_cancelled`: its exception ends the sequence."""
        super().__init__()
        self.request: WindowRequest | None = None
        """Pending request to the model."""
        self._device = device
        self.check_cancelled = check_cancelled
        self._transcription = transcription
        self._on_done = on_done
        self._step_began_s, self._step_rows = 0.0, 1

    @property
    def sequences(self) -> list["Sequence"]:
        return [self]

    @cached_property
    def generator(self) -> torch.Generator:
        """Of the tokens that are drawn."""
        return torch.Generator(self._device).manual_seed(SEED)

    def begin_step(self, rows: int) -> None:
        """`rows`: sequences in the step."""
        self._step_began_s, self._step_rows = time.perf_counter(), rows
        if self.request is None:
            self.resume(None)

    def end_step(self) -> None:
        self.took_part(time.perf_counter() - self._step_began_s, 1, self._step_rows)

    def resume(self, result: str | DecodingResult | None) -> None:
        """Take the result of the pending request; the sequence makes its next request, or ends."""
        self._advance(lambda: self._transcription.send(result))

    def fail(self, error: Exception) -> None:
        self._advance(lambda: self._transcription.throw(error))

    def check_active(self) -> bool:
        """End the sequence if it is cancelled; return whether it goes on."""
        try:
            self.check_cancelled()
        except Exception as error:
            self.fail(error)
        return not self.done

    def _advance(self, advance: Callable[[], WindowRequest]) -> None:
        try:
            self.request = advance()
            return
        except StopIteration as end:
            self.transcript = end.value
        except Exception as error:
            self.error = error
        self.request = None
        self.end_step()
        self._on_done(self)
        if self.error is not None:
            # Its frames hold the whole batch and this sequence, which would then wait for Python's collector.
            self.error.__traceback__ = None


def run_step(sequences: list[Sequence], compute: Callable[[], None]) -> None:
    """One step of a batch, computed by `compute`; its error ends the sequences that have not ended before."""
    for sequence in sequences:
        sequence.begin_step(len(sequences))
    try:
        compute()
    except Exception as error:
        for sequence in unfinished(sequences):
            sequence.fail(error)
    for sequence in unfinished(sequences):
        sequence.end_step()


def unfinished[Group: SequenceGroup](groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if not group.done]
