"""Spans, and the context of a trace as W3C writes it."""

import pytest

from deployments.span import Span, TraceContext, from_json, new_id, to_json

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("sent", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f" 00-{TRACE}-{SPAN}-03 ", True),
        (f"cc-{TRACE}-{SPAN}-01-what-a-later-version-adds", True),
    ],
)
def test_a_traceparent_is_read(sent: str, sampled: bool) -> None:
    assert TraceContext.parse(sent) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
        f"00-{TRACE}\x00-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(sent: str) -> None:
    assert TraceContext.parse(sent) is None


MANY = ",".join(f"v{number}=1" for number in range(33))
LONG = ",".join(f"{vendor}={vendor * 200}" for vendor in "abc")


@pytest.mark.parametrize(
    ("sent", "state"),
    [
        ("", ""),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" a=1 ,\t, fw529a3039@dt=F D;~!,0*/_-b=2,", "a=1,fw529a3039@dt=F D;~!,0*/_-b=2"),
        (MANY.rpartition(",")[0], MANY.rpartition(",")[0]),
        (MANY, ""),
        (LONG.rpartition(",")[0], LONG.rpartition(",")[0]),
        (LONG, ""),
        (f"{'k' * 256}={'v' * 255}", f"{'k' * 256}={'v' * 255}"),
        (f"{'k' * 257}=v", ""),
        (f"k={'v' * 257}", ""),
        ("a=1,a=2", ""),
        ("a=1,b", ""),
        ("a=1,b=", ""),
        ("a=b=c", ""),
        ("A=1", ""),
        ("a=ü", ""),
        ("a=1\r\nx: y", ""),
        ("a=1\n", ""),
    ],
)
def test_a_tracestate_is_read_in_whole_or_not_at_all(sent: str, state: str) -> None:
    assert TraceContext.parse(f"00-{TRACE}-{SPAN}-01", sent) == TraceContext(TRACE, SPAN, True, state)


def test_a_tracestate_beside_a_malformed_traceparent_is_ignored() -> None:
    assert TraceContext.parse(f"00-{TRACE}-{SPAN}", "a=1") is None


def test_a_context_is_written_as_it_was_read() -> None:
    for sent in (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"):
        assert str(TraceContext.parse(sent)) == sent


def test_ids_are_hexadecimal_and_differ() -> None:
    ids = {new_id(16) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id) == 16 and int(id, 16) for id in ids)


def test_spans_leave_the_models_process_as_they_are() -> None:
    span = Span("compute", SPAN, attributes={"a": 1, "b": 2.5, "c": True, "d": "ü"}, error="internal")
    span.event("denoising step", step=1)
    span.end()
    assert from_json(to_json([span, Span("queue")]))[0] == span
