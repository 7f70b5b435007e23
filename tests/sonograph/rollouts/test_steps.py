"""The steps of the commands, over a service and a dashboard on loopback: each can be repeated, wherever the command died."""

from collections.abc import Iterator
from typing import Any

import pytest

from sonograph.dashboard import Dashboard, DashboardError
from sonograph.errors import Failed
from sonograph.rollouts import serve_config
from sonograph.rollouts.serve_config import Candidate
from sonograph.rollouts.steps import Run, begin
from sonograph.rollouts.targets import RunningServe
from sonograph.service import Service
from testing.rollout_service import KEY, STABLE, TOKEN, FakeCluster, running

pytestmark = pytest.mark.slow

NAME = "sonograph-whisper-candidate"
CANDIDATE = Candidate("whisper", NAME, {"padding": "adaptive"})
REQUEST = {"application": NAME, "share": 0, "mirror": 10, "samples": 0, "plan": {"steps": [5, 100]}}


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with running(FakeCluster()) as cluster:
        yield cluster


@pytest.fixture
def run(cluster: FakeCluster) -> Iterator[Run]:
    with Service(cluster.service, KEY) as service, Dashboard(cluster.dashboard, TOKEN) as dashboard:
        yield Run(service, lambda: RunningServe(dashboard), "whisper", "sonograph", lambda sentence: None, 5, 0, 0.01)


def started(run: Run, cluster: FakeCluster) -> None:
    run.deploy(CANDIDATE)
    begin(run, REQUEST, None)
    cluster.asked.clear()


def test_a_start_adds_the_application_then_the_rollout(run: Run, cluster: FakeCluster) -> None:
    run.deploy(CANDIDATE)
    begin(run, REQUEST, None)
    (kind, config), rollout = cluster.asked
    assert kind == "serve"
    assert [one["name"] for one in config["applications"]] == ["sonograph", NAME]
    assert config["applications"][0] == STABLE
    assert (config["proxy_location"], config["http_options"]["port"]) == ("EveryNode", 8000)
    assert rollout == ("rollout", REQUEST)
    run.deploy(CANDIDATE)
    begin(run, REQUEST, None)
    assert len(cluster.asked) == 2, "a repetition changed something"


def test_a_start_that_does_not_fit_changes_nothing(run: Run, cluster: FakeCluster) -> None:
    cluster.cpus = 2
    with pytest.raises(Failed, match="a candidate needs 1 CPU, and no node has more than 0 CPU free: give it less"):
        run.deploy(CANDIDATE)
    assert cluster.asked == []
    run.deploy(CANDIDATE, even_if_full=True)
    assert cluster.names == ["sonograph", NAME]


def test_a_candidate_that_serve_cannot_start_fails_with_serves_reason(run: Run, cluster: FakeCluster) -> None:
    cluster.failing = "Traceback ...\nFileNotFoundError: no checkpoint small.en"
    run.deploy(CANDIDATE)
    with pytest.raises(Failed, match=r"cannot start .* \(FileNotFoundError: no checkpoint small.en\): `sonograph rollout abort"):
        begin(run, REQUEST, None)


def test_a_stage_with_another_rollout_is_refused(run: Run, cluster: FakeCluster) -> None:
    started(run, cluster)
    with pytest.raises(Failed, match=f"whisper has a rollout of {NAME}"):
        begin(run, {**REQUEST, "application": "another"}, None)
    assert cluster.asked == []


def test_labels_are_measured_before_the_plan_begins(run: Run, cluster: FakeCluster) -> None:
    run.deploy(CANDIDATE)
    counted = {"recordings": 1, "words": 3, "stable": 1, "candidate": 0}

    def measure() -> dict[str, int]:
        present = cluster.rollouts["whisper"]
        assert (present["share"], present["plan"]) == (0, None)
        return counted

    begin(run, REQUEST, measure)
    present = cluster.rollouts["whisper"]
    assert (present["plan"]["steps"], present["mirror"], present["labelled"]) == ([5, 100], 10, counted)
    assert "application" not in cluster.asked[-1][1], "the plan would begin a second rollout"
    begin(run, REQUEST, lambda: pytest.fail("measured again"))


def test_a_promotion_gives_the_candidate_every_request_before_the_stable_model_restarts(run: Run, cluster: FakeCluster) -> None:
    started(run, cluster)
    run.promote()
    status, promoted, removed, last = cluster.asked
    assert status == ("rollout", {"status": "promoting"})
    assert promoted[1]["applications"][0]["args"]["whisper"] == {"model": "tiny.en", "max_batch": 4, "padding": "adaptive"}
    assert len(promoted[1]["applications"]) == 2
    assert removed == ("rollout", "removed")
    assert [one["name"] for one in last[1]["applications"]] == ["sonograph"]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_promotion_that_died_is_finished_by_the_next(run: Run, cluster: FakeCluster, done: int) -> None:
    started(run, cluster)
    config = run.target.config()
    changed = serve_config.promoted(config, "sonograph", "whisper", NAME)
    run.service.change("whisper", status="promoting")
    if done > 1:
        run.target.apply(changed)
    if done > 2:
        run.service.remove("whisper")
    cluster.asked.clear()
    run.promote()
    assert len(cluster.asked) == 4 - done
    assert cluster.names == ["sonograph"]
    assert cluster.applications["sonograph"]["args"]["whisper"]["padding"] == "adaptive"
    assert cluster.rollouts == {}
    with pytest.raises(Failed, match="whisper has no rollout to promote"):
        run.promote()


def test_an_aborted_rollout_is_not_promoted(run: Run, cluster: FakeCluster) -> None:
    started(run, cluster)
    cluster.rollouts["whisper"] |= {"status": "aborted", "reason": "max_errors: 4% is above 1%"}
    with pytest.raises(Failed, match=r"was aborted \(max_errors: 4% is above 1%\): start it anew"):
        run.promote()
    assert cluster.asked == []


def test_a_candidate_that_does_not_serve_is_not_promoted(run: Run, cluster: FakeCluster) -> None:
    started(run, cluster)
    cluster.failing = "dead"
    with pytest.raises(Failed, match="cannot answer all requests: no replica serves yet"):
        run.promote()
    assert cluster.asked == []


@pytest.mark.parametrize("keep", [False, True])
def test_an_abort_ends_the_requests_before_the_replicas(run: Run, cluster: FakeCluster, keep: bool) -> None:
    started(run, cluster)
    run.abort(keep)
    assert cluster.asked[0] == ("rollout", {"status": "aborted"})
    assert cluster.names == (["sonograph", NAME] if keep else ["sonograph"])
    assert cluster.rollouts["whisper"]["status"] == "aborted"
    run.abort(keep)
    assert len(cluster.asked) == (1 if keep else 2), "a repetition changed something"


def test_an_abort_reaches_the_service_while_rays_dashboard_is_away(run: Run, cluster: FakeCluster) -> None:
    started(run, cluster)

    def no_dashboard() -> Any:
        raise DashboardError("Ray's dashboard does not answer")

    with pytest.raises(DashboardError):
        Run(run.service, no_dashboard, "whisper", "sonograph", lambda sentence: None, 5, 0).abort(False)
    assert cluster.rollouts["whisper"]["status"] == "aborted"


def test_a_removal_finds_an_application_without_a_rollout(run: Run, cluster: FakeCluster) -> None:
    run.deploy(CANDIDATE)
    run.remove()
    assert cluster.names == ["sonograph"]
    run.remove()
    assert len(cluster.asked) == 2


def test_the_service_itself_is_never_removed(run: Run, cluster: FakeCluster) -> None:
    with pytest.raises(Failed, match="sonograph is the service itself"):
        run.remove_application("sonograph")
    assert cluster.asked == []
