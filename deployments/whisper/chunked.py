"""A long recording as chunks, each a row of its own: they share batches, and become one transcript in the recording's order."""

import time
from collections.abc import Callable, Generator
from dataclasses import replace

import torch
from whisper.audio import FRAMES_PER_SECOND

from deployments.roles.speech_to_text import Segment, Transcript, text_of
from deployments.whisper.sequence import Sequence, SequenceGroup
from deployments.whisper.transcription import DecodingResult, TranscriptionState, WindowRequest

Emit = Callable[[list[Segment]], None]
Windows = Generator[WindowRequest, DecodingResult | None, None]


class ChunkedGroup(SequenceGroup):
    """Chunks of one recording. An error of one ends all of them.

    Each begins with the caller's prompt, and none with another's text, so that no chunk waits for another. After its first window
    a chunk continues with the text of that one.
    """

    def __init__(
        self,
        spans: list[tuple[int, int]],
        initial_state: Generator[WindowRequest, object, TranscriptionState],
        decode_windows: Callable[[TranscriptionState, Emit], Windows],
        device: torch.device | str,
        on_segment: Callable[[Segment], None],
        check_cancelled: Callable[[], None],
        on_done: Callable[[SequenceGroup], None],
    ) -> None:
        """`spans`: the frames of each chunk. `initial_state`: of the recording, with one request at most."""
        super().__init__()
        self._initial_state, self._decode_windows = initial_state, decode_windows
        self._on_segment, self._check_cancelled, self._on_done = on_segment, check_cancelled, on_done
        self._detection: WindowRequest | None = None
        self._state: TranscriptionState | None = None
        self._segments: list[list[Segment]] = [[] for _ in spans]
        self._decoded = [False] * len(spans)
        self._emitted = 0
        self._step_began_s, self._in_step, self._step_chunks, self._step_rows = 0.0, 0, 0, 1
        self._chunks = [_Chunk(self, index, span, device) for index, span in enumerate(spans)]

    @property
    def sequences(self) -> list[Sequence]:
        return [] if self.done else [chunk for chunk in self._chunks if not chunk.done]

    def transcribe(self, index: int, span: tuple[int, int]) -> Generator[WindowRequest, object, Transcript]:
        """Transcribe one chunk."""
        if index == 0:
            self._state = yield from self._detect_language()
        elif self._state is None and self._detection:
            yield self._detection  # of the same window, which is encoded once
        self.check_cancelled()
        assert self._state is not None, "the first chunk is the first of each step"
        state = replace(self._state, frame=span[0], end=span[1], tokens=list(self._state.tokens))
        end_s = span[1] / FRAMES_PER_SECOND

        def emit(segments: list[Segment]) -> None:
            # A window is 30 s to the model, which may name a time after the chunk's end.
            self._segments[index] += [replace(s, start=min(s.start, end_s), end=min(s.end, end_s)) for s in segments]
            self._emit_in_order()

        yield from self._decode_windows(state, emit)
        self._decoded[index] = True
        self._emit_in_order()
        return Transcript(text_of(self._segments[index]), state.language, tuple(self._segments[index]))

    def _detect_language(self) -> Generator[WindowRequest, object, TranscriptionState]:
        try:
            self._detection = next(self._initial_state)
            self._initial_state.send((yield self._detection))
        except StopIteration as end:
            self._detection = None
            state: TranscriptionState = end.value
            return state
        raise RuntimeError("the initial state makes more than one request")

    def check_cancelled(self) -> None:
        """End a chunk when another one has failed, or the recording is cancelled."""
        if self.error is not None:
            raise self.error
        self._check_cancelled()

    def chunk_done(self, chunk: Sequence) -> None:
        if self.done:
            return
        if chunk.error is not None:
            self.error = chunk.error
        elif all(one.done for one in self._chunks):
            assert self._state is not None
            segments = tuple(segment for segments in self._segments for segment in segments)
            self.transcript = Transcript(text_of(segments), self._state.language, segments)
        else:
            return
        self._chunks = []  # they refer to the group, and would wait with it for Python's collector
        self._on_done(self)

    def begin_chunk_step(self, rows: int) -> None:
        """One chunk begins a step of so many rows."""
        if not self._in_step:
            self._step_began_s, self._step_chunks, self._step_rows = time.perf_counter(), 0, rows
        self._in_step += 1
        self._step_chunks += 1

    def end_chunk_step(self) -> None:
        self._in_step -= 1
        if not self._in_step:
            self.took_part(time.perf_counter() - self._step_began_s, self._step_chunks, self._step_rows)

    def _emit_in_order(self) -> None:
        """Emit the segments of the first unfinished chunk so far, after all of the chunks before it."""
        ready: list[Segment] = []
        for segments, decoded in zip(self._segments, self._decoded, strict=True):
            ready += segments
            if not decoded:
                break
        for segment in ready[self._emitted :]:
            self._emitted += 1
            self._on_segment(segment)


class _Chunk(Sequence):
    def __init__(self, group: ChunkedGroup, index: int, span: tuple[int, int], device: torch.device | str) -> None:
        super().__init__(group.transcribe(index, span), device, group.check_cancelled, group.chunk_done)
        self._group = group

    def begin_step(self, rows: int) -> None:
        self._group.begin_chunk_step(rows)
        super().begin_step(rows)

    def end_step(self) -> None:
        super().end_step()
        self._group.end_chunk_step()
