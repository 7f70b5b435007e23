"""The doctor's rules, applied to manifests.

A rule is a function that yields findings about one RayService, and about the other documents in its folder.
"""

from collections.abc import Iterable
from pathlib import Path

from kuberay.doctor import network, operator, placement, pods, route, serve_config, times, versions
from kuberay.doctor.manifest import Finding, Rule, Service, Unreadable, read

FIRST: tuple[Rule, ...] = (
    operator.ray_start_params_survive_every_parser,
    pods.every_amount_is_a_quantity,
    serve_config.serve_accepts_the_config,
)
"""Rules about manifests that the others cannot read."""
RULES: tuple[Rule, ...] = (
    *operator.RULES,
    *serve_config.RULES,
    *placement.RULES,
    *pods.RULES,
    *versions.RULES,
    *times.RULES,
    *route.RULES,
    *network.RULES,
)


def examine(paths: Iterable[Path]) -> list[Finding]:
    """Every finding in these files, and in the files of these folders. Raises Unreadable where there is no RayService at all."""
    findings: list[Finding] = []
    services = 0
    for service in read(paths):
        if isinstance(service, Finding):
            findings.append(service)
            continue
        services += 1
        findings += diagnose(service)
    if not services and not findings:
        raise Unreadable("these paths hold no RayService: name a rendered folder such as kuberay/manifests/cpu")
    return list(dict.fromkeys(findings))  # two RayServices of one folder have the same documents beside them


def diagnose(service: Service) -> list[Finding]:
    first = [finding for rule in FIRST for finding in rule(service)]
    return first or [finding for rule in RULES for finding in rule(service)]
