"""A stage's policy with a candidate: who answers, what a failure costs, and mirrored requests, over models that are fakes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable
from deployments.model_spec import Workload
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.core.policies.policy import Call
from graphs.core.policies.rollout import MIRRORS, Outcome, Rollout, Split, position
from graphs.core.progress import Retry
from graphs.tracing.trace import Trace


@dataclass
class FakeModel:
    """Model that answers with its name after `take_s`, or raises `error`."""

    name: str
    error: DeploymentError | None = None
    take_s: float = 0.0
    ready: bool = True
    is_busy: bool = False
    typical: float | None = 0.01
    """In seconds."""
    calls: list[RequestContext] = field(default_factory=list)
    gate: asyncio.Event | None = None
    ended: int = 0
    """Calls that were cancelled."""

    async def __call__(self, request: Any, context: RequestContext) -> Any:
        self.calls.append(context)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.take_s)
        except asyncio.CancelledError:
            self.ended += 1
            raise
        if self.error is not None:
            raise self.error
        return self.name

    def require_ready(self) -> None:
        if not self.ready:
            raise ModelUnavailable("it does not serve")

    def typical_s(self) -> float | None:
        return self.typical


@dataclass
class FakeRecorder:
    outcomes: list[Outcome] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    pairs: list[tuple[Any, Any, Any]] = field(default_factory=list)
    drops: int = 0

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def fell_back(self, code: str) -> None:
        self.fallbacks.append(code)

    async def mirrored(self, request: Any, stable: Outcome, candidate: Outcome) -> None:
        self.pairs.append((request, stable.result, candidate.result))

    def dropped(self) -> None:
        self.drops += 1

    @property
    def seen(self) -> list[tuple[str, str]]:
        return [(one.variant, one.error.code if one.error else "") for one in self.outcomes]


class Stage:
    """The policy over two fake models."""

    def __init__(self, share: float = 0.0, mirror: float = 0.0, check: Callable[[Any], None] = lambda result: None) -> None:
        self.stable, self.candidate, self.recorder = FakeModel("stable"), FakeModel("candidate"), FakeRecorder()
        self.policy = Rollout(self.stable)
        self.policy.split = Split("rollout", share, mirror, self.candidate, self.recorder, check, mirror_s=5)

    async def call(self, id: str = "id-1", left_s: float = 60.0, **more: Any) -> Any:
        context = RequestContext(id, TimeLeft(left_s), **more)

        async def proceed(call: Call) -> Any:
            return await self.stable(call.request, call.context)

        return await self.policy(Call("whisper", f"request {id}", Workload(1, 1), context), proceed)

    async def mirrors(self) -> None:
        assert self.policy.split is not None
        await asyncio.gather(*self.policy.split.mirrors, return_exceptions=True)


async def test_without_a_split_the_stable_model_answers() -> None:
    stage = Stage()
    stage.policy.split = None
    assert await stage.call() == "stable"


@pytest.mark.parametrize(("share", "answer"), [(0.0, "stable"), (100.0, "candidate")])
async def test_a_share_of_none_or_all(share: float, answer: str) -> None:
    stage = Stage(share)
    assert {await stage.call(f"id-{number}") for number in range(50)} == {answer}
    assert stage.recorder.seen == [(answer, "")] * 50


async def test_a_share_is_kept_and_grows_without_moving_those_that_the_candidate_has() -> None:
    async def chosen(share: float) -> set[str]:
        stage = Stage(share)
        return {id for number in range(2000) if await stage.call(id := f"id-{number}") == "candidate"}

    small, larger = await chosen(10), await chosen(30)
    assert small < larger
    assert abs(len(small) - 200) < 60
    assert abs(len(larger) - 600) < 90


async def test_a_key_gets_the_same_model_for_every_request() -> None:
    stage = Stage(50)
    for key in ("alice", "bob", "carol"):
        assert len({await stage.call(f"id-{number}", key=key) for number in range(20)}) == 1


def test_another_rollout_chooses_others() -> None:
    first, second = ({key for key in range(1000) if position(f"{id} {key}") < 20} for id in ("a", "b"))
    assert len(first & second) < 100


@pytest.mark.parametrize(
    "error", [DeploymentError("defect"), ModelUnavailable("died"), DeadlineExceeded("late"), InvalidInput("bad")]
)
async def test_where_the_candidate_fails_the_stable_model_answers(error: DeploymentError) -> None:
    stage = Stage(100)
    stage.candidate.error = error
    progress: list[Any] = []
    assert await stage.call(emit=progress.append) == "stable"
    assert progress == [Retry("whisper")]
    assert stage.recorder.seen == [("candidate", error.code), ("stable", "")]
    assert stage.recorder.fallbacks == [error.code]


@pytest.mark.parametrize("cause", ["it dies", "its rollout is aborted"])
async def test_a_request_waits_no_longer_for_a_candidate_that_serves_no_more(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphs.core.policies.rollout.LOOK_S", 0.01)
    stage = Stage(100)
    stage.candidate.gate = asyncio.Event()
    asked = asyncio.create_task(stage.call())
    await asyncio.sleep(0.01)
    if cause == "it dies":
        stage.candidate.ready = False
    else:
        stage.policy.split = None
    assert await asyncio.wait_for(asked, 20) == "stable"
    assert stage.recorder.seen == [("candidate", "model_unavailable"), ("stable", "")]


async def test_a_client_that_leaves_ends_the_candidates_work() -> None:
    stage = Stage(100)
    stage.candidate.gate = asyncio.Event()
    asked = asyncio.create_task(stage.call())
    await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.wait({asked})
    await asyncio.sleep(0.01)
    assert stage.candidate.ended == 1


async def test_an_error_of_both_is_the_clients_and_counts_for_neither() -> None:
    stage = Stage(100)
    stage.candidate.error = stage.stable.error = InvalidInput("no such language")
    with pytest.raises(InvalidInput):
        await stage.call()
    assert stage.recorder.seen == []


async def test_a_candidate_without_a_replica_gets_nothing_and_is_not_blamed_for_it() -> None:
    stage = Stage(100, mirror=100)
    stage.candidate.ready = False
    assert await stage.call() == "stable"
    await stage.mirrors()
    assert stage.candidate.calls == []
    assert stage.recorder.seen == [("stable", "")]
    assert stage.recorder.drops == 1


async def test_a_result_of_another_shape_reaches_no_client() -> None:
    def check(result: Any) -> None:
        raise ValueError("no transcript")

    stage = Stage(100, check=check)
    assert await stage.call() == "stable"
    assert stage.recorder.fallbacks == ["wrong_shape"]


@pytest.mark.parametrize(
    ("left_s", "typical_s", "kept_s"), [(10, 0.5, 1.5), (4, 0.01, 1), (1, 0.01, 0.5), (10, None, 5), (10, 5, 5)]
)
async def test_the_candidate_leaves_the_stable_model_its_time(left_s: float, typical_s: float | None, kept_s: float) -> None:
    stage = Stage(100)
    stage.stable.typical = typical_s
    await stage.call(left_s=left_s)
    (context,) = stage.candidate.calls
    assert left_s - kept_s - 0.1 < context.time_left.seconds <= left_s - kept_s


async def test_no_client_waits_a_whole_long_deadline_for_a_slow_candidate() -> None:
    stage = Stage(100)
    stage.stable.typical = 0.25
    await stage.call(left_s=120)
    (context,) = stage.candidate.calls
    assert context.time_left.seconds <= 10  # twenty times the stable model's, and 5 s


async def test_a_mirrored_request_has_one_answer_and_the_client_waits_for_one() -> None:
    stage = Stage(mirror=100)
    stage.candidate.gate = asyncio.Event()
    assert await stage.call(left_s=0.5) == "stable"
    stage.candidate.gate.set()
    await stage.mirrors()
    assert stage.recorder.pairs == [("request id-1", "stable", "candidate")]
    assert stage.recorder.seen == [("stable", ""), ("candidate", "")]
    (context,) = stage.candidate.calls
    assert context.time_left.seconds > 4  # its own, not the client's
    assert context.emit is None


async def test_a_mirrored_request_has_a_trace_of_its_own() -> None:
    ended: list[Trace] = []
    stage, request = Stage(mirror=100), Trace("POST /graph", on_end=ended.append)
    stage.candidate.error = DeploymentError("defect")
    await stage.call(trace=request)
    await stage.mirrors()
    (mirror,) = ended
    (context,) = stage.candidate.calls
    assert context.trace is mirror is not request
    assert (mirror.root.name, mirror.origin, mirror.root.error) == ("mirror whisper", request, "internal")
    assert request.spans == [request.root]


async def test_a_mirrored_request_that_is_not_sent_has_no_trace() -> None:
    ended: list[Trace] = []
    stage = Stage(mirror=100)
    stage.candidate.is_busy = True
    await stage.call(trace=Trace("POST /graph", on_end=ended.append))
    await stage.mirrors()
    assert stage.recorder.drops == 1
    assert ended == []


async def test_a_mirrored_request_waits_until_the_client_has_its_answer() -> None:
    stage, ended = Stage(mirror=100), asyncio.Event()
    await stage.call(ended=ended)
    await asyncio.sleep(0.05)
    assert stage.candidate.calls == []
    ended.set()
    await stage.mirrors()
    assert stage.recorder.pairs == [("request id-1", "stable", "candidate")]


async def test_a_model_that_is_busy_once_the_client_has_its_answer_gets_no_mirrored_request() -> None:
    stage, ended = Stage(mirror=100), asyncio.Event()
    await stage.call(ended=ended)
    stage.candidate.is_busy = True
    ended.set()
    await stage.mirrors()
    assert stage.candidate.calls == []
    assert stage.recorder.drops == 1


async def test_a_request_that_the_candidate_answers_is_mirrored_to_the_stable_model() -> None:
    stage = Stage(100, mirror=100)
    assert await stage.call() == "candidate"
    await stage.mirrors()
    (context,) = stage.stable.calls
    assert context.variants == {"whisper": "stable"}  # else the policy would choose, and mirror, again
    assert stage.recorder.pairs == [("request id-1", "stable", "candidate")]


async def test_mirrored_requests_are_bounded() -> None:
    stage = Stage(mirror=100)
    stage.candidate.gate = asyncio.Event()
    for number in range(MIRRORS + 5):
        await stage.call(f"id-{number}")
    await asyncio.sleep(0)
    assert len(stage.candidate.calls) == MIRRORS
    assert stage.recorder.drops == 5
    stage.candidate.gate.set()
    await stage.mirrors()
    assert len(stage.recorder.pairs) == MIRRORS


@pytest.mark.parametrize("busy", ["stable", "candidate"])
async def test_a_busy_model_gets_no_mirrored_request(busy: str) -> None:
    stage = Stage(mirror=100)
    getattr(stage, busy).is_busy = True
    await stage.call()
    await stage.mirrors()
    assert stage.candidate.calls == []
    assert stage.recorder.drops == 1


async def test_mirrored_requests_end_where_a_clients_request_would_wait() -> None:
    stage = Stage(mirror=100)
    stage.candidate.gate = asyncio.Event()
    await stage.call()
    await asyncio.sleep(0)
    stage.stable.is_busy = True
    await stage.call("id-2")
    await stage.mirrors()
    assert stage.recorder.pairs == []
    assert stage.recorder.drops == 2


async def test_a_mirrored_requests_failure_is_the_candidates_alone() -> None:
    stage = Stage(mirror=100)
    stage.candidate.error = DeploymentError("defect")
    assert await stage.call() == "stable"
    await stage.mirrors()
    assert stage.recorder.seen == [("stable", ""), ("candidate", "internal")]
    assert stage.recorder.pairs == []


async def test_a_client_that_leaves_ends_the_candidates_work_and_blames_nobody() -> None:
    stage = Stage(100)
    stage.candidate.gate = asyncio.Event()
    task = asyncio.create_task(stage.call())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.recorder.seen == []
    assert stage.stable.calls == []


@pytest.mark.parametrize("variant", ["stable", "candidate"])
async def test_an_operator_chooses_the_model(variant: str) -> None:
    stage = Stage(100 if variant == "stable" else 0, mirror=100)
    assert await stage.call(variants={"whisper": variant}) == variant
    await stage.mirrors()
    assert stage.recorder.seen == stage.recorder.pairs == []


async def test_the_chosen_candidates_error_is_the_operators_answer() -> None:
    stage = Stage()
    stage.candidate.error = DeadlineExceeded("late")
    with pytest.raises(DeadlineExceeded):
        await stage.call(variants={"whisper": "candidate"})


def test_a_candidate_with_every_request_stands_for_the_stable_model() -> None:
    stage = Stage(100)
    assert stage.policy.replaces_stable
    stage.candidate.ready = False
    assert not stage.policy.replaces_stable
    assert not Stage(99).policy.replaces_stable
