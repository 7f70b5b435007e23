"""Spans: pieces of a request's time, plain data that is made where the work is done and travels with its result.

Ids and the context's formats are W3C's (Trace Context, level 2): lower-case hex, 32 digits of the trace and 16 of the span.
"""

import json
import os
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool
FORMAT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
MEMBER = re.compile(r"([a-z0-9][a-z0-9_*/@-]{0,255})=(?=[^,=]{1,256}$)[ -~]*[!-~]")
"""One member of a `tracestate`, `vendor=value`."""
MOST_MEMBERS, MOST_CHARACTERS = 32, 512
"""Bounds of a `tracestate`."""


_random = random.Random()  # of ids alone: whoever seeds Python's own makes none twice
os.register_at_fork(after_in_child=_random.seed)


def new_id(digits: int) -> str:
    """A random id, which is not all zeros, since that is none."""
    while not (number := _random.getrandbits(4 * digits)):
        pass
    return f"{number:0{digits}x}"


@dataclass(slots=True)
class Event:
    """One moment in a span."""

    name: str
    at_ns: int
    """Unix time."""
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    name: str
    parent_id: str = ""
    """The span around it, perhaps of another process; empty where there is none."""
    id: str = field(default_factory=lambda: new_id(16))
    kind: str = "internal"
    """`server`, `client` or `internal`, as OpenTelemetry means them."""
    started_ns: int = field(default_factory=time.time_ns)
    """Unix time."""
    ended_ns: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    error: str | None = None
    """The problem's code, where the work failed."""

    def event(self, name: str, **attributes: Value) -> None:
        """Note a moment: now."""
        self.events.append(Event(name, time.time_ns(), attributes))

    def end(self) -> None:
        self.ended_ns = time.time_ns()

    @property
    def duration_ms(self) -> float:
        return (self.ended_ns - self.started_ns) / 1e6


@dataclass(frozen=True)
class TraceContext:
    """The part of a `traceparent` that counts: the trace, the calling span, and whether that one is kept."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    """The `tracestate` of its other vendors, which goes where the context goes."""

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> "TraceContext | None":
        """The context; None for what is malformed, which W3C has ignored as if it had not been sent, as it has a malformed `tracestate`."""
        found = FORMAT.fullmatch(traceparent.strip())
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & 1), _state(tracestate) if tracestate else "")

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def _state(sent: str) -> str:
    """The members of a `tracestate`; empty where one is malformed or comes twice, or there are too many."""
    members = [member for one in sent.split(",") if (member := one.strip(" \t"))]
    keys = {found[1] for one in members if (found := MEMBER.fullmatch(one))}
    state = ",".join(members)
    return state if len(keys) == len(members) <= MOST_MEMBERS and len(state) <= MOST_CHARACTERS else ""


type Packed = Sequence[Any]
"""A span as plain values in the order of its fields, its events too: it is pickled and written as JSON in a fraction of the time."""


def pack(span: Span) -> Packed:
    events = [(one.name, one.at_ns, one.attributes) for one in span.events]
    times = (span.started_ns, span.ended_ns)
    return span.name, span.parent_id, span.id, span.kind, *times, span.attributes, events, span.error


def unpack(packed: Packed) -> Span:
    name, parent_id, id, kind, started_ns, ended_ns, attributes, events, error = packed
    return Span(name, parent_id, id, kind, started_ns, ended_ns, attributes, [Event(*one) for one in events], error)


def to_json(spans: Iterable[Span]) -> bytes:
    """Spans on their way out of the process that holds the model."""
    return json.dumps([pack(span) for span in spans]).encode()


def from_json(content: bytes) -> list[Span]:
    return [unpack(packed) for packed in json.loads(content)]
