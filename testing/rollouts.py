"""The HTTP edge with rollouts, over stages that answer at once and a store in memory: several ingress replicas share it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeStatus

from graphs.core.readiness import Readiness
from graphs.http.settings import HttpSettings
from graphs.rollouts.manager import Rollouts
from graphs.rollouts.samples import Samples
from graphs.rollouts.store import Memory, Store
from graphs.rollouts.tracked import Candidate
from testing.fakes import FakeService, FakeStage, deployment_status, transcript

APPLICATION = "whisper-candidate"


@dataclass
class Cluster:
    """The part that ingress replicas share: the store, the time, and Serve's applications."""

    values: Memory = field(default_factory=Memory)
    now: float = 1_000_000.0
    applications: dict[str, Any] = field(default_factory=lambda: {APPLICATION: deployment_status()})
    """The state of Whisper's deployment in each candidate's application."""

    def status(self) -> ServeStatus:
        return ServeStatus(
            applications={
                name: ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, {"whisper": state})
                for name, state in self.applications.items()
            }
        )


class Ingress:
    """One ingress replica."""

    def __init__(
        self, cluster: Cluster, name: str = "ingress-1", http: HttpSettings | None = None, samples: Samples | None = None
    ) -> None:
        self.cluster = cluster
        self.service = FakeService(http or HttpSettings())
        self.candidate = FakeStage(self.service.whisper.spec, transcript("a green pear"))
        self.rollouts = self.service.rollouts = Rollouts(
            "sonograph",
            Store(cluster.values, "sonograph"),
            self.service.stages,
            self._candidate,
            self.service.metrics,
            name,
            mirror_s=5,
            samples=samples,
            clock=lambda: cluster.now,
        )

    async def _candidate(self, stage: Any, application: str) -> Candidate | None:
        if application not in self.cluster.applications:
            return None
        made: Any = self.candidate
        return Candidate(made, Readiness(application, ("whisper",), self.cluster.status, fresh_s=0))

    async def look(self) -> None:
        """Follow the store and judge, as every 0.4 s and every second."""
        self.rollouts.judge_next()
        await self.rollouts.refresh()

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.service.app(), raise_app_exceptions=False, client=("127.0.0.1", 50_000))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    async def finish(self) -> None:
        """Wait until mirrored requests have ended, and all that has been seen of both models is recorded."""
        split = self.service.whisper.rollout.split
        await asyncio.gather(*(split.mirrors if split else ()), return_exceptions=True)
        for tracked in self.rollouts.tracked.values():
            await tracked.recorder.drained()
