"""The doctor: reads manifests, rendered or edited by hand, and says in sentences what would go wrong. Needs no network.

A rule is a function that yields findings about one RayService, and about the other documents in its folder.
"""

from collections.abc import Iterable
from pathlib import Path

from kuberay.doctor import config, operator, placement, pods, times, versions
from kuberay.doctor.manifest import Finding, Rule, Service, Unreadable, read

FIRST: tuple[Rule, ...] = (
    operator.ray_start_params_survive_every_parser,
    pods.every_amount_is_a_quantity,
    config.serve_accepts_the_config,
)
"""What these find keeps the others from reading the manifest."""
RULES: tuple[Rule, ...] = (*operator.RULES, *config.RULES, *placement.RULES, *pods.RULES, *versions.RULES, *times.RULES)


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
        raise Unreadable("there is no RayService in what was given: name a rendered folder such as kuberay/manifests/cpu")
    return findings


def diagnose(service: Service) -> list[Finding]:
    first = [finding for rule in FIRST for finding in rule(service)]
    return first or [finding for rule in RULES for finding in rule(service)]
