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
from graphs.voice_to_text import VoiceToText
from testing.fakes import FakeService, FakeStage, transcript


class BusyLimiter:
    waiting, running = 2, 8


def stage() -> Any:
    found: Any = FakeStage(WHISPER, transcript())
    found.limiter = BusyLimiter()
    return found


TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nModelUnavailable: no such checkpoint\n'


def node(name: str, image: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    place = {"NodeManagerHostname": f"host-of-{name}", "NodeManagerAddress": "192.0.2.1"}
    return {"NodeID": name, "Alive": alive, "Resources": resources, "Labels": {"image": image, "ray.io/node-id": name}, **place}


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


def describe(found: ClusterState, **rollouts: Any) -> dict[str, Any]:
    answer = topology.describe("sonograph", [stage()], found, rollouts)
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
            {
                "id": "r0",
                "state": "RUNNING",
                "node": "n2",
                "host": "host-of-n2",
                "address": "192.0.2.1",
                "labels": {"image": "whisper"},
            },
            {"id": "r1", "state": "STARTING", "node": None, "host": None, "address": None, "labels": {}},
        ],
        "target_replicas": 2,
        "queue": {"waiting": 2, "running": 8},
        "rollout": None,
    }
    assert (stages["ingress"]["model"], stages["ingress"]["queue"]) == (None, None)


def test_a_rollout_has_its_candidates_replicas_which_are_of_another_application() -> None:
    found = cluster_state(whisper=deployment({}, {}, "n2"))
    found.serve["applications"]["next"] = {"status": "RUNNING", "deployments": {"whisper": deployment({"CPU": 1}, {}, "n1")}}
    rollout = {"rollout": {"application": "next"}, "candidate": {"model": "base.en"}}
    candidate = describe(found, whisper=rollout)["whisper"]["rollout"]["candidate"]
    assert candidate["model"] == "base.en"
    assert [replica["host"] for replica in candidate["replicas"]] == ["host-of-n1"]
    assert (candidate["status"], candidate["target_replicas"]) == ("HEALTHY", 1)
    assert rollout["candidate"] == {"model": "base.en"}, "the rollout's own summary stays as it is"


def test_a_candidate_that_serve_does_not_have_yet_is_absent() -> None:
    rollout = {"rollout": {"application": "next"}, "candidate": {"model": None}}
    assert describe(cluster_state(), whisper=rollout)["whisper"]["rollout"]["candidate"]["status"] == "ABSENT"


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


OPERATOR, CLIENT = "operator-has-a-long-key", "client-has-a-long-key"
NEAR, FAR = "127.0.0.1", "192.0.2.7"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"anna {OPERATOR} operator\nbob {CLIENT}\n")
    return file


async def get(answer: ClusterState | Exception, address: str = NEAR, key: str | None = None, **settings: Any) -> httpx.Response:
    """`address`: the client's; `settings`: of `http`."""

    def state() -> ClusterState:
        if isinstance(answer, Exception):
            raise answer
        return answer

    service = FakeService(HttpSettings(**settings), topology=Topology("sonograph", [stage()], state))
    transport = httpx.ASGITransport(service.app(), client=(address, 1))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client:
        return await client.get("/graph")


async def test_the_route_answers_with_the_description() -> None:
    answer = await get(cluster_state(whisper=deployment({"CPU": 1}, {}, "n2")))
    assert answer.status_code == 200
    assert (answer.json()["application"], answer.json()["status"]) == ("sonograph", "RUNNING")
    assert [stage["stage"] for stage in answer.json()["stages"]] == ["whisper"]


@pytest.mark.parametrize(
    ("key", "by_setting", "status"),
    [
        (OPERATOR, False, 200),
        (CLIENT, False, 405),
        (None, False, 405),
        ("nobodys-key-at-all", False, 405),
        (OPERATOR, True, 200),
        (CLIENT, True, 200),
        (None, True, 401),
    ],
)
async def test_with_keys_it_is_for_operators_and_by_the_setting_for_every_key(
    keys: Path, key: str | None, by_setting: bool, status: int
) -> None:
    for address in (NEAR, FAR):
        answer = await get(cluster_state(), address, key, api_keys_file=keys, show_graph=by_setting)
        assert answer.status_code == status
        assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(("address", "by_setting", "status"), [(NEAR, False, 200), (FAR, False, 405), (FAR, True, 200)])
async def test_without_keys_it_is_for_clients_of_this_machine_and_by_the_setting_for_all(
    address: str, by_setting: bool, status: int
) -> None:
    assert (await get(cluster_state(), address, show_graph=by_setting)).status_code == status


async def test_others_get_what_a_service_without_the_route_answers() -> None:
    app = FakeService(topology=Topology("sonograph", [stage()], cluster_state)).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(FAR, 1)), base_url="http://service") as client:
        ours, without = await client.get("/graph"), await client.get("/listen")
    assert (ours.status_code, ours.headers["allow"]) == (without.status_code, without.headers["allow"]) == (405, "POST")
    assert {**ours.json(), "request_id": ""} == {**without.json(), "request_id": ""}


async def test_where_no_graph_has_the_path_others_find_nothing_there() -> None:
    app = FakeService(mounted=(VoiceToText,)).app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(FAR, 1)), base_url="http://service") as client:
        assert (await client.get("/graph")).status_code == 404


async def test_the_answer_has_every_field_of_the_description_and_no_other() -> None:
    found = cluster_state(whisper=deployment({"CPU": 1}, {"image": "whisper"}, "n2", None), ingress=deployment({}, {}, "n1"))
    assert (await get(found)).json() == topology.describe("sonograph", [stage()], found, {})


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
