"""A long recording in pieces, each a row of its own: they are heard together, and become one answer in the recording's order."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from whisper.audio import FRAMES_PER_SECOND

from deployments.whisper.sequence import Recording, Spoken, Voice
from deployments.whisper.transcription import Ask, Heard, Segment, Walk

Told = Callable[[list[Segment]], None]
Walked = Generator[Ask, Heard | None, None]


class Pieces(Recording):
    """What one piece fails with ends all of them. Each begins with the caller's prompt, and none with what another says: so they need
    not wait for each other. What is left of a piece after its first window follows on what was said in that.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, int]],
        begin: Generator[Ask, object, Walk],
        walk: Callable[[Walk, Told], Walked],
        device: torch.device | str,
        tell: Callable[[Segment], None],
        poll: Callable[[], None],
        ended: Callable[[Recording], None],
    ) -> None:
        """`spans`: the frames of each piece. `begin`: the recording's beginning, which asks at most once. `walk`: over a piece of it."""
        super().__init__()
        self._begin, self._walk = begin, walk
        self._tell, self._poll, self._ended = tell, poll, ended
        self._asked: Ask | None = None
        self._path: Walk | None = None
        self._said: list[list[Segment]] = [[] for _ in spans]
        self._texts: list[str | None] = [None] * len(spans)
        self._told = 0
        self._entered_s, self._inside, self._seats = 0.0, 0, 0
        self._pieces = [_Piece(self, number, span, device) for number, span in enumerate(spans)]

    @property
    def rows(self) -> Sequence[Voice]:
        return [] if self.done else [piece for piece in self._pieces if not piece.done]

    def work(self, number: int, span: tuple[int, int]) -> Generator[Ask, object, Spoken]:
        """A piece's."""
        if number == 0:
            self._path = yield from self._beginning()
        elif self._path is None and self._asked:
            yield self._asked  # of the same window, which is encoded once
        self.poll()
        assert self._path is not None, "the first piece comes first"
        piece = replace(self._path, frame=span[0], end=span[1], tokens=list(self._path.tokens))
        end_s = span[1] / FRAMES_PER_SECOND

        def told(segments: list[Segment]) -> None:
            # A window is 30 s to the model, which may name a time after the piece's end.
            self._said[number] += [replace(s, start_s=min(s.start_s, end_s), end_s=min(s.end_s, end_s)) for s in segments]
            self._tell_in_order()

        yield from self._walk(piece, told)
        self._texts[number] = piece.text
        self._tell_in_order()
        return Spoken(piece.text, piece.language, tuple(self._said[number]))

    def _beginning(self) -> Generator[Ask, object, Walk]:
        try:
            self._asked = next(self._begin)
            self._begin.send((yield self._asked))
        except StopIteration as end:
            self._asked = None
            path: Walk = end.value
            return path
        raise RuntimeError("it asks more than once")

    def poll(self) -> None:
        """A piece's: it leaves when the recording has ended by another."""
        if self.error is not None:
            raise self.error
        self._poll()

    def ended(self, piece: Voice) -> None:
        if self.done:
            return
        if piece.error is not None:
            self.error = piece.error
        elif all(one.done for one in self._pieces):
            assert self._path is not None
            segments = tuple(segment for said in self._said for segment in said)
            self.answer = Spoken("".join(map(str, self._texts)).strip(), self._path.language, segments)
        else:
            return
        self._pieces = []  # they know it, and would wait with it for Python's collector
        self._ended(self)

    def enter(self, together: int) -> None:
        """A piece enters a pass of so many rows."""
        if not self._inside:
            self._entered_s, self._seats, self._together = time.perf_counter(), 0, together
        self._inside += 1
        self._seats += 1

    def leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            took_s = time.perf_counter() - self._entered_s
            self.computed_s += took_s
            self.shared_s += took_s * self._seats / self._together

    def _tell_in_order(self) -> None:
        """What the first piece that is not through has said so far, after all that is before it."""
        ready: list[Segment] = []
        for said, text in zip(self._said, self._texts, strict=True):
            ready += said
            if text is None:
                break
        for segment in ready[self._told :]:
            self._told += 1
            self._tell(segment)


class _Piece(Voice):
    def __init__(self, whole: Pieces, number: int, span: tuple[int, int], device: torch.device | str) -> None:
        super().__init__(whole.work(number, span), device, whole.poll, whole.ended)
        self._whole = whole

    def enter(self, together: int) -> None:
        self._whole.enter(together)
        super().enter(together)

    def leave(self) -> None:
        super().leave()
        self._whole.leave()
