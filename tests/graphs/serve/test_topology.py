"""`GET /graph`: each stage with its replicas and nodes, from Serve's controller and Ray. test_placement.py uses a real cluster."""

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.paths import model_version
from deployments.whisper.spec import SPEC as WHISPER
from graphs.http.settings import HttpSettings
from graphs.serve import topology
from graphs.serve.topology import ClusterState, Topology, unsatisfiable
from testing.fakes import FakeService, FakeStage, transcript


class BusyLimiter:
    waiting, running = 2, 8


def stage() -> Any:
    found: Any = FakeStage(WHISPER, transcript())
    found.limiter = BusyLimiter()
    return found


TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nModelUnavailable: no such checkpoint\n'


def node(name: str, image: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources, "Labels": {"image": image, "ray.io/node-id": name}}


NODES = [
    node("n1", "ingress", CPU=1, ingress=1),
    node("n2", "whisper", CPU=1, whisper=1),
    node("n3", "huge", alive=False, huge=1),
]


def deployment(requested: dict[str, float], labels: dict[str, str], *nodes: str | None, message: str = "") -> dict[str, Any]:
    return {
        "status": "HEALTHY",
        "message": message,
        "deployment_config": {"ray_actor_options": {"label_selector": labels}},
        "required_resources": requested,
        "target_num_replicas": len(nodes),
        "replicas": [
            {"replica_id": f"r{number}", "state": "RUNNING" if name else "STARTING", **({"node_id": name} if name else {})}
            for number, name in enumerate(nodes)
        ],
    }


def cluster_state(**deployments: dict[str, Any]) -> ClusterState:
    return ClusterState({"applications": {"sonograph": {"status": "RUNNING", "deployments": deployments}}}, NODES)


def describe(found: ClusterState) -> dict[str, Any]:
    answer = topology.describe("sonograph", [stage()], found)
    return {stage["stage"]: stage for stage in answer["stages"]}


def test_a_stage_has_its_model_its_replicas_and_its_queue() -> None:
    whisper = deployment({"CPU": 1, "whisper": 1, "GPU": 0}, {"image": "whisper"}, "n2", None, message=TRACEBACK)
    stages = describe(cluster_state(whisper=whisper, ingress=deployment({"CPU": 1}, {}, "n1")))
    assert list(stages) == ["ingress", "whisper"]
    assert stages["whisper"] == {
        "stage": "whisper",
        "deployment": "whisper",
        "model": "tiny.en",
        "version": "1",
        "status": "HEALTHY",
        "message": "ModelUnavailable: no such checkpoint",
        "requested": {"resources": {"CPU": 1, "whisper": 1}, "labels": {"image": "whisper"}},
        "unsatisfiable": [],
        "replicas": [
            {"id": "r0", "state": "RUNNING", "node": "n2", "labels": {"image": "whisper"}},
            {"id": "r1", "state": "STARTING", "node": None, "labels": {}},
        ],
        "target_replicas": 2,
        "queue": {"waiting": 2, "running": 8},
    }
    assert (stages["ingress"]["model"], stages["ingress"]["queue"]) == (None, None)


@pytest.mark.parametrize(
    ("resources", "labels", "lacking"),
    [
        ({"CPU": 1, "whisper": 1}, {"image": "whisper"}, []),
        ({}, {"image": "!whisper"}, []),
        ({}, {"image": "in(whisper,diffusion)"}, []),
        ({"wisper": 1}, {"image": "whisper"}, ["the resource wisper: 1"]),
        ({"whisper": 2}, {}, ["the resource whisper: 2"]),
        ({"huge": 0.5}, {}, ["the resource huge: 0.5"]),
        ({"wisper": 1}, {"image": "wisper"}, ["the resource wisper: 1", "the label image: wisper"]),
        ({"whisper": 1}, {"image": "ingress"}, ["whisper: 1, image: ingress on one node"]),
    ],
)
def test_a_request_that_no_node_satisfies_is_named(
    resources: dict[str, float], labels: dict[str, str], lacking: list[str]
) -> None:
    assert unsatisfiable(resources, labels, [one for one in NODES if one["Alive"]]) == lacking


def test_a_dead_node_satisfies_no_request() -> None:
    stages = describe(cluster_state(whisper=deployment({"huge": 1}, {}, None)))
    assert stages["whisper"]["unsatisfiable"] == ["the resource huge: 1"]


@pytest.mark.parametrize("serve", [{"applications": {}}, {"applications": {"sonograph": {"status": "DEPLOYING"}}}])
def test_a_stage_that_serve_does_not_know_is_absent(serve: dict[str, Any]) -> None:
    whisper = describe(ClusterState(serve, NODES))["whisper"]
    assert (whisper["status"], whisper["replicas"], whisper["target_replicas"]) == ("ABSENT", [], 0)


async def get(answer: ClusterState | Exception, keys: Path | None = None) -> httpx.Response:
    def state() -> ClusterState:
        if isinstance(answer, Exception):
            raise answer
        return answer

    service = FakeService(HttpSettings(api_keys_file=keys), topology=Topology("sonograph", [stage()], state))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        return await client.get("/graph")


async def test_the_route_answers_with_the_description() -> None:
    answer = await get(cluster_state(whisper=deployment({"CPU": 1}, {}, "n2")))
    assert answer.status_code == 200
    assert (answer.json()["application"], answer.json()["status"]) == ("sonograph", "RUNNING")
    assert [stage["stage"] for stage in answer.json()["stages"]] == ["whisper"]


async def test_the_route_needs_a_key_if_the_service_has_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("someone 0123456789abcdef")
    answer = await get(cluster_state(), keys)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")


async def test_a_cluster_that_does_not_answer_is_a_problem_with_retry_after() -> None:
    answer = await get(ConnectionError("no route"))
    assert answer.status_code == 503
    assert answer.json()["detail"] == "Ray does not answer: ConnectionError no route"
    assert int(answer.headers["retry-after"]) >= 1


async def test_polls_of_a_cluster_that_does_not_answer_take_one_thread_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's control store is away: its client waits for a minute, and the executor has threads for six calls on two cores."""
    monkeypatch.setattr(topology, "ANSWER_S", 0.05)
    may_answer, calls = threading.Event(), []

    def state() -> ClusterState:
        calls.append(threading.current_thread())
        may_answer.wait(30)
        return cluster_state()

    service = FakeService(topology=Topology("sonograph", [stage()], state))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://service") as client:
        for _ in range(40):
            assert (await client.get("/graph")).status_code == 503
        assert len(calls) == 1
        assert (await client.get("/readyz")).status_code == 200
        may_answer.set()
        assert (await client.get("/graph")).status_code == 200


@pytest.mark.parametrize("model", ["whisper", "diffusion"])
def test_a_models_version_is_the_folder_that_triton_loads(model: str) -> None:
    assert model_version(model) == "1"


def test_a_stub_has_no_version() -> None:
    assert model_version("no_such_model") == ""
