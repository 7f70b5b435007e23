"""OpenTelemetry's standard variables as settings: `sonograph serve` reads them, once."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

PATH = "/v1/traces"
"""Path of OTLP over HTTP, which the variable for traces alone contains, and the one for all signals does not."""
ALWAYS = {"always_on": 1.0, "parentbased_always_on": 1.0, "always_off": 0.0, "parentbased_always_off": 0.0}
RATIOS = ("traceidratio", "parentbased_traceidratio")


def tracing(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The section `tracing` of the settings, as far as the variables name it; empty where they name no collector.

    OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL and _HEADERS, each also with TRACES before the last word; OTEL_SERVICE_NAME,
    OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER. Raises ValueError for a value that is none.
    """
    endpoint = _of_traces(environment, "ENDPOINT").rstrip("/").removesuffix(PATH)
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none":
        return {}
    found: dict[str, Any] = {"endpoint": endpoint}
    if protocol := _of_traces(environment, "PROTOCOL"):
        found["protocol"] = protocol
    if headers := _of_traces(environment, "HEADERS"):
        found["headers"] = dict(_header(one) for one in headers.split(",") if one.strip())
    if name := environment.get("OTEL_SERVICE_NAME", "").strip():
        found["service_name"] = name
    ratio = _ratio(environment.get("OTEL_TRACES_SAMPLER", "").strip(), environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    return found if ratio is None else {**found, "ratio": ratio}


def _of_traces(environment: Mapping[str, str], name: str) -> str:
    """The variable for traces, else the one for all signals."""
    found = environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}") or ""
    return found.strip()


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("OTEL_EXPORTER_OTLP_HEADERS is name=value,name=value, percent-encoded")
    return unquote(name.strip()), unquote(value.strip())


def _ratio(sampler: str, argument: str) -> float | None:
    if not sampler:
        return None
    if sampler in ALWAYS:
        return ALWAYS[sampler]
    if sampler not in RATIOS:
        raise ValueError(f"OTEL_TRACES_SAMPLER is one of {', '.join((*ALWAYS, *RATIOS))}, not {sampler!a}")
    try:
        return float(argument or 1)
    except ValueError as error:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG is a number from 0 to 1, not {argument!a}") from error
