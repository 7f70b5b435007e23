"""A stage's calls of its model: in turn, within the deadline, once more after a replica's death, and every error as the service's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.compute_time import ComputeTime
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


@dataclass(frozen=True)
class Painting:
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


async def answered(result: object) -> object:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


class FakeResponse:
    """One call over a handle: waits for `gate`, yields the script but its last, then answers with the last or raises it."""

    def __init__(self, script: list[Any], gate: asyncio.Event) -> None:
        self.script = script
        self.gate = gate
        self.cancelled = 0

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        await self.gate.wait()
        return await answered(self.script[-1])

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.script[:-1]:
            yield item
        yield await self._answer()

    def cancel(self) -> None:
        self.cancelled += 1


class FakeHandle:
    """A deployment's handle; each call takes the next script, the last is kept."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.responses: list[FakeResponse] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def options(self, *, stream: bool) -> "FakeHandle":
        assert stream
        return self

    def __getattr__(self, method: str) -> Any:
        outer = self

        class Method:
            def remote(self, *arguments: Any) -> FakeResponse:
                outer.calls.append((method, arguments))
                script = outer.scripts.pop(0) if len(outer.scripts) > 1 else outer.scripts[0]
                outer.responses.append(FakeResponse(script, outer.gate))
                return outer.responses[-1]

        return Method()


class Bench:
    """A stage over a fake handle, in a service that is up."""

    def __init__(self, *scripts: list[Any], status: Any = None, policies: tuple[Policy, ...] = ()) -> None:
        self.handle: Any = FakeHandle(*scripts)
        self.progress: list[Any] = []
        self.status = status or serve_status(painter=deployment_status())
        self.readiness = Readiness("sonograph", ("painter",), lambda: self.status)
        metrics = Metrics(NullMetric, NullMetric)
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


async def test_work_that_outlasts_the_time_left_is_cancelled_and_named() -> None:
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


async def test_no_time_left_starts_nothing_that_waits() -> None:
    with pytest.raises(DeadlineExceeded):
        await within("whisper", asyncio.sleep(60), TimeLeft(0))


@pytest.mark.parametrize("error", [InvalidInput("no such language"), ModelUnavailable("starting"), DeploymentError("defect")])
async def test_an_error_of_the_service_keeps_its_class_and_message_and_gets_its_stage(error: DeploymentError) -> None:
    raised = await Bench([error]).error()
    assert raised is error
    assert raised.stage == "painter"


async def test_a_stage_that_is_named_already_is_kept() -> None:
    error = InvalidInput("x")
    error.stage = "decode"
    assert (await Bench([error]).error()).stage == "decode"


async def test_an_error_from_another_process_is_its_cause_without_the_traceback() -> None:
    cause = InvalidInput("no such language")
    raised = await Bench([RayTaskError("run", "Traceback (most recent call last): ...", cause).as_instanceof_cause()]).error()
    assert type(raised) is InvalidInput
    assert str(raised) == "no such language"
    assert raised.stage == "painter"


async def test_another_error_from_another_process_is_a_defect_that_names_it() -> None:
    remote = RayTaskError("run", "Traceback (most recent call last): ...", KeyError("TEXT"))
    raised = await Bench([remote]).error()
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
    raised = await Bench([error]).error()
    assert type(raised) is expected
    assert raised.stage == "painter"
    assert "painter" in str(raised)
    assert raised.__cause__ is error


async def test_without_a_client_that_follows_the_model_answers_once() -> None:
    painting = Painting()
    bench = Bench([painting])
    assert await bench.call() is painting
    ((method, (request, time_left, request_id)),) = bench.handle.calls
    assert (method, request, request_id) == ("run", PaintRequest(), "id-1")
    assert 0 < time_left.seconds <= 60


async def test_with_a_client_that_follows_the_model_streams_and_the_result_is_its_last_response() -> None:
    painting = Painting()
    bench = Bench(["a third", "two thirds", painting])
    assert await bench.call(stream=True) is painting
    assert bench.progress == ["a third", "two thirds"]
    assert [method for method, _ in bench.handle.calls] == ["stream"]


async def test_a_stream_without_a_result_is_a_defect() -> None:
    with pytest.raises(DeploymentError, match="ended its stream without a result") as raised:
        await Bench(["a third"]).call(stream=True)
    assert raised.value.stage == "painter"


async def test_the_context_gets_the_stages_time_its_parts_and_the_models_name() -> None:
    bench = Bench([Painting(breakdown_ms={"varnish": 2.0})])
    await bench.call()
    assert set(bench.context.timings_ms) == {"painter", "varnish"}
    assert bench.context.timings_ms["varnish"] == 2.0
    assert bench.context.models == {"painter": "old master"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_tried_once_more_after_a_replicas_death(stream: bool) -> None:
    painting = Painting()
    bench = Bench([ActorDiedError()], [painting])
    assert await bench.call(stream=stream) is painting
    assert len(bench.handle.calls) == 2
    assert bench.context.retried == ["painter"]
    assert bench.progress == ([Retry("painter")] if stream else [])


async def test_a_request_that_has_killed_two_replicas_is_not_tried_again() -> None:
    bench = Bench([ActorDiedError()])
    with pytest.raises(ModelUnavailable, match="two replicas") as raised:
        await bench.call()
    assert len(bench.handle.calls) == 2
    assert (raised.value.stage, raised.value.retry_after_s) == ("painter", 5)


@pytest.mark.parametrize("error", [InvalidInput("no"), ModelUnavailable("no"), DeploymentError("no"), RuntimeError("no")])
async def test_an_error_that_is_no_death_is_not_tried_again(error: Exception) -> None:
    bench = Bench([error])
    with pytest.raises(DeploymentError, match="no"):
        await bench.call()
    assert len(bench.handle.calls) == 1


async def test_without_a_replica_a_new_request_is_refused_at_once() -> None:
    bench = Bench([Painting()], status=serve_status(painter=deployment_status("UPDATING", STARTING=1)))
    await bench.readiness.states()
    with pytest.raises(ModelUnavailable, match="painter is starting"):
        await bench.call()
    with pytest.raises(ModelUnavailable, match="painter is starting") as raised:
        bench.stage.require_ready()
    assert raised.value.stage == "painter"
    assert bench.handle.calls == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by", ["the caller", "the deadline"])
async def test_a_cancelled_call_is_cancelled_over_the_handle_and_frees_its_slot(by: str, stream: bool) -> None:
    bench = Bench(["a third", Painting()])
    bench.handle.gate.clear()
    caller = asyncio.create_task(bench.call(60 if by == "the caller" else 0.5, stream))
    await asyncio.sleep(0.02)
    if by == "the caller":
        caller.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await caller
    assert bench.handle.responses[0].cancelled == 1
    assert bench.stage.limiter.running == 0


async def test_requests_beyond_the_replicas_limit_wait_in_the_ingress_and_learn_their_position() -> None:
    bench = Bench([Painting()], status=serve_status(painter=deployment_status(RUNNING=2)))
    await bench.readiness.states()
    bench.handle.gate.clear()
    callers = [asyncio.create_task(bench.call(stream=True)) for _ in range(2 * PER_REPLICA + 3)]
    await asyncio.sleep(0.01)
    assert len(bench.handle.calls) == 2 * PER_REPLICA
    assert bench.progress == [Queued("painter", 1), Queued("painter", 2), Queued("painter", 3)]
    callers[-2].cancel()
    bench.handle.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(result, Painting) for result in results) == 2 * PER_REPLICA + 2
    assert len(bench.handle.calls) == 2 * PER_REPLICA + 2, "the cancelled one was never sent"


async def test_a_request_that_cannot_end_in_its_time_is_refused_before_it_is_sent() -> None:
    bench = Bench([Painting()])
    for _ in range(20):
        assert await bench.call(2.5)  # a first twenty: of three together each has 1 s, and 0.5 s for each of 4 units
    with pytest.raises(DeadlineUnreachable, match=r"painter takes at least 3\.00 s .* 2\.\d\d s of the request's time are left"):
        await bench.call(2.5)
    assert len(bench.handle.calls) == 20
    assert await bench.call(2.5, steps=2), "less fits"
    assert await bench.call(3.5)


async def test_a_request_of_another_key_is_not_judged_by_these() -> None:
    bench = Bench([Painting()])
    for _ in range(20):
        await bench.call()
    assert await bench.call(0.5, size="large")


async def test_a_further_policy_is_one_object_that_takes_the_call_and_the_rest_of_the_chain() -> None:
    seen: list[Call] = []

    class Cached:
        async def __call__(self, call: Call, proceed: Proceed) -> Any:
            seen.append(call)
            return known if call.request.prompt == "a known fox" else await proceed(call)

    known, painting = Painting("cache"), Painting()
    bench = Bench([painting], policies=(Cached(),))
    assert await bench.call() is painting
    assert await bench.call(prompt="a known fox") is known
    assert len(bench.handle.calls) == 1
    assert [call.workload for call in seen] == [Workload("small", 4)] * 2


async def test_policies_run_in_their_order_and_one_may_send_a_call_again() -> None:
    order: list[str] = []

    def named(name: str, times: int) -> Policy:
        async def policy(call: Call, proceed: Callable[[Call], Awaitable[Any]]) -> Any:
            order.append(name)
            results = [await proceed(call) for _ in range(times)]
            return results[-1]

        return policy

    bench = Bench([Painting()], policies=(named("outer", 1), named("inner", 2)))
    await bench.call()
    assert order == ["outer", "inner"]
    assert len(bench.handle.calls) == 2


async def test_a_stage_with_further_policies_shares_its_queue_and_its_estimates() -> None:
    bench = Bench([Painting()])
    other = bench.stage.with_policies()
    await bench.readiness.states()
    bench.handle.gate.clear()
    calls = [asyncio.create_task(one(PaintRequest(), bench.context)) for one in (bench.stage, other)]
    await asyncio.sleep(0.01)
    assert (bench.stage.limiter.running, other.limiter.running) == (2, 2)
    bench.handle.gate.set()
    await asyncio.gather(*calls)
    assert bench.stage.latency.typical_s() == other.latency.typical_s() is not None
