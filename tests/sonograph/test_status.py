"""`sonograph status`: its table, its sentences and its exit statuses."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from sonograph import service
from sonograph.cli import cli
from sonograph.status import deployments, faults, table


def replica(id: str, state: str = "RUNNING", host: str | None = "machine-1") -> dict[str, Any]:
    node = None if host is None else f"node-of-{host}"
    return {"id": id, "state": state, "node": node, "host": host, "address": host and "192.0.2.1", "labels": {}}


def deployment(*replicas: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"status": "HEALTHY", "message": "", "unsatisfiable": [], "replicas": [*replicas], "target_replicas": len(replicas)}
    return {**found, "requested": {"resources": {}, "labels": {}}, **more}


def stage(name: str, model: str | None, *replicas: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {"stage": name, "deployment": name, "model": model, "version": "1", "queue": None, "rollout": None}
    return {**own, **deployment(*replicas, **more)}


def topology(*stages: dict[str, Any], status: str = "RUNNING") -> dict[str, Any]:
    return {"application": "sonograph", "status": status, "stages": [*stages]}


INGRESS = stage("ingress", None, replica("x9ab", host="front"))
ALL = topology(INGRESS, stage("whisper", "tiny.en", replica("a1"), replica("b2", host="machine-22")))


def rollout(current: str, *replicas: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rollout": {"status": current}, "candidate": {"model": "base.en", **deployment(*replicas, **more)}}


def test_each_replica_has_a_line_with_its_node_in_aligned_columns() -> None:
    assert table(ALL) == [
        "STAGE    MODEL    REPLICA  STATE    NODE",
        "ingress  -        x9ab     RUNNING  front (192.0.2.1)",
        "whisper  tiny.en  a1       RUNNING  machine-1 (192.0.2.1)",
        "whisper  tiny.en  b2       RUNNING  machine-22 (192.0.2.1)",
    ]
    assert faults(ALL) == []


def test_a_replica_without_a_node_and_a_stage_without_replicas_have_lines_too() -> None:
    waiting = replica("b2", "STARTING", host=None)
    found = topology(stage("whisper", "tiny.en", waiting), stage("diffusion", "small", status="ABSENT"))
    assert [line.split() for line in table(found)[1:]] == [
        ["whisper", "tiny.en", "b2", "STARTING", "-"],
        ["diffusion", "small", "-", "ABSENT", "-"],
    ]


def test_a_node_that_ray_does_not_list_any_more_is_shown_by_its_id() -> None:
    gone = {**replica("a1"), "host": None, "address": None}
    assert table(topology(stage("whisper", "tiny.en", gone)))[1].endswith("RUNNING  node-of-machine-1")


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (topology(INGRESS, status="DEPLOYING"), ["The application sonograph is DEPLOYING."]),
        (
            topology(stage("whisper", "m", replica("a"), replica("b", "STARTING"), status="UPSCALING")),
            ["whisper is UPSCALING: 1 of 2 replicas run"],
        ),
        (
            topology(
                stage("whisper", "m", status="UPDATING", target_replicas=1, unsatisfiable=["the resource w: 1", "the label i: w"])
            ),
            ["whisper is UPDATING: 0 of 1 replicas run; no node has the resource w: 1, the label i: w"],
        ),
        (
            topology(stage("whisper", "m", replica("a"), status="UNHEALTHY", message="no such checkpoint")),
            ["whisper is UNHEALTHY: 1 of 1 replicas run; no such checkpoint"],
        ),
        (topology(stage("whisper", "m", status="ABSENT")), ["whisper is ABSENT: 0 of 0 replicas run"]),
        (topology(stage("whisper", "m", replica("a"), replica("b", "STOPPING"), target_replicas=1, status="DOWNSCALING")), []),
        (
            topology(stage("whisper", "m", replica("a"), rollout=rollout("running", status="ABSENT"))),
            ["whisper-candidate is ABSENT: 0 of 0 replicas run"],
        ),
    ],
)
def test_what_does_not_run_is_named(found: dict[str, Any], sentences: list[str]) -> None:
    assert faults(found) == sentences


def test_a_candidate_follows_its_stage_until_its_rollout_is_aborted() -> None:
    def names(one: dict[str, Any]) -> list[str]:
        return [name for name, _ in deployments(topology(stage("whisper", "tiny.en", replica("a"), rollout=one), INGRESS))]

    assert names(rollout("running", replica("c"))) == ["whisper", "whisper-candidate", "ingress"]
    assert names(rollout("aborted", replica("c"))) == ["whisper", "whisper-candidate", "ingress"]
    assert names(rollout("aborted", status="ABSENT")) == ["whisper", "ingress"]
    found = topology(stage("whisper", "tiny.en", replica("a"), rollout=rollout("running", replica("c"))))
    assert table(found)[2].split() == ["whisper-candidate", "base.en", "c", "RUNNING", "machine-1", "(192.0.2.1)"]


def test_no_text_of_the_service_steers_the_terminal() -> None:
    found = topology(stage("whisper", "\x1b[2J", replica("\x07"), status="UNHEALTHY", message="\x1b]0;x"))
    assert "\x1b" not in "".join((*table(found), *faults(found)))


def run(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, *arguments: str) -> Result:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/graph"
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = service.Service
    monkeypatch.setattr(service, "Service", lambda url, key: made(url, key, httpx.MockTransport(respond)))
    return CliRunner().invoke(cli, ["status", *arguments])


def test_it_exits_with_0_where_everything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, httpx.Response(200, json=ALL))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == table(ALL)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_it_exits_with_1_where_something_does_not_run(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    found = topology(INGRESS, stage("whisper", "tiny.en", status="ABSENT"))
    done = run(monkeypatch, httpx.Response(200, json=found), *arguments)
    assert done.exit_code == 1
    assert json.loads(done.stdout) == found if arguments else done.stdout.splitlines()[-1] == faults(found)[0]


PROBLEM = {"detail": "this path does not take the method GET", "code": "method_not_allowed"}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.ConnectError("refused"), "nothing answers at http://127.0.0.1:8000"),
        (httpx.Response(405, json=PROBLEM), "tells only operators what runs where"),
        (httpx.Response(401, json={"detail": "this service needs a key", "code": "invalid_api_key"}), "needs a key"),
        (httpx.Response(503, json={"detail": "Ray does not answer", "code": "model_unavailable"}), "Ray does not answer"),
        (httpx.Response(200, text="<html>"), "is this its address?"),
    ],
)
def test_it_exits_with_2_and_one_sentence_where_it_is_not_told(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, sentence: str
) -> None:
    done = run(monkeypatch, answer)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
