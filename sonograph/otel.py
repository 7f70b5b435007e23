"""OpenTelemetry's standard variables as settings: `sonograph serve` and `sonograph render` read them, once."""

import math
import os
from collections.abc import Mapping
from typing import Any

from graphs.tracing.otlp import check_endpoint, parse_headers

PATH = "/v1/traces"
"""Path of OTLP over HTTP, which the variable for traces alone contains, and the one for all signals does not."""
ALWAYS = {"always_on": 1.0, "parentbased_always_on": 1.0, "always_off": 0.0, "parentbased_always_off": 0.0}
RATIOS = ("traceidratio", "parentbased_traceidratio")
PROTOCOLS = ("http/protobuf", "grpc")
COMPRESSIONS = ("none", "gzip")


def tracing(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The section `tracing` of the settings, as far as the variables name it; empty where they name no collector.

    OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS and _COMPRESSION, each also with TRACES before the last word; OTEL_SERVICE_NAME,
    OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER. Raises ValueError for a value that is none;
    it has no header and no address in it, since those may hold a password.
    """
    endpoint = _of_traces(environment, "ENDPOINT")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none":
        return {}
    found: dict[str, Any] = {"endpoint": check_endpoint(endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT").removesuffix(PATH)}
    for name, known in (("PROTOCOL", PROTOCOLS), ("COMPRESSION", COMPRESSIONS)):
        if value := _of_traces(environment, name):
            if value not in known:
                raise ValueError(f"OTEL_EXPORTER_OTLP_{name} is {' or '.join(known)} here, not {value!a}")
            found[name.lower()] = value
    if sent := parse_headers(_of_traces(environment, "HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"):
        found["headers"] = sent
    if name := environment.get("OTEL_SERVICE_NAME", "").strip():
        found["service_name"] = name
    ratio = _ratio(environment.get("OTEL_TRACES_SAMPLER", "").strip(), environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    return found if ratio is None else {**found, "ratio": ratio}


def _of_traces(environment: Mapping[str, str], name: str) -> str:
    """The variable for traces, else the one for all signals."""
    found = environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}") or ""
    return found.strip()


def _ratio(sampler: str, argument: str) -> float | None:
    if not sampler:
        return None
    if sampler in ALWAYS:
        return ALWAYS[sampler]
    if sampler not in RATIOS:
        raise ValueError(f"OTEL_TRACES_SAMPLER is one of {', '.join((*ALWAYS, *RATIOS))}, not {sampler!a}")
    try:
        ratio = float(argument or 1)
    except ValueError:
        ratio = math.nan
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG is a number from 0 to 1, not {argument!a}")
    return ratio
