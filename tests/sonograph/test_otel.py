"""OpenTelemetry's standard variables as the settings of tracing."""

from pathlib import Path

import pytest

from graphs.tracing.settings import TracingSettings
from sonograph.otel import READ, not_read, tracing

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
                "sample_ratio": 0.25,
            },
        ),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "5000",
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2500",
                "OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/other.pem",
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/etc/ca.pem",
                "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=a%20b",
                "OTEL_SERVICE_NAME": "drawing",
            },
            {
                "endpoint": "http://collector:4318",
                "compression": "gzip",
                "timeout_s": 2.5,
                "certificate_file": "/etc/ca.pem",
                "resource": {"deployment.environment.name": "a b"},
                "service_name": "drawing",
            },
        ),
        (
            {**ENDPOINT, "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"},
            {"endpoint": "http://collector:4318", "service_name": "other"},
        ),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem",
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_SDK_DISABLED": "false",
            },
            {"endpoint": "http://collector:4318", "certificate_file": str(Path.cwd() / "ca.pem")},
        ),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}, {"endpoint": "http://collector:4318", "sample_ratio": 0.0}),
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
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli"}, "is none or gzip here"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is otlp or none here"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "secret"}, "OTEL_RESOURCE_ATTRIBUTES is name=value"),
        *(
            ({"OTEL_EXPORTER_OTLP_TIMEOUT": timeout}, "OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds")
            for timeout in ("0", "-1", "10s", "300001", "1.5")
        ),
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


def test_a_variable_for_traces_that_is_not_read_is_named() -> None:
    others = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "9",
        "OTEL_PROPAGATORS": "b3",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "secret",
        "OTEL_METRIC_EXPORT_INTERVAL": "9",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://other",
        "OTEL_LOG_LEVEL": "info",
    }
    sentence = not_read({**ENDPOINT, **others, **dict.fromkeys(READ[1:], ""), "OTEL_SDK_DISABLED": "false"})
    assert sentence.startswith("OTEL_BSP_MAX_QUEUE_SIZE, OTEL_EXPORTER_OTLP_CLIENT_KEY, OTEL_PROPAGATORS: not read here")
    assert "secret" not in sentence
    assert not_read(ENDPOINT) == not_read(others) == not_read({**ENDPOINT, **others, "OTEL_SDK_DISABLED": "true"}) == ""


@pytest.mark.parametrize("name", READ)
def test_each_variable_that_is_said_to_be_read_has_an_effect(name: str) -> None:
    values = {
        "ENDPOINT": "http://a",
        "PROTOCOL": "grpc",
        "HEADERS": "a=b",
        "COMPRESSION": "gzip",
        "CERTIFICATE": "/a",
        "TIMEOUT": "9",
    }
    others = {
        "SERVICE_NAME": "a",
        "ATTRIBUTES": "a=b",
        "SAMPLER": "always_on",
        "ARG": "0.5",
        "EXPORTER": "none",
        "DISABLED": "true",
    }
    (value,) = (value for end, value in (values | others).items() if name.endswith(f"_{end}"))
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio"} if name.endswith("ARG") else {}
    without = {} if name == "OTEL_EXPORTER_OTLP_ENDPOINT" else {**ENDPOINT, **sampler}
    assert tracing({**without, name: value}) != tracing(without)
