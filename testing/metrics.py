"""Recorder in place of Ray's metrics, which refuses what Ray refuses."""

from collections import defaultdict
from typing import Any

from graphs.core.metrics import Metrics


class Recorder:
    """Recorder of counts and observations, by name and labels."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Any:
        return _Recorded(self, name, tag_keys)

    def histogram(self, name: str, description: str, boundaries: list[float], tag_keys: tuple[str, ...]) -> Any:
        assert boundaries == sorted(boundaries)
        assert boundaries[0] > 0
        return _Recorded(self, name, tag_keys)

    def metrics(self) -> Metrics:
        return Metrics(self.counter, self.histogram, self.counter)


class _Recorded:
    def __init__(self, recorder: Recorder, name: str, labels: tuple[str, ...]) -> None:
        self._recorder = recorder
        self._name = name
        self._labels = labels

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self.observe(value, tags)

    def _record(self, value: float, tags: dict[str, str]) -> None:
        self.observe(value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.observe(value, tags)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        assert isinstance(value, int | float)
        assert set(tags) == set(self._labels)
        self._recorder.seen[(self._name, *(tags[label] for label in self._labels))].append(value)
