"""Values of options that several commands take, and their refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import typer

from sonograph.option_values import seconds, settings


@pytest.mark.parametrize(("text", "value"), [("30s", 30.0), ("10m", 600.0), ("1h30m", 5400.0), ("2d", 172800.0), ("0.5", 0.5)])
def test_a_time_is_read(text: str, value: float) -> None:
    assert seconds(text) == value


def test_settings_are_read() -> None:
    read = settings(["model=small.en", "max_batch=4", "aliases=[a, b]", "weights=/a=b"])
    assert read == {"model": "small.en", "max_batch": 4, "aliases": ["a", "b"], "weights": "/a=b"}


@pytest.mark.parametrize(
    ("parser", "text", "sentence"),
    [
        (seconds, "10min", "10min is no time: write 30s, 10m or 2h"),
        (seconds, "-5", "is no time"),
        (seconds, "", "is no time"),
        (settings, ["model"], "model sets nothing: write model=small.en"),
        (settings, ["model=[a"], "the value of model is no YAML"),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_write(parser: Callable[[Any], Any], text: Any, sentence: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parser(text)
    assert sentence in str(refused.value)
