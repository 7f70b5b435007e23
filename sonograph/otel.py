"""OpenTelemetry's standard variables as settings: `sonograph serve` and `sonograph render` read them, once."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs.tracing.otlp import check_endpoint, parse_headers

PATH = "/v1/traces"
"""Path of OTLP over HTTP, which the variable for traces alone contains, and the one for all signals does not."""
ALWAYS = {"always_on": 1.0, "parentbased_always_on": 1.0, "always_off": 0.0, "parentbased_always_off": 0.0}
RATIOS = ("traceidratio", "parentbased_traceidratio")
PROTOCOLS = ("http/protobuf", "grpc")
COMPRESSIONS = ("none", "gzip")
LONGEST_MS = 300_000
"""The bound of the setting `tracing.timeout_s`."""
OF_OTLP = ("ENDPOINT", "PROTOCOL", "HEADERS", "COMPRESSION", "CERTIFICATE", "TIMEOUT")
READ = (
    *(f"OTEL_EXPORTER_OTLP_{traces}{name}" for traces in ("", "TRACES_") for name in OF_OTLP),
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SDK_DISABLED",
)
"""The variables that are read, each once."""
OTHER = re.compile("OTEL_(METRIC|LOG|BLRP|EXPORTER_(OTLP_(METRIC|LOG)|PROMETHEUS))")
"""The variables of other signals than traces."""


def tracing(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The section `tracing` of the settings, as far as the variables READ name it; empty where they name no collector.

    Raises ValueError for a value that is none; it has no header and no address in it, since those may hold a password.
    """
    if not _exports(environment):
        return {}
    endpoint = check_endpoint(_of_traces(environment, "ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT").removesuffix(PATH)
    found: dict[str, Any] = {"endpoint": endpoint}
    for name, known in (("PROTOCOL", PROTOCOLS), ("COMPRESSION", COMPRESSIONS)):
        if value := _of_traces(environment, name):
            if value not in known:
                raise ValueError(f"OTEL_EXPORTER_OTLP_{name} is {' or '.join(known)} here, not {value!a}")
            found[name.lower()] = value
    if sent := parse_headers(_of_traces(environment, "HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"):
        found["headers"] = sent
    if file := _of_traces(environment, "CERTIFICATE"):
        found["certificate_file"] = str(Path(file).absolute())
    if timeout_ms := _of_traces(environment, "TIMEOUT"):
        if not timeout_ms.isdecimal() or not 0 < int(timeout_ms) <= LONGEST_MS:
            raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds from 1 to {LONGEST_MS}, not {timeout_ms!a}")
        found["timeout_s"] = int(timeout_ms) / 1000
    resource = parse_headers(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    of_resource = resource.pop("service.name", "")
    if name := environment.get("OTEL_SERVICE_NAME", "").strip() or of_resource:
        found["service_name"] = name
    if resource:
        found["resource"] = resource
    ratio = _ratio(environment.get("OTEL_TRACES_SAMPLER", "").strip(), environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    return found if ratio is None else {**found, "sample_ratio": ratio}


def not_read(environment: Mapping[str, str] = os.environ) -> str:
    """A sentence that names the set variables of OpenTelemetry's for traces that are none of READ; empty without one, or a collector."""
    others = sorted(name for name in environment if name.startswith("OTEL_") and name not in READ and not OTHER.match(name))
    if not others or not _exports(environment):
        return ""
    return f"{', '.join(others)}: not read here, and without an effect; those that are: {', '.join(READ)}"


def _exports(environment: Mapping[str, str]) -> bool:
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not _of_traces(environment, "ENDPOINT") or disabled or exporter == "none":
        return False
    if exporter != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER is otlp or none here, not {exporter!a}")
    return True


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
