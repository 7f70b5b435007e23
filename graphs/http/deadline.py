"""Deadline of a request: the service's setting, which the client may lower."""

import re

from deployments.errors import InvalidInput
from graphs.core.parameters import LARGEST_TIMEOUT_MS


def deadline_s(setting_s: float, timeout_ms: int | None, x_timeout_ms: list[str]) -> float:
    """Return the deadline in seconds from the request's receipt: the smallest of the three.

    `timeout_ms`: the parameter. `x_timeout_ms`: every header X-Timeout-Ms, as `headers.getlist` returns them. Raises InvalidInput.
    """
    if len(x_timeout_ms) > 1:
        raise InvalidInput("X-Timeout-Ms is given twice: once is enough")
    requested_ms = [_milliseconds("X-Timeout-Ms", value) for value in x_timeout_ms]
    if timeout_ms is not None:
        requested_ms.append(_milliseconds("timeout_ms", str(timeout_ms)))
    return min([setting_s, *(milliseconds / 1000 for milliseconds in requested_ms)])


def _milliseconds(name: str, value: str) -> int:
    # Ten digits hold the bound; int() would also take signs, underscores, other scripts' digits, and any number of them.
    milliseconds = int(value) if re.fullmatch("[0-9]{1,10}", value) else 0
    if not 1 <= milliseconds <= LARGEST_TIMEOUT_MS:
        raise InvalidInput(f"{name} must be a whole number of milliseconds from 1 to {LARGEST_TIMEOUT_MS}")
    return milliseconds
