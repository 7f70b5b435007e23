"""Plans over several ingress replicas that share a store in memory: each step happens once, and a broken budget ends it."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from deployments.errors import DeploymentError, InvalidInput
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.rollouts.change import Change
from graphs.rollouts.errors import RolloutConflict
from graphs.rollouts.state import Rollout
from testing.fakes import deployment_status, transcript
from testing.rollouts import APPLICATION, Cluster, Ingress

EVERY_S = 60.0


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def ingress(cluster: Cluster) -> Ingress:
    return Ingress(cluster)


async def begin(ingress: Ingress, budgets: dict[str, Any] | None = None, **fields: Any) -> None:
    plan = {"steps": (5, 50, 100), "every_s": EVERY_S, "min_requests": 5, "budgets": budgets or {}}
    change = Change.model_validate({"application": APPLICATION, "plan": plan, **fields})
    await ingress.rollouts.change("whisper", change, "anna")
    await ingress.look()


async def send(ingress: Ingress, requests: int) -> None:
    stage = ingress.service.whisper
    for number in range(requests):
        await stage("request", RequestContext(f"{id(stage)}-{number}", TimeLeft(60)))
    await ingress.finish()


def state(ingress: Ingress) -> Rollout:
    return ingress.rollouts.tracked["whisper"].rollout


async def pass_step(ingress: Ingress, requests: int = 300) -> None:
    await send(ingress, requests)
    ingress.cluster.now += EVERY_S
    await ingress.look()


async def test_a_plan_advances_by_itself_and_waits_for_a_person_at_its_end(ingress: Ingress) -> None:
    await begin(ingress)
    shares = [state(ingress).share]
    for _ in range(3):
        await pass_step(ingress)
        shares.append(state(ingress).share)
    assert shares == [5, 50, 100, 100]
    assert state(ingress).status == "finished"
    await ingress.rollouts.change("whisper", Change(status="promoting"), "anna")
    assert (state(ingress).share, state(ingress).mirror) == (100, 0)


async def test_a_step_lasts_its_time(ingress: Ingress) -> None:
    await begin(ingress)
    await send(ingress, 300)
    ingress.cluster.now += EVERY_S - 1
    await ingress.look()
    assert state(ingress).step == 0
    assert "lasts 1 s more" in ingress.rollouts.summaries()["whisper"]["waiting"]


async def test_without_requests_a_plan_does_not_advance(ingress: Ingress) -> None:
    await begin(ingress)
    ingress.cluster.now += 10 * EVERY_S
    await ingress.look()
    assert state(ingress).step == 0
    assert "0 requests in this step" in ingress.rollouts.summaries()["whisper"]["waiting"]


async def test_a_paused_plan_keeps_its_share_until_it_is_resumed(ingress: Ingress) -> None:
    await begin(ingress)
    await ingress.rollouts.change("whisper", Change(status="paused"), "anna")
    await pass_step(ingress)
    assert (state(ingress).step, state(ingress).share) == (0, 5)
    await ingress.rollouts.change("whisper", Change(status="running"), "anna")
    await ingress.look()
    assert state(ingress).step == 1


@pytest.mark.parametrize("status", ["running", "paused"])
async def test_a_broken_budget_aborts_the_plan_and_says_why(ingress: Ingress, status: str) -> None:
    await begin(ingress, {"max_errors": 0.01}, mirror=100)
    if status == "paused":
        await ingress.rollouts.change("whisper", Change(status="paused"), "anna")
    ingress.candidate.result = DeploymentError("defect")
    await send(ingress, 20)
    await ingress.look()
    now = state(ingress)
    assert (now.status, now.share, now.mirror) == ("aborted", 0, 0)
    assert "failed requests" in now.reason
    assert "budget is 1%" in now.reason
    assert ingress.service.whisper.rollout.split is None


async def test_words_that_differ_break_their_budget_and_not_another(ingress: Ingress) -> None:
    await begin(ingress, {"max_word_drift": 0.03}, mirror=100)
    ingress.candidate.result = transcript("a red pear")  # one of three words
    await send(ingress, 30)
    await ingress.look()
    assert state(ingress).status == "aborted"
    assert "word drift" in state(ingress).reason


async def test_a_better_model_differs_too_and_no_budget_breaks(ingress: Ingress) -> None:
    await begin(ingress, {"max_errors": 0.01, "max_p95": 5.0}, mirror=100)
    ingress.candidate.result = transcript("a red pear")
    await send(ingress, 30)
    await ingress.look()
    assert state(ingress).status == "running"


async def test_a_candidate_of_another_shape_is_aborted_and_no_client_notices(ingress: Ingress) -> None:
    await begin(ingress, {"max_errors": 0.01}, mirror=100)
    ingress.candidate.result = "no transcript"
    for number in range(20):
        answer = await ingress.service.whisper("request", RequestContext(f"id-{number}", TimeLeft(60)))
        assert answer.text == "a red apple"
    await send(ingress, 10)
    await ingress.look()
    assert state(ingress).status == "aborted"


async def test_two_ingress_replicas_agree_and_make_each_step_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    one, other = Ingress(cluster, "ingress-1"), Ingress(cluster, "ingress-2")
    with caplog.at_level(logging.INFO, "ray.serve"):
        await begin(one)
        await other.look()
        for _ in range(3):
            for each in (one, other):
                await send(each, 300)
            cluster.now += EVERY_S
            await asyncio.gather(one.look(), other.look())
            await asyncio.gather(one.look(), other.look())
            assert state(one) == state(other)
    steps = [record.getMessage() for record in caplog.records if '"by": "the plan"' in record.getMessage()]
    assert len(steps) == 4  # three steps and the end
    assert state(one).status == "finished"


async def test_a_change_by_one_ingress_replica_is_seen_through_the_other_at_once(cluster: Cluster) -> None:
    one, other = Ingress(cluster, "ingress-1"), Ingress(cluster, "ingress-2")
    await begin(one)
    view = await other.rollouts.view("whisper")
    assert view is not None
    assert view["rollout"]["application"] == APPLICATION
    await one.rollouts.change("whisper", Change(status="aborted"), "anna")
    assert (await other.rollouts.views())["whisper"]["rollout"]["status"] == "aborted"
    await other.rollouts.remove("whisper", "anna")
    assert await one.rollouts.view("whisper") is None


async def test_all_ingress_replicas_show_the_same_figures_of_an_aborted_rollout(cluster: Cluster) -> None:
    one, other = Ingress(cluster, "ingress-1"), Ingress(cluster, "ingress-2")
    await begin(one)
    await other.look()
    await send(one, 100)
    await one.rollouts.change("whisper", Change(status="aborted"), "anna")
    for ingress in (one, other):
        await ingress.look()
    figures = [(await ingress.rollouts.views())["whisper"]["figures"] for ingress in (one, other)]
    assert figures[0] == figures[1]
    assert figures[0]["stable"]["requests"] > 50


async def test_the_requests_of_all_ingress_replicas_count_those_that_have_ended_too(cluster: Cluster) -> None:
    one = Ingress(cluster, "ingress-1")
    await begin(one, {"max_errors": 0.01}, mirror=100)
    one.candidate.result = DeploymentError("defect")
    await send(one, 4)  # too few for a verdict
    await one.look()
    assert state(one).status == "running"
    successor = Ingress(cluster, "ingress-2")
    await successor.look()
    successor.candidate.result = DeploymentError("defect")
    await send(successor, 4)
    await successor.look()
    assert state(successor).status == "aborted"
    assert successor.rollouts.summaries()["whisper"]["figures"]["candidate"]["requests"] == 8


async def test_a_new_ingress_replica_knows_the_rollout_before_its_first_request(cluster: Cluster) -> None:
    one = Ingress(cluster)
    await begin(one)
    await pass_step(one)
    successor = Ingress(cluster, "ingress-2")
    await successor.rollouts.start()
    try:
        assert state(successor) == state(one)
        assert successor.service.whisper.rollout.split is not None
    finally:
        await successor.rollouts.stop()


async def test_a_store_that_does_not_answer_changes_nothing(ingress: Ingress, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(ingress)

    def fail(*anything: Any) -> None:
        raise ConnectionError("no store")

    with monkeypatch.context() as patched:
        patched.setattr(ingress.cluster.values, "keys", fail)
        await ingress.rollouts.start()
        await ingress.rollouts.stop()
        await send(ingress, 20)
    assert state(ingress).share == 5
    await pass_step(ingress)
    assert state(ingress).share == 50


async def test_a_controller_that_does_not_answer_changes_nothing(ingress: Ingress) -> None:
    await begin(ingress)
    await send(ingress, 300)
    applications = ingress.cluster.applications
    ingress.cluster.applications = {}
    await ingress.look()
    assert (state(ingress).status, state(ingress).share) == ("running", 5)
    ingress.cluster.applications = applications
    await pass_step(ingress)
    assert state(ingress).share == 50


async def test_a_candidate_that_is_starting_is_waited_for(cluster: Cluster, ingress: Ingress) -> None:
    cluster.applications[APPLICATION] = deployment_status("UPDATING", STARTING=1)
    await begin(ingress)
    cluster.now += 3600
    await ingress.look()
    assert (state(ingress).status, state(ingress).step, state(ingress).share) == ("running", -1, 0)
    assert "starting" in ingress.rollouts.summaries()["whisper"]["waiting"]
    cluster.applications[APPLICATION] = deployment_status()
    await ingress.look()
    assert state(ingress).share == 5


async def test_a_candidate_that_does_not_start_is_aborted_with_serves_reason(cluster: Cluster, ingress: Ingress) -> None:
    cluster.applications[APPLICATION] = deployment_status("DEPLOY_FAILED", "Traceback\nno such checkpoint", STOPPING=1)
    await begin(ingress)
    assert state(ingress).status == "aborted"
    assert "no such checkpoint" in state(ingress).reason


async def test_a_candidate_that_dies_is_aborted(cluster: Cluster, ingress: Ingress) -> None:
    await begin(ingress)
    cluster.applications[APPLICATION] = deployment_status("UNHEALTHY", "its process has died", STARTING=1)
    await ingress.look()
    assert state(ingress).status == "aborted"
    assert "its process has died" in state(ingress).reason
    assert (await ingress.service.whisper("request", RequestContext("id", TimeLeft(60)))).text == "a red apple"


async def test_a_change_whose_caller_is_cancelled_is_logged(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    add, begun, go = ingress.cluster.values.add, threading.Event(), threading.Event()

    def slow(key: str, value: bytes) -> bool:
        begun.set()
        go.wait(20)
        return add(key, value)

    monkeypatch.setattr(ingress.cluster.values, "add", slow)
    changing = asyncio.create_task(ingress.rollouts.change("whisper", Change(application=APPLICATION, share=5), "anna"))
    await asyncio.to_thread(begun.wait, 20)
    changing.cancel()
    await asyncio.wait({changing})
    go.set()
    async with asyncio.timeout(20):
        while '"revision": 1, "by": "anna"' not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await ingress.look()
    assert state(ingress).share == 5


async def test_two_operators_at_once_make_one_rollout(cluster: Cluster) -> None:
    one, other = Ingress(cluster, "ingress-1"), Ingress(cluster, "ingress-2")
    found = await asyncio.gather(begin(one), begin(other), return_exceptions=True)
    assert [type(error) for error in found if error is not None] == [RolloutConflict]


async def test_labelled_recordings_are_judged_at_once(ingress: Ingress) -> None:
    labelled = {"recordings": 10, "words": 100, "stable": 5, "candidate": 20}
    await begin(ingress, {"max_word_errors": 1.05}, labelled=labelled)
    assert state(ingress).status == "aborted"
    assert "labelled" in state(ingress).reason


async def test_an_unknown_stage_has_no_view(ingress: Ingress) -> None:
    with pytest.raises(InvalidInput):
        await ingress.rollouts.view("painter")
    assert await ingress.rollouts.view("diffusion") is None
