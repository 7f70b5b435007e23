"""Values of the options, and their refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import typer

from sonograph.rollouts import values


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (values.percent, "5", 5.0),
        (values.percent, "2.5%", 2.5),
        (values.share, "1%", 0.01),
        (values.share, "0.01", 0.01),
        (values.share, "none", "none"),
        (values.multiple, "1.2x", 1.2),
        (values.multiple, "1.2", 1.2),
        (values.multiple, "none", "none"),
        (values.nats, "0.1", 0.1),
        (values.steps, "5, 20%,50,100", (5.0, 20.0, 50.0, 100.0)),
        (values.resources, ["whisper=1"], {"whisper": 1.0}),
    ],
)
def test_a_value_is_read(parser: Callable[[Any], Any], text: Any, value: Any) -> None:
    assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "text", "sentence"),
    [
        (values.percent, "101", "not between 0 and 100"),
        (values.percent, "nan", "write 5 or 5%"),
        (values.share, "3", "1% is 0.01, and 3 would be 300%"),
        (values.share, "0", "not above 0%"),
        (values.share, "1.2x", "write 1% or 0.01, or none"),
        (values.multiple, "120%", "write 1.2x or 1.2, or none"),
        (values.multiple, "0x", "not between 0.1x and 100x"),
        (values.nats, "0", "not above 0 nats"),
        (values.steps, "50,20", "50,20 does not rise"),
        (values.steps, "5,5", "does not rise"),
        (values.resources, ["whisper"], "names no resource"),
        (values.resources, ["whisper=one"], "is no amount of whisper"),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_write(parser: Callable[[Any], Any], text: Any, sentence: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parser(text)
    assert sentence in str(refused.value)
