"""Deadline of a request: the setting, which a client may lower and never raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidInput
from graphs.http.deadline import deadline_s
from testing.fakes import CHARACTERS

MILLISECONDS = st.none() | st.integers(1, 2**31 - 1)


@pytest.mark.parametrize(
    ("timeout_ms", "header", "expected"),
    [
        (None, [], 120),
        (5000, [], 5),
        (None, ["5000"], 5),
        (1500, ["2500"], 1.5),
        (2500, ["1500"], 1.5),
        (1, [], 0.001),
        (None, ["1"], 0.001),
        (120_001, ["2147483647"], 120),
        (2**31 - 1, [], 120),
        (None, ["005000"], 5),
    ],
)
def test_the_deadline_is_the_smallest_of_setting_parameter_and_header(
    timeout_ms: int | None, header: list[str], expected: float
) -> None:
    assert deadline_s(120.0, timeout_ms, header) == expected


@given(MILLISECONDS, MILLISECONDS, st.floats(0.001, 1e6))
def test_a_client_lowers_the_deadline_and_never_raises_it(parameter: int | None, header: int | None, setting_s: float) -> None:
    seconds = deadline_s(setting_s, parameter, [] if header is None else [str(header)])
    assert 0 < seconds <= setting_s
    assert seconds in (setting_s, (parameter or 0) / 1000, (header or 0) / 1000)


@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "+5", "5.0", "1e3", "5s", "5, 6", " 5", "1_000", "0x10", "nan", "inf", "2147483648", "9" * 5000, "٥", "²"],
)
def test_an_invalid_header_is_refused_by_name_and_bound(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"^X-Timeout-Ms must be a whole number of milliseconds from 1 to 2147483647$"):
        deadline_s(120.0, None, [value])


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_an_invalid_parameter_is_refused_by_name_and_bound(value: int) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout_ms must be a whole number of milliseconds from 1 to 2147483647$"):
        deadline_s(120.0, value, ["5000"])


@pytest.mark.parametrize("values", [["5000", "6000"], ["5000", "5000"], ["5000", ""]])
def test_a_repeated_header_is_refused(values: list[str]) -> None:
    with pytest.raises(InvalidInput, match="X-Timeout-Ms is given twice"):
        deadline_s(120.0, 1000, values)


@given(st.text(CHARACTERS))
def test_any_text_is_a_deadline_or_is_refused(value: str) -> None:
    try:
        seconds = deadline_s(120.0, None, [value])
    except InvalidInput:
        return
    assert 0 < seconds <= 120
