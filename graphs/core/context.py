"""The context of one request, passed through the graph to each stage."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.time_left import TimeLeft
from graphs.core.progress import Emit, OfBranch
from graphs.tracing.trace import Trace


@dataclass
class RequestContext:
    """One request. Stages and graphs fill it in; the answer and the access log read it."""

    id: str
    time_left: TimeLeft
    emit: Emit | None = None
    """Receiver of progress; None where no client follows, and models then answer once."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """By stage."""
    models: dict[str, str] = field(default_factory=dict)
    """Names of the models that answered, by stage."""
    retried: list[str] = field(default_factory=list)
    """The stages that were tried again."""
    degraded: dict[str, str] = field(default_factory=dict)
    """Soft stages that failed, and why: the answer is what the graph has without them."""
    decode_warnings: tuple[str, ...] = ()
    """Sentences about what was left out of the recording."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Further fields of the access log, such as `seed`."""
    key: str | None = None
    """The name of its API key."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """`stable` or `candidate`, by stage: the model that an operator asks for, where a rollout would choose."""
    trace: Trace | None = None
    """Its spans; None where the settings neither keep nor send traces."""
    may_read_trace: bool = False
    """Whether the trace is kept, and its client an operator."""
    ended: asyncio.Event | None = None
    """Set once its client has its answer; None where no client waits."""

    def took(self, **timings_ms: float) -> None:
        """Add to the stages' times."""
        for stage, ms in timings_ms.items():
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + ms

    def report(self, progress: Any) -> None:
        """Pass progress on to a client that follows."""
        if self.emit is not None:
            self.emit(progress)

    def branch(self, name: str) -> "RequestContext":
        """The context of one branch of a fan-out: times of its own, progress under the branch's name."""
        emit = self.emit
        own = None if emit is None else lambda progress: emit(OfBranch(name, progress))
        return replace(self, emit=own, timings_ms={})


async def fan_out[Result](
    context: RequestContext, branches: Mapping[str, Callable[[RequestContext], Awaitable[Result]]]
) -> dict[str, Result]:
    """Run the branches at once, each with a context of its own: `{"1": partial(self.generate, request), ...}`.

    The first that fails cancels the others, and its error is raised.
    A stage's time is that of the branch in which it took longest.
    """
    contexts = {name: context.branch(name) for name in branches}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(_awaited(run(contexts[name]))) for name, run in branches.items()}
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from error
    finally:
        stages = [stage for one in contexts.values() for stage in one.timings_ms]  # in their order
        context.took(**{stage: max(one.timings_ms.get(stage, 0.0) for one in contexts.values()) for stage in stages})
    return {name: task.result() for name, task in tasks.items()}


async def _awaited[Result](work: Awaitable[Result]) -> Result:
    return await work
