"""One ingress replica's view of a rollout: what it has seen of both models."""

import asyncio
from collections.abc import Callable
from typing import Any

from deployments.model_spec import ModelSpec
from graphs.core.metrics import Metrics
from graphs.core.policies.rollout import Outcome, WrongShape
from graphs.rollouts.compare import QualityMetrics, compare, quality_metrics
from graphs.rollouts.observations import Observation, Observations, Pair

BACKLOG = 64
"""Results that wait to be looked at; of more, only time and errors count."""

Keep = Callable[[Any, Outcome, Outcome, Pair], None]


class Recorder:
    """Receiver of a stage's outcomes. Results are looked at, and compared, in a thread."""

    def __init__(self, spec: ModelSpec, metrics: Metrics, keep: Keep | None = None) -> None:
        """`keep`: keeps a mirrored request, both results and their scores; it may block."""
        self._spec = spec
        self._metrics = metrics
        self._keep = keep
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.step = -1
        """The plan's step that the outcomes belong to."""
        self.observations = Observations()
        self.changed = False
        """Whether anything is new since this was last set to False."""

    def finished(self, outcome: Outcome) -> None:
        if outcome.error is not None or self._waiting >= BACKLOG:
            self._observe(outcome, self.step, QualityMetrics())
            return
        self._waiting += 1
        task = asyncio.create_task(self._look(outcome, self.step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, outcome: Outcome, step: int) -> None:
        try:
            found = await asyncio.to_thread(quality_metrics, outcome.result)
        except ValueError as error:
            if outcome.variant == "candidate":
                outcome = Outcome(outcome.variant, outcome.took_s, error=WrongShape(str(error)))
            found = QualityMetrics()
        finally:
            self._waiting -= 1
        self._observe(outcome, step, found)

    def _observe(self, outcome: Outcome, step: int, found: QualityMetrics) -> None:
        seen = Observation(
            latency_s=outcome.took_s,
            error="" if outcome.error is None else outcome.error.code,
            empty=found.empty,
            repetitive=found.repetitive,
            logprob=found.logprob,
            cpu_s=getattr(getattr(outcome.result, "compute_time", None), "cpu_s", None),
            step=step,
        )
        self.observations.observe(outcome.variant, seen)
        self.changed = True

    async def drained(self) -> None:
        """Return once every result so far has been looked at."""
        await asyncio.gather(*self._tasks)

    def fell_back(self, code: str) -> None:
        self._metrics.fell_back(self._spec.name, code)

    def dropped(self) -> None:
        self._metrics.mirrored(self._spec.name, dropped=True)

    async def mirrored(self, request: Any, stable: Outcome, candidate: Outcome) -> None:
        self._metrics.mirrored(self._spec.name)
        try:
            pair = await asyncio.to_thread(compare, stable.result, candidate.result)
        except ValueError as error:  # of another size, or not an image: that is the candidate's fault
            self._observe(Outcome("candidate", candidate.took_s, error=WrongShape(str(error))), self.step, QualityMetrics())
            return
        self.observations.pair(pair)
        self.changed = True
        if self._keep is not None:
            await asyncio.to_thread(self._keep, request, stable, candidate, pair)
