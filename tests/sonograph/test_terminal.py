"""Texts for a terminal."""

import pytest

from sonograph.terminal import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (45, "45s"), (60, "1m"), (150, "2m30s"), (3600, "1h"), (9000, "2h30m")]
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
