"""The steps of a rollout's commands. Each can be repeated: it does what is left to do."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sonograph.errors import Failed
from sonograph.rollouts import serve_config
from sonograph.rollouts.serve_config import Candidate
from sonograph.rollouts.targets import FAILED, Target
from sonograph.service import Service

POLL_S = 1.0
SETTLE_S = 3.0
"""Time in which every ingress replica reads a change of the rollout, before the candidate's replicas end."""


@dataclass(frozen=True)
class Run:
    """Common data of the steps."""

    service: Service
    open: Callable[[], Target]
    """Find the target, once a step needs it."""
    stage: str
    application: str
    """The service's."""
    report: Callable[[str], None]
    """Called with each new sentence on what the command does, or waits for."""
    wait_s: float
    """Longest wait for an application."""
    settle_s: float = SETTLE_S
    poll_s: float = POLL_S

    @cached_property
    def target(self) -> Target:
        return self.open()

    def deploy(self, candidate: Candidate, even_if_full: bool = False) -> None:
        """Add the candidate's application to Serve's config; nothing where it is there with these settings."""
        config = self.target.config()
        changed = serve_config.with_candidate(config, self.application, candidate)
        if serve_config.has(config, candidate.application):
            present, wanted = (serve_config.of(one, candidate.application) for one in (config, changed))
            if serve_config.same(present, wanted):
                return
        options = changed["applications"][-1]["deployments"][0]["ray_actor_options"]
        if not even_if_full and (sentence := self.target.lacking(options, candidate.application)):
            raise Failed(
                f"{sentence}: give it less (--num-cpus, --num-gpus, --resources), free or add a node, "
                "or let it wait for one that an autoscaler adds (--even-if-full)"
            )
        self.report(f"Adding the application {candidate.application}")
        self.target.apply(changed)

    def wait_until_ready(self) -> None:
        """Wait until the service's ingress can use the candidate. Raises Failed where its application fails, or the rollout is aborted."""
        deadline_s, application, reason = time.monotonic() + self.wait_s, "", ""
        while time.monotonic() < deadline_s:
            view = self.service.view(self.stage)
            if view is None:
                raise Failed(f"the rollout of {self.stage} has been removed")
            application, reason = view["rollout"]["application"], view["candidate"]["reason"]
            if view["rollout"]["status"] == "aborted":
                raise Failed(f"the rollout of {self.stage} was aborted: {view['rollout']['reason']}")
            if view["candidate"]["ready"]:
                return
            self._running(application, f"`sonograph rollout abort {self.stage}` removes it")
            self.report(f"Waiting for {application}: {reason or 'it starts'}")
            time.sleep(self.poll_s)
        raise Failed(
            f"{application} was not ready within {self.wait_s:.0f} s ({reason}): repeat the command to wait on, "
            f"or remove it: sonograph rollout abort {self.stage}"
        )

    def promote(self) -> None:
        """Make the candidate's settings the stable model's: the candidate answers all requests meanwhile."""
        view, config = self.service.view(self.stage), self.target.config()
        candidate = view["rollout"]["application"] if view else self.default_name
        if view is None and not serve_config.has(config, candidate):
            raise Failed(f"{self.stage} has no rollout to promote: `sonograph rollout start {self.stage}` begins one")
        if view is not None:
            if view["rollout"]["status"] == "aborted":
                raise Failed(f"the rollout of {self.stage} was aborted ({view['rollout']['reason']}): start it anew")
            if not view["candidate"]["ready"]:
                raise Failed(f"{candidate} cannot answer all requests: {view['candidate']['reason']}")
            if view["rollout"]["status"] != "promoting":
                self.report(f"The candidate of {self.stage} gets every request")
                self.service.change(self.stage, status="promoting")
        if serve_config.has(config, candidate):
            changed = serve_config.promoted(config, self.application, self.stage, candidate)
            if changed != config:
                if view is None:
                    raise Failed(
                        f"{self.stage} has no rollout, and {candidate} other settings: `sonograph rollout remove {self.stage}`"
                    )
                time.sleep(self.settle_s)
                self.report(f"{self.application} gets the candidate's settings of {self.stage}")
                self.target.apply(changed)
            self._wait_for_service()
        self.remove(candidate)

    def remove(self, candidate: str = "") -> None:
        """Remove the rollout, and the candidate's application: by default the rollout's."""
        view = self.service.view(self.stage)
        candidate = candidate or (view["rollout"]["application"] if view else self.default_name)
        if view is not None:
            self.report(f"Removing the rollout of {self.stage}")
            self.service.remove(self.stage)
            time.sleep(self.settle_s)
        self.remove_application(candidate)

    def abort(self, keep_application: bool) -> None:
        """End the rollout: the stable model answers every request."""
        view = self.service.view(self.stage)
        if view is None:
            raise Failed(
                f"{self.stage} has no rollout: `sonograph rollout remove {self.stage}` removes an application that is left"
            )
        if view["rollout"]["status"] != "aborted":
            self.report(f"Aborting the rollout of {self.stage}")
            self.service.change(self.stage, status="aborted")
            time.sleep(self.settle_s)
        if not keep_application:
            self.remove_application(view["rollout"]["application"])

    def remove_application(self, candidate: str) -> None:
        config = self.target.config()
        if candidate == self.application:
            raise Failed(f"{candidate} is the service itself, and no candidate")
        if serve_config.has(config, candidate):
            self.report(f"Removing the application {candidate}")
            self.target.apply(serve_config.without(config, candidate))

    @property
    def default_name(self) -> str:
        return f"{self.application}-{self.stage}-candidate"

    def _wait_for_service(self) -> None:
        deadline_s = time.monotonic() + self.wait_s
        while time.monotonic() < deadline_s:
            if self._running(self.application, "the candidate still answers; repeat the command once the cause is mended"):
                return
            self.report(f"Waiting for {self.application}, whose ingress and {self.stage} start anew")
            time.sleep(self.poll_s)
        raise Failed(f"{self.application} did not run within {self.wait_s:.0f} s: repeat the command to wait on")

    def _running(self, application: str, remedy: str) -> bool:
        status, message = self.target.status(application)
        if status == FAILED:
            raise Failed(f"Serve cannot start {application} ({message}): {remedy}")
        return status in ("RUNNING", "UNKNOWN")


def begin(run: Run, request: dict[str, Any], measure: Callable[[], dict[str, int]] | None) -> None:
    """Begin the rollout. `measure` counts word errors of both models, before the candidate gets requests; None: there are no labels."""
    application = request["application"]
    view = run.service.view(run.stage)
    present = view["rollout"] if view and view["rollout"]["status"] != "aborted" else None
    if present and present["application"] != application:
        raise Failed(f"{run.stage} has a rollout of {present['application']}: `sonograph rollout abort {run.stage}` ends it")
    if measure is None:
        if not present:
            run.service.change(run.stage, **request)
        run.wait_until_ready()
        return
    if not present:
        run.service.change(run.stage, application=application, share=0, mirror=0, plan=None)
    run.wait_until_ready()
    if not (present and present["labelled"]):
        changes = {name: value for name, value in request.items() if name != "application"}
        run.service.change(run.stage, **changes, labelled=measure())
