"""`/graph/rollouts`: operators begin, change and remove rollouts, and others do not."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.errors import ModelUnavailable
from graphs.http.settings import HttpSettings
from graphs.serve.topology import ClusterState, Topology
from graphs.tracing.settings import TracingSettings
from graphs.tracing.traces import Traces
from testing.fakes import deployment_status, serve_status
from testing.rollouts import APPLICATION, Cluster, Ingress

OPERATOR, CLIENT = "operator-has-a-long-key", "client-has-a-long-key"
PATH = "/graph/rollouts/whisper"
START = {"application": APPLICATION, "share": 20}
PLAN = {"steps": [5, 50, 100], "every_s": 60}
SOUND: dict[str, Any] = {"files": {"file": b"sound"}, "headers": {"Accept": "application/json"}}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def ingress() -> Ingress:
    return Ingress(Cluster())


@pytest.fixture
def keyed(tmp_path: Path) -> Ingress:
    keys = tmp_path / "keys"
    keys.write_text(f"anna {OPERATOR} operator\nbob {CLIENT}\n")
    return Ingress(Cluster(), http=HttpSettings(api_keys_file=keys))


async def test_a_rollout_is_begun_seen_changed_and_removed(ingress: Ingress) -> None:
    async with ingress.client() as client:
        assert (await client.get(PATH)).json()["code"] == "not_found"
        begun = (await client.put(PATH, json=START)).json()
        assert (
            begun["rollout"] | {"share": 20, "application": APPLICATION, "status": "running", "revision": 1} == begun["rollout"]
        )
        changed = (await client.put(PATH, json={"share": 40, "mirror": 10})).json()
        assert (changed["rollout"]["share"], changed["rollout"]["mirror"], changed["rollout"]["revision"]) == (40, 10, 2)
        assert [one["share"] for one in changed["history"]] == [20, 40]
        everything = (await client.get("/graph/rollouts")).json()
        assert list(everything["rollouts"]) == ["whisper"]
        assert (await client.delete(PATH)).status_code == 204
        assert (await client.get(PATH)).status_code == 404
        assert (await client.put(PATH, json=START)).json()["rollout"]["revision"] == 4


async def test_what_runs_where_has_the_rollout_and_its_candidates_replicas(ingress: Ingress) -> None:
    replicas = {name: [{"replica_id": f"r-{name}", "state": "RUNNING", "node_id": "n1"}] for name in ("sonograph", APPLICATION)}
    applications = {name: {"deployments": {"whisper": {"status": "HEALTHY", "replicas": replicas[name]}}} for name in replicas}
    state = ClusterState({"applications": applications}, [])
    stages = [ingress.service.whisper]
    ingress.service.topology = Topology("sonograph", stages, lambda: state, ingress.rollouts.summaries)
    async with ingress.client() as client:
        begun = (await client.put(PATH, json=START)).json()
        (whisper,) = (await client.get("/graph")).json()["stages"]
    candidate = whisper["rollout"]["candidate"]
    assert [one["id"] for one in (*whisper["replicas"], *candidate["replicas"])] == ["r-sonograph", f"r-{APPLICATION}"]
    assert candidate | begun["candidate"] == candidate
    assert whisper["rollout"]["rollout"] == begun["rollout"]


async def test_a_request_is_mirrored_once_its_client_has_the_answer(ingress: Ingress) -> None:
    async with ingress.client() as client:
        await client.put(PATH, json={"application": APPLICATION, "mirror": 100})
        await ingress.look()
        assert (await client.post("/graph", **SOUND)).json()["transcript"] == "a red apple"
        split = ingress.service.whisper.rollout.split
        assert split is not None
        async with asyncio.timeout(5):
            await asyncio.gather(*split.mirrors)
    assert len(ingress.candidate.calls) == 1


async def test_a_mirrored_request_has_a_trace_of_its_own_which_its_requests_trace_names(ingress: Ingress) -> None:
    ingress.service.traces = Traces(TracingSettings())
    async with ingress.client() as client:
        await client.put(PATH, json={"application": APPLICATION, "mirror": 100})
        await ingress.look()
        await client.post("/graph", **SOUND)
        await ingress.finish()
        request = (await client.get("/graph/traces/last")).json()
        (id,) = request["mirrors"]
        mirror = (await client.get(f"/graph/traces/{id}")).json()
    assert (mirror["trace_id"], mirror["mirror_of"], mirror["request_id"]) == (id, request["trace_id"], request["request_id"])
    assert (mirror["spans"][0]["name"], mirror["status"]) == ("mirror whisper", 0)
    assert "mirror whisper" not in {span["name"] for span in request["spans"]}
    assert mirror["at"] >= request["at"] + request["took_ms"] / 1000


async def test_requests_follow_the_share_and_answers_name_the_model(ingress: Ingress) -> None:
    async with ingress.client() as client:
        await client.put(PATH, json=START | {"share": 100})
        await ingress.look()
        answer = (await client.post("/graph", **SOUND)).json()
        assert answer["transcript"] == "a green pear"
        await client.put(PATH, json={"status": "aborted"})
        assert (await client.post("/graph", **SOUND)).json()["transcript"] == "a red apple"


async def test_an_operator_asks_for_one_of_the_models(keyed: Ingress) -> None:
    async with keyed.client() as client:
        await client.put(PATH, json=START | {"share": 0}, headers=bearer(OPERATOR))
        await keyed.look()
        for key, status in ((OPERATOR, 200), (CLIENT, 403)):
            headers = bearer(key) | {"X-Rollout": "whisper=candidate", "Accept": "application/json"}
            answer = await client.post("/graph", files={"file": b"sound"}, headers=headers)
            assert answer.status_code == status
        assert [context.variants for _, context in keyed.candidate.calls] == [{"whisper": "candidate"}]


@pytest.mark.parametrize("value", ["whisper", "whisper=both", "unknown=candidate", "=", "whisper=candidate,,"])
async def test_a_malformed_choice_is_refused(ingress: Ingress, value: str) -> None:
    async with ingress.client() as client:
        answer = await client.post("/graph", files={"file": b"sound"}, headers={"X-Rollout": value})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("wrong-but-long-enough", 401), (CLIENT, 403), (OPERATOR, 200)])
async def test_only_an_operators_key_may(keyed: Ingress, key: str | None, status: int) -> None:
    headers = bearer(key) if key else {}
    async with keyed.client() as client:
        answers = [
            await client.put(PATH, json=START, headers=headers),
            await client.get(PATH, headers=headers),
            await client.get("/graph/rollouts", headers=headers),
            await client.delete(PATH, headers=headers),
        ]
    assert [answer.status_code for answer in answers] == ([200, 200, 200, 204] if status == 200 else [status] * 4)
    if status == 403:
        assert answers[0].json()["code"] == "operator_key_needed"
        assert CLIENT not in answers[0].text


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.5"}, 403),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.5"}, 403),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("127.0.0.1", {"Origin": "https://evil.example"}, 403),
    ],
)
async def test_without_keys_only_a_client_on_this_machine_may(
    ingress: Ingress, address: str, headers: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(ingress.service.app(), client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        assert (await client.put(PATH, json=START, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"application": APPLICATION, "share": 120}, "share"),
        ({"application": APPLICATION, "share": -1}, "share"),
        ({"application": APPLICATION, "mirror": "all"}, "mirror"),
        ({"application": APPLICATION, "plan": {"steps": [50, 20]}}, "rise"),
        ({"application": APPLICATION, "plan": {"steps": []}}, "plan"),
        ({"application": APPLICATION, "plan": PLAN, "share": 5}, "leave one out"),
        ({"application": APPLICATION, "plan": PLAN | {"budgets": {"max_word_drift": 0.03}}}, "set mirror"),
        ({"application": APPLICATION, "plan": PLAN | {"budgets": {"max_word_errors": 1.1}}}, "labelled"),
        ({"application": "nowhere"}, "no application nowhere"),
        ({"application": "../../etc"}, "application"),
        ({"application": APPLICATION, "status": "paused"}, "status"),
        ({"shares": {"stable": 50}}, "no parameter"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence(ingress: Ingress, change: dict[str, Any], sentence: str) -> None:
    async with ingress.client() as client:
        answer = await client.put(PATH, json=change)
        assert answer.status_code == 422, answer.text
        assert sentence in answer.json()["detail"]
        assert (await client.get(PATH)).status_code == 404


async def test_an_unknown_stage_is_refused(ingress: Ingress) -> None:
    async with ingress.client() as client:
        for method in ("GET", "PUT", "DELETE"):
            answer = await client.request(method, "/graph/rollouts/painter", json=START)
            assert answer.status_code == 422
            assert "whisper, diffusion" in answer.json()["detail"]


@pytest.mark.parametrize(
    "change", [START, {"plan": PLAN}, {"application": APPLICATION, "plan": PLAN}, {"share": 50}, {"status": "running"}]
)
async def test_a_second_plan_for_a_stage_is_a_conflict(ingress: Ingress, change: dict[str, Any]) -> None:
    async with ingress.client() as client:
        await client.put(PATH, json={"application": APPLICATION, "plan": PLAN})
        if change == {"status": "running"}:
            await client.put(PATH, json={"status": "promoting"})
        answer = await client.put(PATH, json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "rollout_conflict")


async def test_the_service_is_ready_while_a_promoted_candidate_answers_for_a_stable_model_that_starts_anew(
    ingress: Ingress,
) -> None:
    starting = deployment_status("UPDATING", STARTING=1)
    ingress.service.status = serve_status(whisper=starting, diffusion=deployment_status())
    async with ingress.client() as client:
        await client.put(PATH, json=START)
        await ingress.look()
        assert (await client.get("/readyz")).status_code == 503
        await client.put(PATH, json={"status": "promoting"})
        assert (await client.get("/readyz")).status_code == 200
        ingress.candidate.unready = ModelUnavailable("it does not serve")
        assert (await client.get("/readyz")).status_code == 503


async def test_an_ended_rollout_takes_no_change(ingress: Ingress) -> None:
    async with ingress.client() as client:
        assert (await client.put(PATH, json={"share": 5})).status_code == 409
        await client.put(PATH, json=START)
        await client.put(PATH, json={"status": "aborted"})
        assert (await client.put(PATH, json={"status": "running"})).status_code == 409
        assert (await client.put(PATH, json=START)).status_code == 200


async def test_a_body_that_is_no_json_or_too_large_is_refused(ingress: Ingress) -> None:
    json = {"Content-Type": "application/json"}
    async with ingress.client() as client:
        assert (await client.put(PATH, content=b"share=5")).status_code == 415
        assert (await client.put(PATH, content=b"{", headers=json)).status_code == 422
        assert (await client.put(PATH, content=b" " * 200_000, headers=json)).status_code == 413


async def test_each_change_is_one_audit_line(keyed: Ingress, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ray.serve"):
        async with keyed.client() as client:
            await client.put(PATH, json=START, headers=bearer(OPERATOR))
            await client.put(PATH, json={"share": 40}, headers=bearer(OPERATOR))
            await client.put(PATH, json={"share": 400}, headers=bearer(OPERATOR))
            await client.delete(PATH, headers=bearer(OPERATOR))
    lines = [record.getMessage() for record in caplog.records if '"event": "rollout"' in record.getMessage()]
    assert len(lines) == 3
    assert all('"by": "anna"' in line and OPERATOR not in line for line in lines)


async def test_a_store_that_does_not_answer_is_said(ingress: Ingress, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*anything: Any) -> None:
        raise ConnectionError("no store")

    async with ingress.client() as client:
        monkeypatch.setattr(ingress.cluster.values, "keys", fail)
        answer = await client.put(PATH, json=START)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
        assert (await client.post("/graph", **SOUND)).status_code == 200
