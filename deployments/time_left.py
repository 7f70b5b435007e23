"""One deadline for a whole request, sent between processes as the time that is left."""

import time
from typing import Self


class TimeLeft:
    """A countdown by the monotonic clock. Pickling keeps the seconds left, since clocks differ between machines."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def seconds(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end_s - time.monotonic())

    def __reduce__(self) -> tuple[type[Self], tuple[float]]:
        return type(self), (self.seconds,)
