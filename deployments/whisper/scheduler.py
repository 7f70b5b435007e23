"""Pass after pass over the recordings that are there: who comes joins at the next one, and who has ended is gone. Runs in the stub."""

import threading
from collections.abc import Callable, Sequence
from itertools import zip_longest

from deployments.whisper.sequence import Recording, Voice

JOIN_S = 0.003
"""Between two passes: what has been waiting for a seat comes now, through Triton's queue."""


class Rounds:
    """A thread of its own hears, so that a long recording, which takes several passes, holds nobody up for more than one."""

    def __init__(self, listen: Callable[[Sequence[Voice]], None], most: int) -> None:
        """`listen`: one pass, of at most `most` rows."""
        self._listen = listen
        self._most = most
        self._changed = threading.Condition()
        self._voices: list[Recording] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)
        self._thread.start()

    def join(self, voices: Sequence[Recording]) -> None:
        """Returns once each of them has been heard in a pass, if only in its first window: meanwhile more may gather."""
        with self._changed:
            self._voices += voices
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(voice.heard for voice in voices) or self._closed)

    def close(self) -> None:
        """What is under way is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._pass():
            pass

    def _pass(self) -> bool:
        """Waits for voices and hears them once; false when closed. It keeps none of those that have ended."""
        with self._changed:
            if self._voices:
                self._changed.wait(JOIN_S)
            self._changed.wait_for(lambda: self._voices or self._closed)
            if self._closed:
                return False
            # Who has waited longest comes first; a long recording goes to the end after each pass.
            turn, later = self._voices[: self._most], self._voices[self._most :]
        self._listen(seats([voice.rows for voice in turn], self._most))
        with self._changed:
            new = self._voices[len(turn) + len(later) :]
            self._voices = later + new + [voice for voice in turn if not voice.done]
            self._changed.notify_all()
        return True


def seats[Row](recordings: Sequence[Sequence[Row]], most: int) -> list[Row]:
    """A row of each first, and then of those that have more in turn. None gets more than half of the seats: a pass is no longer for
    who comes meanwhile than it must be, though nobody else is there.
    """
    turns = zip_longest(*(rows[: max(1, most // 2)] for rows in recordings))
    return [row for turn in turns for row in turn if row is not None][:most]
