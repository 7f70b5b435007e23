"""Rules: a deployment's numbers let it serve: replicas, requests at once, health checks and its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deployments.triton.health import REAL_S
from kuberay import app
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.resource_requests import deployments
from kuberay.doctor.rules.times import longest_deadline_s

SERVES_MOST, SERVES_STOP_S, SERVES_LOOP_S = 5, 20.0, 2.0
"""Serve's defaults."""
LONGEST_UPSCALE_S = 600.0
LONGEST_PERIOD_S = 60.0


@dataclass(frozen=True)
class Stated:
    """A deployment as the config states it, over the app's own."""

    name: str
    field: str
    content: dict[str, Any]
    code: Any
    is_ingress: bool

    def own(self, name: str, default: float) -> float:
        """Return the number of the code, where that is known."""
        found = app.configured(self.code, name)
        return float(found) if isinstance(found, int | float) else default

    def number(self, name: str, default: float) -> float:
        found = self.content.get(name)
        return float(found) if isinstance(found, int | float) else self.own(name, default)

    @property
    def scaling(self) -> dict[str, Any]:
        found = self.content.get("autoscaling_config")
        return found if isinstance(found, dict) else {}


def _stated(service: Service) -> Iterator[Stated]:
    for number, application in enumerate(service.applications):
        code = deployments(application)
        ingress = next(iter(code), None)  # the app's own deployment comes before those that are bound to it
        for index, content in enumerate(application.get("deployments") or []):
            name = content["name"]
            field = f"{SERVE_CONFIG}: applications[{number}].deployments[{index}]"
            yield Stated(name, field, content, code.get(name), name == ingress)


@rule(
    "SG230",
    "a replica takes as many requests at the same time as the app counts on",
    "Leave `max_ongoing_requests` out.",
)
def a_replica_takes_as_many_requests_as_the_app_counts_on(service: Service) -> Iterator[Finding]:
    own = a_replica_takes_as_many_requests_as_the_app_counts_on
    for one in _stated(service):
        most, wanted = one.content.get("max_ongoing_requests"), one.own("max_ongoing_requests", 0)
        if not isinstance(most, int) or one.code is None or not service.is_ours or most >= wanted:
            continue
        why = (
            "streams, health checks and pages would wait behind one another, and nothing could refuse a request"
            if one.is_ingress
            else "the model could not batch them, and they would wait in the ingress"
        )
        sentence = f"a replica of {one.name} would take {most} at once, and the app counts on {wanted:g}: {why}. Leave it out"
        yield service.finding(own, f"{one.field}.max_ongoing_requests", sentence, WARNING)


@rule(
    "SG231",
    "a deployment scales before its requests wait",
    "Use a `target_ongoing_requests` below `max_ongoing_requests`, and a short `upscale_delay_s`.",
)
def a_deployment_scales_before_its_requests_wait(service: Service) -> Iterator[Finding]:
    own = a_deployment_scales_before_its_requests_wait
    deadline_s = longest_deadline_s(service)
    for one in _stated(service):
        if not one.scaling:
            continue
        target, most = one.scaling.get("target_ongoing_requests"), one.number("max_ongoing_requests", SERVES_MOST)
        known = one.code is not None or "max_ongoing_requests" in one.content
        if isinstance(target, int | float) and known and target > most:
            sentence = (
                f"{target:g} is more than the {most:g} that a replica of {one.name} takes at once (max_ongoing_requests): Serve adds no "
                "replica while all are busy, only once requests wait for long"
            )
            yield service.finding(own, f"{one.field}.autoscaling_config.target_ongoing_requests", sentence, WARNING)
        delay_s, bound_s = one.scaling.get("upscale_delay_s"), deadline_s or LONGEST_UPSCALE_S
        if isinstance(delay_s, int | float) and delay_s > bound_s:
            sentence = (
                f"{one.name} would be overloaded for {delay_s:g} s before Serve adds a replica, longer than a request may take "
                f"({bound_s:g} s): its requests fail meanwhile"
            )
            yield service.finding(own, f"{one.field}.autoscaling_config.upscale_delay_s", sentence, WARNING)


@rule(
    "SG232",
    "the app has a replica that answers",
    "Let the ingress have at least one replica: `min_replicas: 1`.",
)
def the_app_has_a_replica_that_answers(service: Service) -> Iterator[Finding]:
    own = the_app_has_a_replica_that_answers
    for one in _stated(service):
        if one.is_ingress and one.scaling.get("min_replicas") == 0:
            sentence = (
                f"without requests {one.name} has no replica, nor any pod a proxy that is ready: the next client gets an error, or waits "
                "until a pod and a replica have started"
            )
            yield service.finding(own, f"{one.field}.autoscaling_config.min_replicas", sentence, WARNING)


@rule(
    "SG233",
    "a replica that stops looks for its last request often enough",
    "Leave `graceful_shutdown_wait_loop_s` out.",
)
def a_stop_looks_often_enough(service: Service) -> Iterator[Finding]:
    for one in _stated(service):
        loop_s, stop_s = (
            one.number(name, default)
            for name, default in (
                ("graceful_shutdown_wait_loop_s", SERVES_LOOP_S),
                ("graceful_shutdown_timeout_s", SERVES_STOP_S),
            )
        )
        if stop_s and loop_s >= stop_s and "graceful_shutdown_wait_loop_s" in one.content:
            sentence = (
                f"{one.name} would look every {loop_s:g} s whether its requests have ended, and is killed after {stop_s:g} s "
                "(graceful_shutdown_timeout_s): every stop would take that long, and none be orderly"
            )
            yield service.finding(a_stop_looks_often_enough, f"{one.field}.graceful_shutdown_wait_loop_s", sentence, WARNING)


@rule(
    "SG234",
    "a health check waits for a busy model, and comes soon",
    "Leave `health_check_timeout_s` and `health_check_period_s` out.",
)
def a_health_check_waits_for_a_busy_model(service: Service) -> Iterator[Finding]:
    own = a_health_check_waits_for_a_busy_model
    for one in _stated(service):
        wait_s, period_s = one.content.get("health_check_timeout_s"), one.content.get("health_check_period_s")
        ours = one.code is not None and service.is_ours
        if isinstance(wait_s, int | float) and ours and not one.is_ingress and wait_s <= REAL_S:
            sentence = (
                f"the check of {one.name} may wait {REAL_S:g} s for an inference, and Serve would take the replica for dead after "
                f"{wait_s:g} s: under load it would be replaced again and again"
            )
            yield service.finding(own, f"{one.field}.health_check_timeout_s", sentence, WARNING)
        elif isinstance(wait_s, int | float) and wait_s < 1:
            sentence = f"a busy replica of {one.name} does not answer in {wait_s:g} s, and Serve would replace it"
            yield service.finding(own, f"{one.field}.health_check_timeout_s", sentence, WARNING)
        if isinstance(period_s, int | float) and period_s > LONGEST_PERIOD_S:
            sentence = f"a replica of {one.name} that is broken would get requests for up to {period_s:g} s: take 10 or less"
            yield service.finding(own, f"{one.field}.health_check_period_s", sentence, WARNING)
