"""The rollouts of one ingress replica: follows the store, judges, and makes the plans' next changes."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from deployments.errors import DeploymentError, InvalidInput, ModelUnavailable
from graphs.core.metrics import Metrics
from graphs.core.policies.rollout import Split
from graphs.core.stage import Stage
from graphs.logs import lines
from graphs.rollouts import plan
from graphs.rollouts.change import Change, begun, changed
from graphs.rollouts.errors import RolloutConflict
from graphs.rollouts.judge import figures, judge
from graphs.rollouts.recorder import Keep, Recorder
from graphs.rollouts.samples import Samples
from graphs.rollouts.shape import check_shape
from graphs.rollouts.state import Rollout
from graphs.rollouts.store import Store
from graphs.rollouts.tracked import Candidate, Tracked

log = logging.getLogger("ray.serve")
POLL_S, IDLE_POLL_S = 0.4, 0.8
"""Time between two looks at the store, with and without a rollout: ingress replicas agree within that, and a message's time."""
JUDGE_S = 1.0
START_S = 5.0
"""Longest wait for the store when the ingress starts."""
WRITES = 5
"""Tries of one change, where other ingress replicas make others at the same time."""


class Rollouts:
    def __init__(
        self,
        application: str,
        store: Store,
        stages: Mapping[str, Stage[Any, Any]],
        candidate: Callable[[Stage[Any, Any], str], Awaitable[Candidate | None]],
        metrics: Metrics,
        replica: str,
        mirror_s: float,
        samples: Samples | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`candidate`: makes the stage of a Serve application, or None where there is no such application.

        `replica`: this ingress replica's id. `mirror_s`: longest time of a mirrored request. `clock`: Unix time.
        """
        self.application = application
        self._store = store
        self._stages = stages
        self._candidate = candidate
        self._metrics = metrics
        self._replica = replica
        self._mirror_s = mirror_s
        self._samples = samples
        self._clock = clock
        self._known: dict[str, int] = {}
        self.tracked: dict[str, Tracked] = {}
        """The rollouts by stage."""
        self._judged_s = -JUDGE_S
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Know the rollouts before the first request, as far as the store answers, and follow it until `stop`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._refresh_logged()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S if self.tracked else IDLE_POLL_S)
            await self._refresh_logged()

    async def _refresh_logged(self) -> None:
        """Refresh. A failure leaves the shares as they are; the first of several is logged."""
        try:
            await self.refresh()
            self._failed = False
        except Exception as error:
            if not self._failed:
                log.warning("the rollouts stay as they are, since they cannot be read: %s", ascii(str(error)))
            self._failed = True

    def judge_next(self) -> None:
        """Judge at the next refresh, however recent the last judgement is."""
        self._judged_s = -JUDGE_S

    async def refresh(self) -> None:
        """Read what is new in the store, publish what this replica has seen, and make the plans' next changes."""
        await self._read()
        for tracked in list(self.tracked.values()):
            await self._find_candidate(tracked)
        if self.tracked and time.monotonic() - self._judged_s >= JUDGE_S:
            self._judged_s = time.monotonic()
            for tracked in list(self.tracked.values()):
                await self._judge(tracked)

    async def _read(self) -> None:
        for stage, revision in (await asyncio.to_thread(self._store.latest)).items():
            if stage in self._stages and revision > self._known.get(stage, 0):
                self._apply(stage, revision, await asyncio.to_thread(self._store.read, stage, revision))

    def _apply(self, stage: str, revision: int, rollout: Rollout | None) -> None:
        if revision <= self._known.get(stage, 0):
            return
        self._known[stage] = revision
        old = self.tracked.pop(stage, None)
        if rollout is None:
            self._stages[stage].rollout.split = None
            return
        if old is None or old.rollout.id != rollout.id:
            old = Tracked(rollout, Recorder(self._stages[stage].spec, self._metrics, self._keep(rollout)))
        old.rollout, old.recorder.step = rollout, rollout.step
        self.tracked[stage] = old
        self._route(old)

    def _route(self, tracked: Tracked) -> None:
        """Make the stage follow the rollout's shares."""
        rollout, candidate, stage = tracked.rollout, tracked.candidate, self._stages[tracked.rollout.stage]
        if candidate is None or not rollout.active:
            stage.rollout.split = None
            return
        stage.rollout.split = Split(
            rollout.id,
            rollout.share,
            rollout.mirror,
            candidate.stage,
            tracked.recorder,
            lambda result: check_shape(stage.spec.result, result),
            self._mirror_s,
            stage.rollout.split.mirrors if stage.rollout.split else set(),
        )

    async def _find_candidate(self, tracked: Tracked) -> None:
        rollout = tracked.rollout
        if tracked.candidate is None and rollout.active:
            tracked.candidate = await self._candidate(self._stages[rollout.stage], rollout.application)
            if tracked.candidate is not None and self.tracked.get(rollout.stage) is tracked:
                self._route(tracked)
        if tracked.candidate is not None:
            await tracked.candidate.readiness.states()

    def _keep(self, rollout: Rollout) -> Keep | None:
        samples = self._samples
        if samples is None or not rollout.samples:
            return None
        return lambda request, stable, candidate, pair: samples.keep(rollout, request, stable, candidate, pair)

    async def _judge(self, tracked: Tracked) -> None:
        rollout = tracked.rollout
        # Each time: Ray forgets a gauge that is not set for two of its intervals.
        self._metrics.share(rollout.stage, rollout.share)
        if tracked.recorder.changed:
            tracked.recorder.changed = False
            content = tracked.recorder.observations.dump()
            await asyncio.to_thread(self._store.put_scores, rollout.stage, rollout.id, self._replica, content)
        scores = await asyncio.to_thread(self._store.scores, rollout.stage, rollout.id)
        tracked.others = {replica: content for replica, content in scores.items() if replica != self._replica}
        if not rollout.active:
            return
        seen = tracked.observations()
        if rollout.plan is not None:
            tracked.verdicts = await asyncio.to_thread(judge, rollout.plan.budgets, seen, rollout.labelled)
        tracked.publish(self._metrics, figures(seen))
        evidence = plan.Evidence(tracked.state(), tracked.verdicts, len(seen.latest("candidate", rollout.step)))
        now = self._clock()
        tracked.waiting = plan.waiting(rollout, evidence, now)
        changes = plan.next_change(rollout, evidence, now)
        if changes is not None:
            await self._write(rollout.changed(now, **changes), "the plan")

    async def _write(self, rollout: Rollout, by: str) -> bool:
        """Whether this revision is the stage's latest now. Of several ingress replicas one writes it, and one line to the log."""

        def write() -> bool:  # in one thread, so that what is written is logged, also where the caller is cancelled
            written = self._store.write(rollout)
            if written:
                _audit(rollout.stage, rollout.revision, by, rollout.model_dump(include=AUDITED))
            return written

        if not await asyncio.to_thread(write):
            return False
        self._apply(rollout.stage, rollout.revision, rollout)
        return True

    async def change(self, stage: str, change: Change, by: str) -> None:
        """Begin or change a rollout. `by`: the name of the operator's key. Raises InvalidInput, RolloutConflict, ModelUnavailable."""
        self._require(stage)
        with _answering():
            for _ in range(WRITES):
                revision = (await asyncio.to_thread(self._store.latest)).get(stage, 0)
                latest = await asyncio.to_thread(self._store.read, stage, revision) if revision else None
                try:
                    if change.application is None:
                        rollout = changed(stage, change, latest, self._clock())
                    else:
                        rollout = begun(stage, change, latest, revision + 1, self._clock())
                        await self._require_application(rollout)
                except ValidationError as error:
                    raise InvalidInput("; ".join(one["msg"] for one in error.errors())) from error
                if await self._write(rollout, by):
                    if change.application is not None:
                        await asyncio.to_thread(self._store.remove_scores, stage, rollout.id)
                    return
        raise RolloutConflict(f"the rollout of {stage} is being changed by others: try again")

    async def _require_application(self, rollout: Rollout) -> None:
        stage = self._stages[rollout.stage]
        if await self._candidate(stage, rollout.application) is None:
            raise InvalidInput(
                f"Serve has no application {rollout.application} with the model {rollout.stage}: `sonograph rollout start` adds one"
            )

    async def remove(self, stage: str, by: str) -> None:
        """Remove the rollout: the stable model answers everything. Raises RolloutConflict where it changes at the same time."""
        self._require(stage)
        with _answering():
            for _ in range(WRITES):
                revision = (await asyncio.to_thread(self._store.latest)).get(stage, 0) + 1
                if await asyncio.to_thread(self._store.remove, stage, revision):
                    _audit(stage, revision, by, {"status": "removed"})
                    self._apply(stage, revision, None)
                    await asyncio.to_thread(self._store.remove_scores, stage)
                    return
        raise RolloutConflict(f"the rollout of {stage} is being changed by others: try again")

    async def remove_samples(self, stage: str, by: str) -> int | None:
        """Remove what is kept of a stage, and return the number; None where the settings keep nothing. Raises InvalidInput."""
        self._require(stage)
        if self._samples is None:
            return None
        removed = await asyncio.to_thread(self._samples.remove, stage)
        _audit(stage, self._known.get(stage, 0), by, {"samples_removed": removed})
        return removed

    def _require(self, stage: str) -> None:
        if stage not in self._stages:
            raise InvalidInput(f"there is no such stage: the stages are {', '.join(self._stages)}")

    async def view(self, stage: str) -> dict[str, Any] | None:
        """The rollout, its figures, verdicts and history; None where there is none. Raises InvalidInput for an unknown stage."""
        self._require(stage)
        with _answering():
            await self._read()  # another ingress replica may have written the client's change
            tracked = self.tracked.get(stage)
            if tracked is None:
                return None
            history = await asyncio.to_thread(self._store.history, stage)
        return tracked.summary() | {
            "history": [
                one.model_dump(include=AUDITED | {"revision"}) | {"at": one.written_at}
                for one in history
                if one.id == tracked.rollout.id
            ]
        }

    async def views(self) -> dict[str, dict[str, Any]]:
        """Every stage's latest rollout, without its history. Raises ModelUnavailable."""
        with _answering():
            await self._read()
        return self.summaries()

    def summaries(self) -> dict[str, dict[str, Any]]:
        """The rollouts by stage as this replica knows them, without their history."""
        return {stage: tracked.summary() for stage, tracked in self.tracked.items()}


AUDITED = {"application", "share", "mirror", "step", "status", "reason"}


def _audit(stage: str, revision: int, by: str, changes: Mapping[str, Any]) -> None:
    lines.write("rollout", {"stage": stage, "revision": revision, "by": by, **changes})


@contextlib.contextmanager
def _answering() -> Any:
    """Raise ModelUnavailable where the cluster's store does not answer."""
    try:
        yield
    except DeploymentError:
        raise
    except Exception as error:
        log.error("the rollouts' store failed", exc_info=error)
        raise ModelUnavailable(
            f"Ray's control store does not answer, so the rollout stays as it is: {type(error).__name__}"
        ) from error
