"""OpenTelemetry's standard variables as the settings of tracing."""

import pytest

from graphs.tracing.settings import TracingSettings
from sonograph.otel import tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {}),
        ({"OTEL_SERVICE_NAME": "drawing"}, {}),
        (ENDPOINT, {"endpoint": "http://collector:4318"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, {"endpoint": "http://collector:4318"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/otlp/v1/traces", **ENDPOINT}, {"endpoint": "http://a/otlp"}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, {}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {}),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b, x-team = c=d,",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_SERVICE_NAME": "drawing",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.25",
            },
            {
                "endpoint": "http://collector:4318",
                "protocol": "grpc",
                "compression": "gzip",
                "headers": {"x-key": "a b", "x-team": "c=d"},
                "service_name": "drawing",
                "ratio": 0.25,
            },
        ),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}, {"endpoint": "http://collector:4318", "ratio": 0.0}),
    ],
)
def test_the_variables_become_settings(environment: dict[str, str], found: dict[str, object]) -> None:
    assert tracing(environment) == found
    TracingSettings.model_validate(found)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "name=value"),
        ({"OTEL_TRACES_SAMPLER": "xray"}, "OTEL_TRACES_SAMPLER is one of"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}, "a number from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "25"}, "a number from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "a number from 0 to 1"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "is http/protobuf or grpc here"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "is none or gzip here"),
        *(
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": address}, "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http")
            for address in (
                "collector:4317",
                "http://",
                "http://a:secret",
                "http://a:0",
                "https://me:secret@collector",
                "http://[",
            )
        ),
    ],
)
def test_a_value_that_is_none_is_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        tracing({**ENDPOINT, **environment})
    assert "secret" not in str(raised.value)
