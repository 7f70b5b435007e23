"""Rules: a process runs no more threads at once than the CPUs that it asks for, by the rule of `sonograph rightsize`."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodContainer, PodTemplate, pod_templates
from kuberay.doctor.resource_requests import ResourceRequest, resource_requests, worker_group
from kuberay.doctor.rules.budgets import with_limit_range
from kuberay.doctor.rules.times import ENV
from kuberay.doctor.sizes import crowding, has_too_many_threads
from kuberay.doctor.untyped import mapping

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "GOMAXPROCS",
)
"""Variables by which libraries take their number of threads."""
SETTING = re.compile(r"(?!.*max)(\w+_)?threads")
"""Name of a setting, or of a command's option, that is a number of threads; of a bound it is none."""
MOST_THREADS = 1_000_000
"""More is no number of threads."""


@rule(
    "SG313",
    "a process runs no more threads than the CPUs it asks for",
    "Ask for as many CPUs as it runs threads, or bound the threads: without the variable they follow `num_cpus`.",
)
def threads_have_their_cpus(service: Service) -> Iterator[Finding]:
    """Ray and Kubernetes place by what is asked for: a node fills with processes whose threads then take turns."""
    requests = resource_requests(service)
    for number, application in enumerate(service.applications):
        field = f"{SERVE_CONFIG}: applications[{number}]"
        own = [one for one in requests if one.field.startswith(f"{field}.")]
        found = [(request, *one) for request in own for one in _of_replica(service, request, field, application)]
        if own:  # the settings do not say whose threads they are
            largest = max(own, key=lambda one: one.amounts["CPU"])
            found += [(largest, *one) for one in _settings(application.get("args"), f"{field}.args")]
        for request, place, name, threads in found:
            if has_too_many_threads(threads, request.amounts["CPU"]):
                sentence = f"{name} lets a replica of {request.name} run {_crowding(threads, request.amounts['CPU'], 'num_cpus')}"
                yield service.finding(threads_have_their_cpus, place, sentence, WARNING)
    for template in pod_templates(service):
        for one in template.containers:
            if not one.ray or template.node_type == "head":  # in the others it is the replicas that ask
                yield from _of_container(service, template, one)


def _of_replica(
    service: Service, request: ResourceRequest, field: str, application: Mapping[str, Any]
) -> Iterator[tuple[str, str, int]]:
    """Yield place, name and number of what sets a replica's threads. A deployment's variables precede the app's, and those the pod's."""
    group = worker_group(service, request)
    pods = [group] if group else service.groups
    places = [
        (f"{request.field}.ray_actor_options.runtime_env.env_vars", _variables(request.options.get("runtime_env"))),
        (f"{field}.runtime_env.env_vars", _variables(application.get("runtime_env"))),
        *((service.field(one, ENV), {variable.name: variable.value for variable in one.ray.env}) for one in pods),
    ]
    seen = set[str]()
    for place, variables in places:
        for name in VARIABLES:
            threads = _number(variables.get(name))
            if name not in seen and threads is not None:
                yield place, name, threads
        seen |= set(variables)


def _crowding(threads: int, cpus: float, field: str) -> str:
    asked = f"{cpus:g} CPU{'' if cpus == 1 else 's'}" if cpus else "no CPU"
    return f"{threads} threads, and it asks for {asked} ({field}): {crowding(threads, cpus)}"


def _variables(runtime_env: Any) -> Mapping[str, Any]:
    return mapping(mapping(runtime_env).get("env_vars"))


def _settings(value: Any, path: str) -> Iterator[tuple[str, str, int]]:
    """Yield path, name and number of each setting of threads."""
    for key, item in mapping(value).items():
        threads = _number(item)
        if threads is not None and SETTING.fullmatch(str(key)):
            yield f"{path}.{key}", str(key), threads
        yield from _settings(item, f"{path}.{key}")


def _of_container(service: Service, template: PodTemplate, one: PodContainer) -> Iterator[Finding]:
    requests, _ = with_limit_range(service, template, one)
    cpus = float(requests.get("cpu", 0))
    found = [
        (f"{one.place}.env[{index}].value", str(variable.get("name")), _number(variable.get("value")))
        for index, variable in one.env
        if variable.get("name") in VARIABLES
    ]
    found += [
        (f"{one.place}.{key}", option, threads) for key in ("command", "args") for option, threads in _options(one.content, key)
    ]
    for field, name, threads in found:
        if threads is not None and has_too_many_threads(threads, cpus):
            sentence = f"{name} lets the container {one.name} run {_crowding(threads, cpus, 'requests.cpu')}"
            yield template.document.finding(threads_have_their_cpus, field, sentence, WARNING)


def _options(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, int]]:
    """Yield name and number of each option of a command that is a number of threads: `--threads 8`, `--io-threads=4`."""
    stated = content.get(key)
    words = [word for text in stated for word in str(text).split()] if isinstance(stated, list) else []
    for word, following in pairwise([*words, ""]):
        option, is_joined, value = word.partition("=")
        name = option.lstrip("-").replace("-", "_")
        threads = _number(value if is_joined else following)
        if option.startswith("--") and threads is not None and SETTING.fullmatch(name):
            yield option, threads


def _number(value: Any) -> int | None:
    """A number of threads; of a list for nested regions, as OpenMP takes it, the first."""
    text = str(value).partition(",")[0].strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,7}", text):
        return None
    return number if 0 < (number := int(text)) < MOST_THREADS else None
