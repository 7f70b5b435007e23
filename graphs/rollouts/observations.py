"""Observations of a rollout: each model's requests and the compared pairs, as one ingress replica has seen them."""

import json
import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Annotated, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphs.core.policies.rollout import Variant

VARIANTS: tuple[Variant, ...] = get_args(Variant)
KEPT = 500
"""Latest observations of each variant, and latest pairs, that a replica keeps. The totals count all."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One request to one of the two models. Only one that succeeded has quality metrics, and counts in times."""

    latency_s: float
    error: str = ""
    """Code of the problem; empty where the request succeeded."""
    empty: bool = False
    repetitive: bool = False
    logprob: float | None = None
    """Mean log probability of the result's tokens, in nats."""
    cpu_s: float | None = None
    step: int = -1
    """The plan's step during which it was made; -1 before the first."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Comparison of both models' results of one request; None where their role has no such number."""

    words: int | None = None
    """Words of the stable model's transcript."""
    word_errors: int | None = None
    """Words to insert, delete or replace to get from the stable model's transcript to the candidate's."""
    pixels: float | None = None
    """Root mean square difference of the pixels, 0 to 1 of the whole range."""
    picture: float | None = None
    """1 - SSIM of the pictures (Wang et al. 2004), 0 to 2."""


def _windows() -> dict[Variant, deque[Observation]]:
    return {variant: deque(maxlen=KEPT) for variant in VARIANTS}


@dataclass
class Observations:
    """Totals since the rollout's start, and the latest observations and pairs; measured numbers have four significant digits."""

    requests: Counter[Variant] = field(default_factory=Counter)
    errors: dict[Variant, Counter[str]] = field(default_factory=lambda: {variant: Counter() for variant in VARIANTS})
    """Failed requests by the problem's code."""
    pairs: int = 0
    windows: dict[Variant, deque[Observation]] = field(default_factory=_windows)
    pair_window: deque[Pair] = field(default_factory=lambda: deque(maxlen=KEPT))

    def observe(self, variant: Variant, observation: Observation) -> None:
        """Add one request. Raises ValueError for a number that is not finite."""
        rounded = replace(
            observation,
            latency_s=_rounded(observation.latency_s),
            logprob=_optional(observation.logprob),
            cpu_s=_optional(observation.cpu_s),
        )
        self.windows[variant].append(rounded)
        self.requests[variant] += 1
        if observation.error:
            self.errors[variant][observation.error] += 1

    def pair(self, pair: Pair) -> None:
        """Add one comparison. Raises ValueError for a number that is not finite."""
        self.pair_window.append(replace(pair, pixels=_optional(pair.pixels), picture=_optional(pair.picture)))
        self.pairs += 1

    def latest(self, variant: Variant, step: int | None = None) -> list[Observation]:
        """The kept observations of one variant: those made during one step of the plan, or all."""
        return [one for one in self.windows[variant] if step is None or one.step == step]

    def dump(self) -> bytes:
        """Compact JSON: at most about 60 KB, whatever has been observed. Not for what `merged` returns."""
        codes = sorted({code for counts in self.errors.values() for code in counts})
        index = {"": 0} | {code: number for number, code in enumerate(codes, 1)}
        content = {
            "codes": codes,
            "requests": [self.requests[variant] for variant in VARIANTS],
            "errors": [[self.errors[variant][code] for code in codes] for variant in VARIANTS],
            "pairs": self.pairs,
            "windows": [[_row(one, index) for one in self.windows[variant]] for variant in VARIANTS],
            "pair_window": [(one.words, one.word_errors, one.pixels, one.picture) for one in self.pair_window],
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def load(cls, content: bytes) -> Self:
        """The observations that `dump` wrote. Raises ValueError for anything else."""
        read = _Content.model_validate_json(content)
        found = cls(pairs=read.pairs)
        for variant, requests, counts, window in zip(VARIANTS, read.requests, read.errors, read.windows, strict=True):
            found.requests[variant] = requests
            found.errors[variant] = Counter({code: count for code, count in zip(read.codes, counts, strict=True) if count})
            for latency_s, code, empty, repetitive, logprob, cpu_s, step in window:
                error = read.codes[code - 1] if code else ""
                found.windows[variant].append(Observation(latency_s, error, bool(empty), bool(repetitive), logprob, cpu_s, step))
        found.pair_window.extend(Pair(*row) for row in read.pair_window)
        return found

    @classmethod
    def merged(cls, parts: Iterable["Observations"]) -> Self:
        """All replicas' observations together, to be read: its windows have those of each replica."""
        replicas = list(parts)
        return cls(
            requests=sum((one.requests for one in replicas), Counter[Variant]()),
            errors={variant: sum((one.errors[variant] for one in replicas), Counter[str]()) for variant in VARIANTS},
            pairs=sum(one.pairs for one in replicas),
            windows={variant: deque(chain.from_iterable(one.windows[variant] for one in replicas)) for variant in VARIANTS},
            pair_window=deque(chain.from_iterable(one.pair_window for one in replicas)),
        )


def _rounded(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"an observation's number is {number}, which is not finite")
    return float(f"{number:.4g}")


def _optional(number: float | None) -> float | None:
    return None if number is None else _rounded(number)


_Count = Annotated[int, Field(ge=0)]
_Flag = Annotated[int, Field(ge=0, le=1)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Row = tuple[_Positive, _Count, _Flag, _Flag, _Number | None, _Positive | None, Annotated[int, Field(ge=-1)]]
_PairRow = tuple[_Count | None, _Count | None, _Positive | None, _Positive | None]


def _row(one: Observation, codes: dict[str, int]) -> tuple[float | None, ...]:
    return (one.latency_s, codes[one.error], int(one.empty), int(one.repetitive), one.logprob, one.cpu_s, one.step)


class _Content(BaseModel):
    """The JSON of `dump`: a row for each observation, in the order of VARIANTS. Code 0 is success, n is the n-th of `codes`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    codes: list[Annotated[str, Field(min_length=1)]]
    requests: tuple[_Count, _Count]
    errors: tuple[list[_Count], list[_Count]]
    pairs: _Count
    windows: tuple[Annotated[list[_Row], Field(max_length=KEPT)], Annotated[list[_Row], Field(max_length=KEPT)]]
    pair_window: Annotated[list[_PairRow], Field(max_length=KEPT)]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for requests, counts, window in zip(self.requests, self.errors, self.windows, strict=True):
            if len(counts) != len(self.codes):
                raise ValueError(f"{len(counts)} counts of errors for {len(self.codes)} codes")
            if len(window) > requests or sum(counts) > requests:
                raise ValueError(f"{len(window)} observations and {sum(counts)} errors of {requests} requests")
            if any(row[1] > len(self.codes) for row in window):
                raise ValueError(f"an observation's code is none of the {len(self.codes)}")
        if len(self.pair_window) > self.pairs:
            raise ValueError(f"{len(self.pair_window)} compared pairs of {self.pairs}")
        return self
