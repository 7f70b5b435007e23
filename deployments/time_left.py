"""One deadline for a whole request, carried between processes as what is left of it."""

import time
from typing import Self


class TimeLeft:
    """Counts down by the monotonic clock. Pickling carries the seconds left, since clocks differ between machines."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def seconds(self) -> float:
        """Never below zero."""
        return max(0.0, self._end_s - time.monotonic())

    def __reduce__(self) -> tuple[type[Self], tuple[float]]:
        return type(self), (self.seconds,)
