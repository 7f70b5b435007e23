"""A stage's calls of its model: queued, within the deadline, retried once after a replica's death, and with the service's own errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.compute_time import Answer, ComputeTime
from deployments.errors import (
    DeadlineExceeded,
    DeadlineUnreachable,
    DeploymentError,
    InvalidInput,
    ModelUnavailable,
    Overloaded,
)
from deployments.model_spec import ModelSettings, ModelSpec, Workload
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.core.metrics import Metrics
from graphs.core.policies.deadline import within
from graphs.core.policies.policy import Call, Policy, Proceed
from graphs.core.progress import Queued, Retry
from graphs.core.readiness import Readiness
from graphs.core.stage import Stage
from testing.fakes import NullMetric, deployment_status, serve_status

PER_REPLICA = 8


@dataclass(frozen=True)
class PaintRequest:
    prompt: str = "a fox"
    size: str = "small"
    steps: int = 4


@dataclass(frozen=True, kw_only=True)
class Painting(Answer):
    model: str = "old master"
    compute_time: ComputeTime = field(default_factory=lambda: ComputeTime(fixed_s=3.0, unit_s=1.5, units=4, batch_size=3))
    breakdown_ms: dict[str, float] = field(default_factory=dict)


class PainterSettings(ModelSettings):
    model: str = "old master"
    max_batch: int = 4


SPEC = ModelSpec(
    "painter",
    "Painter",
    "text_to_image",
    PainterSettings,
    Painting,
    "nowhere:Painter",
    workload=lambda request, settings: Workload(request.size, request.steps),
)


async def return_or_raise(result: object) -> object:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


class FakeResponse:
    """Response of one call over a handle: yields the script but its last item, waits for `released`, then returns or raises the last."""

    def __init__(self, script: list[Any], released: asyncio.Event) -> None:
        self.script = script
        self.released = released
        self.cancelled = 0

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        await self.released.wait()
        return await return_or_raise(self.script[-1])

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.script[:-1]:
            yield item
        yield await self._answer()

    def cancel(self) -> None:
        self.cancelled += 1


class FakeHandle:
    """Handle of a deployment. Each call uses the next script; the last one repeats."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.responses: list[FakeResponse] = []
        self.released = asyncio.Event()
        self.released.set()

    def options(self, *, stream: bool = False, request_serialization: str = "pickle") -> "FakeHandle":
        assert request_serialization == "pickle"
        return self

    def __getattr__(self, method: str) -> Any:
        outer = self

        class Method:
            def remote(self, *arguments: Any) -> FakeResponse:
                outer.calls.append((method, arguments))
                script = outer.scripts.pop(0) if len(outer.scripts) > 1 else outer.scripts[0]
                outer.responses.append(FakeResponse(script, outer.released))
                return outer.responses[-1]

        return Method()


class Harness:
    """A stage over a fake handle, in a service that is ready."""

    def __init__(self, *scripts: list[Any], status: Any = None, policies: tuple[Policy, ...] = ()) -> None:
        self.handle: Any = FakeHandle(*scripts)
        self.progress: list[Any] = []
        self.status = status or serve_status(painter=deployment_status())
        self.readiness = Readiness("sonograph", ("painter",), lambda: self.status)
        metrics = Metrics(NullMetric, NullMetric, NullMetric)
        stage = Stage[PaintRequest, Painting](SPEC, PainterSettings(), self.handle, self.readiness, metrics)
        self.stage = stage.with_policies(*policies)
        self.context = RequestContext("id-1", TimeLeft(60))

    async def call(self, seconds: float = 60, stream: bool = False, **request: Any) -> Any:
        self.context.time_left = TimeLeft(seconds)
        self.context.emit = self.progress.append if stream else None
        return await self.stage(PaintRequest(**request), self.context)

    async def error(self) -> DeploymentError:
        with pytest.raises(DeploymentError) as raised:
            await self.call()
        return raised.value


async def test_work_that_exceeds_the_time_left_is_cancelled_and_named() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(DeadlineExceeded, match=r"ran out during diffusion: allow more time .*http\.deadline_s"):
        await within("diffusion", work(), TimeLeft(0.01))
    assert cancelled.is_set()


async def test_without_time_left_no_waiting_work_starts() -> None:
    with pytest.raises(DeadlineExceeded):
        await within("whisper", asyncio.sleep(60), TimeLeft(0))


@pytest.mark.parametrize("error", [InvalidInput("no such language"), ModelUnavailable("starting"), DeploymentError("defect")])
async def test_an_error_of_the_service_keeps_its_class_and_message_and_names_the_stage(error: DeploymentError) -> None:
    raised = await Harness([error]).error()
    assert raised is error
    assert raised.stage == "painter"


async def test_an_error_that_names_a_stage_keeps_it() -> None:
    error = InvalidInput("x")
    error.stage = "decode"
    assert (await Harness([error]).error()).stage == "decode"


async def test_an_error_from_another_process_is_its_cause_without_the_traceback() -> None:
    cause = InvalidInput("no such language")
    raised = await Harness([RayTaskError("run", "Traceback (most recent call last): ...", cause).as_instanceof_cause()]).error()
    assert type(raised) is InvalidInput
    assert str(raised) == "no such language"
    assert raised.stage == "painter"


async def test_an_unknown_error_from_another_process_is_a_defect_that_names_it() -> None:
    remote = RayTaskError("run", "Traceback (most recent call last): ...", KeyError("TEXT"))
    raised = await Harness([remote]).error()
    assert type(raised) is DeploymentError
    assert str(raised) == "painter failed: KeyError: 'TEXT'"
    assert raised.__cause__ is remote


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), DeadlineExceeded),
        (RayActorError(), ModelUnavailable),
        (ActorDiedError(), ModelUnavailable),
        (DeploymentUnavailableError("painter"), ModelUnavailable),
        (BackPressureError(16, 16), Overloaded),
        (RuntimeError("x"), DeploymentError),
    ],
)
async def test_errors_of_ray_and_serve_become_the_services_own(error: Exception, expected: type[DeploymentError]) -> None:
    raised = await Harness([error]).error()
    assert type(raised) is expected
    assert raised.stage == "painter"
    assert "painter" in str(raised)
    assert raised.__cause__ is error


async def test_without_a_streaming_client_the_model_answers_once() -> None:
    painting = Painting()
    harness = Harness([painting])
    assert await harness.call() is painting
    ((method, (request, time_left, request_id)),) = harness.handle.calls
    assert (method, request, request_id) == ("run", PaintRequest(), "id-1")
    assert 0 < time_left.seconds <= 60


async def test_with_a_streaming_client_the_model_streams_and_its_last_response_is_the_result() -> None:
    painting = Painting()
    harness = Harness(["a third", "two thirds", painting])
    assert await harness.call(stream=True) is painting
    assert harness.progress == ["a third", "two thirds"]
    assert [method for method, _ in harness.handle.calls] == ["stream"]


async def test_a_stream_without_a_result_is_a_defect() -> None:
    with pytest.raises(DeploymentError, match="ended its stream without a result") as raised:
        await Harness(["a third"]).call(stream=True)
    assert raised.value.stage == "painter"


async def test_the_context_records_the_stages_time_its_parts_and_the_models_name() -> None:
    harness = Harness([Painting(breakdown_ms={"varnish": 2.0})])
    await harness.call()
    assert set(harness.context.timings_ms) == {"painter", "varnish"}
    assert harness.context.timings_ms["varnish"] == 2.0
    assert harness.context.models == {"painter": "old master"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_retried_once_after_a_replicas_death(stream: bool) -> None:
    painting = Painting()
    harness = Harness([ActorDiedError()], [painting])
    assert await harness.call(stream=stream) is painting
    assert len(harness.handle.calls) == 2
    assert harness.context.retried == ["painter"]
    assert harness.progress == ([Retry("painter")] if stream else [])


async def test_a_request_that_has_killed_two_replicas_is_not_retried() -> None:
    harness = Harness([ActorDiedError()])
    with pytest.raises(ModelUnavailable, match="two replicas") as raised:
        await harness.call()
    assert len(harness.handle.calls) == 2
    assert (raised.value.stage, raised.value.retry_after_s) == ("painter", 5)


@pytest.mark.parametrize("error", [InvalidInput("no"), ModelUnavailable("no"), DeploymentError("no"), RuntimeError("no")])
async def test_an_error_other_than_a_replicas_death_is_not_retried(error: Exception) -> None:
    harness = Harness([error])
    with pytest.raises(DeploymentError, match="no"):
        await harness.call()
    assert len(harness.handle.calls) == 1


async def test_without_a_replica_a_new_request_is_refused_at_once() -> None:
    harness = Harness([Painting()], status=serve_status(painter=deployment_status("UPDATING", STARTING=1)))
    await harness.readiness.states()
    with pytest.raises(ModelUnavailable, match="painter is starting"):
        await harness.call()
    with pytest.raises(ModelUnavailable, match="painter is starting") as raised:
        harness.stage.require_ready()
    assert raised.value.stage == "painter"
    assert harness.handle.calls == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by", ["the caller", "the deadline"])
async def test_a_cancelled_call_is_cancelled_over_the_handle_and_frees_its_slot(by: str, stream: bool) -> None:
    harness = Harness(["a third", Painting()])
    harness.handle.released.clear()
    caller = asyncio.create_task(harness.call(60 if by == "the caller" else 0.5, stream))
    await asyncio.sleep(0.02)
    if by == "the caller":
        caller.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await caller
    assert harness.handle.responses[0].cancelled == 1
    assert harness.stage.limiter.running == 0


async def test_requests_above_the_replicas_limit_wait_in_the_ingress_and_learn_their_position() -> None:
    harness = Harness([Painting()], status=serve_status(painter=deployment_status(RUNNING=2)))
    await harness.readiness.states()
    harness.handle.released.clear()
    callers = [asyncio.create_task(harness.call(stream=True)) for _ in range(2 * PER_REPLICA + 3)]
    await asyncio.sleep(0.01)
    assert len(harness.handle.calls) == 2 * PER_REPLICA
    assert harness.progress == [Queued("painter", 1), Queued("painter", 2), Queued("painter", 3)]
    callers[-2].cancel()
    harness.handle.released.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(result, Painting) for result in results) == 2 * PER_REPLICA + 2
    assert len(harness.handle.calls) == 2 * PER_REPLICA + 2, "the cancelled request was never sent"


async def test_a_request_that_cannot_meet_its_deadline_is_refused_before_it_is_sent() -> None:
    harness = Harness([Painting()])
    for _ in range(20):
        assert await harness.call(2.5)  # in a batch of three each request takes 1 s, and 0.5 s for each of 4 units
    with pytest.raises(DeadlineUnreachable, match=r"painter takes at least 3\.00 s .* 2\.\d\d s of the request's time are left"):
        await harness.call(2.5)
    assert len(harness.handle.calls) == 20
    assert await harness.call(2.5, steps=2), "fewer steps meet the deadline"
    assert await harness.call(3.5)


async def test_a_request_of_another_key_does_not_use_these_measurements() -> None:
    harness = Harness([Painting()])
    for _ in range(20):
        await harness.call()
    assert await harness.call(0.5, size="large")


async def test_a_policy_is_one_object_that_takes_the_call_and_the_rest_of_the_chain() -> None:
    seen: list[Call] = []

    class Cached:
        async def __call__(self, call: Call, proceed: Proceed) -> Any:
            seen.append(call)
            return cached if call.request.prompt == "a known fox" else await proceed(call)

    cached, painting = Painting(model="cache"), Painting()
    harness = Harness([painting], policies=(Cached(),))
    assert await harness.call() is painting
    assert await harness.call(prompt="a known fox") is cached
    assert len(harness.handle.calls) == 1
    assert [call.workload for call in seen] == [Workload("small", 4)] * 2


async def test_policies_run_in_their_order_and_one_may_repeat_a_call() -> None:
    order: list[str] = []

    def named(name: str, times: int) -> Policy:
        async def policy(call: Call, proceed: Callable[[Call], Awaitable[Any]]) -> Any:
            order.append(name)
            results = [await proceed(call) for _ in range(times)]
            return results[-1]

        return policy

    harness = Harness([Painting()], policies=(named("outer", 1), named("inner", 2)))
    await harness.call()
    assert order == ["outer", "inner"]
    assert len(harness.handle.calls) == 2


async def test_a_stage_with_further_policies_shares_its_queue_and_its_estimates() -> None:
    harness = Harness([Painting()])
    other = harness.stage.with_policies()
    await harness.readiness.states()
    harness.handle.released.clear()
    calls = [asyncio.create_task(one(PaintRequest(), harness.context)) for one in (harness.stage, other)]
    await asyncio.sleep(0.01)
    assert (harness.stage.limiter.running, other.limiter.running) == (2, 2)
    harness.handle.released.set()
    await asyncio.gather(*calls)
    assert harness.stage.latency.typical_s() == other.latency.typical_s() is not None
