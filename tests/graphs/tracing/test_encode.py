"""OTLP's protobuf of a trace; test_export.py compares whole traces at a collector."""

from dataclasses import replace

import pytest

from deployments.span import TraceContext
from graphs.tracing.encode import encode, resource
from graphs.tracing.trace import Trace

CLIENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)


def test_the_resource_and_the_scope_name_the_service() -> None:
    (of_source,) = encode([Trace("POST /graph")], resource("drawing")).resource_spans
    found = {one.key: one.value.string_value for one in of_source.resource.attributes}
    assert found["service.name"] == "drawing"
    assert found.keys() == {"service.name", "service.version", "service.instance.id"}
    (of_scope,) = of_source.scope_spans
    assert (of_scope.scope.name, of_scope.scope.version) == ("sonograph", found["service.version"])


def test_the_resource_has_the_settings_attributes_under_its_own() -> None:
    found = resource("drawing", {"deployment.environment.name": "staging", "service.name": "other", "service.version": "0"})
    attributes = {one.key: one.value.string_value for one in found.attributes}
    assert attributes["deployment.environment.name"] == "staging"
    assert attributes["service.name"] == "drawing"
    assert attributes["service.version"] != "0"
    assert len(found.attributes) == 4


def test_each_span_has_the_clients_tracestate() -> None:
    trace = Trace("POST /graph", replace(CLIENT, state="a=1,b=2"))
    with trace.span("whisper"):
        pass
    (of_source,) = encode([trace, Trace("POST /listen")], resource("drawing")).resource_spans
    assert [span.trace_state for span in of_source.scope_spans[0].spans] == ["a=1,b=2", "a=1,b=2", ""]


@pytest.mark.parametrize(
    ("value", "field", "encoded"),
    [
        ("text", "string_value", "text"),
        (True, "bool_value", True),
        (7, "int_value", 7),
        (0.5, "double_value", 0.5),
        (2**70, "string_value", str(2**70)),
        ("\ud800", "string_value", "'\\ud800'"),
        ([1], "string_value", "[1]"),
        (None, "string_value", "None"),
    ],
)
def test_an_attribute_keeps_its_type_and_one_that_otlp_lacks_is_text(value: object, field: str, encoded: object) -> None:
    trace = Trace("POST /graph", **{"of": value})
    (of_source,) = encode([trace], resource("drawing")).resource_spans
    (attribute,) = of_source.scope_spans[0].spans[0].attributes
    assert (attribute.key, attribute.value.WhichOneof("value")) == ("of", field)
    assert getattr(attribute.value, field) == encoded


def test_a_root_whose_parent_is_the_clients_says_that_it_is_remote() -> None:
    trace = Trace("POST /graph", CLIENT)
    with trace.span("whisper"):
        pass
    (of_source,) = encode([trace, Trace("GET /readyz")], resource("drawing")).resource_spans
    assert [span.flags for span in of_source.scope_spans[0].spans] == [0x300, 0x100, 0x100]
