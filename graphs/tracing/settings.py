"""The settings of tracing."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from deployments.settings import Section
from graphs.tracing.otlp import check_endpoint


class TracingSettings(Section):
    RENAMED: ClassVar = {
        "kept": "tracing.max_traces",
        "kept_spans": "tracing.max_spans",
        "words": "tracing.message_content",
        "ratio": "tracing.sample_ratio",
    }

    max_traces: int = Field(default=256, ge=0, le=10_000)
    """Traces of the last requests that each ingress replica keeps, for `sonograph trace`; 0: none."""
    max_spans: int = Field(default=50_000, ge=1)
    """Spans and events of these traces in sum; beyond it the oldest traces are dropped, and the newest one never is."""
    message_content: bool = False
    """Write prompts and transcripts into the spans, cut to 1,024 characters each: personal data at the collector, and for operators."""
    endpoint: str = Field(default="", max_length=2000)
    """Address of an OpenTelemetry collector, such as `http://collector:4318`, and `:4317` for gRPC; empty: traces are sent nowhere."""
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    """OTLP's protocol, by the names of OTEL_EXPORTER_OTLP_PROTOCOL."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of each export, such as a collector's key."""
    headers_file: Path | None = None
    """File of further headers, as OTEL_EXPORTER_OTLP_HEADERS has them, such as a Secret's; read when the ingress starts."""
    certificate_file: Path | None = None
    """File of the certificates, in PEM, by which an https:// endpoint is checked; None: the usual authorities."""
    compression: Literal["none", "gzip"] = "none"
    """Of each export, by the names of OTEL_EXPORTER_OTLP_COMPRESSION."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Longest time of one attempt of an export over HTTP, and of all its attempts over gRPC."""
    service_name: str = "sonograph"
    """The traces' `service.name`."""
    resource: dict[str, str] = Field(default_factory=dict)
    """Further attributes of the service, such as `deployment.environment.name`."""
    sample_ratio: float = Field(default=0.1, ge=0, le=1)
    """Part of the traces that is sent, of those that the client's `traceparent` decides nothing about."""
    slow_s: float = Field(default=10.0, gt=0)
    """A request that takes at least this long is always sent, as one that fails is."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        return check_endpoint(endpoint, "tracing.endpoint") if endpoint else ""
