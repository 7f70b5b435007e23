"""Placement on a real Ray cluster: each node is a virtual environment of its own image, and Serve gets the manifest's config.

The groups have all pods, CPUs and replicas of the profile `cpu`. Clients connect to the ingress' pods. The tests run in order and share
one cluster: without pins while a pod is missing; as rendered; with a wrong pin; evicted pods; after a node's death; after the head's death.
"""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from kuberay import ray_autoscaler
from sonograph.cli import cli
from testing import cluster as clusters
from testing import speech
from testing.client import Call
from testing.cluster import Cluster, Node
from testing.manifests import Manifests

pytestmark = [
    pytest.mark.serve,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server (Debian's package) is not on this machine"),
]
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
DEPLOYMENTS = ("ingress", "whisper", "diffusion")


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A cluster without whisper's pod, as if its image were still being pulled."""
    with clusters.running("ingress", "ingress", "diffusion") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(bare: Cluster) -> Cluster:
    """The whole cluster, with the application of the manifest."""
    bare.start("whisper")
    bare.wait_for_nodes()
    bare.deploy(bare.config())
    bare.wait_until(bare.serves, "the application serves")
    return bare


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in config["applications"][0]["deployments"] if one["name"] == name)
    return dict(found)


def test_without_pins_a_deployment_is_placed_in_the_wrong_image_and_fails(bare: Cluster) -> None:
    config = bare.config()
    for one in config["applications"][0]["deployments"]:
        del one["ray_actor_options"]["resources"], one["ray_actor_options"]["label_selector"]
    # One replica of the ingress, so that a CPU is left for whisper.
    config["applications"][0]["deployments"][0].pop("autoscaling_config")
    bare.deploy(config)
    bare.wait_until(lambda: bare.application().get("status") == "DEPLOY_FAILED", "the application fails")
    message = bare.application()["deployments"]["whisper"]["message"]
    assert "No module named 'tritonserver'" in message or "No module named 'whisper'" in message, message
    images = bare.images("whisper", "DEAD")
    assert images
    assert set(images) <= {"ingress", "diffusion"}
    bare.delete()  # an update would start one further replica, for which the autoscaler would start a pod


def test_as_rendered_every_replica_runs_in_its_own_image(cluster: Cluster) -> None:
    for name in DEPLOYMENTS:
        wanted = cluster.types[name].min_workers
        assert cluster.images(name) == [name] * wanted
    answer = httpx.post(f"{cluster.nodes_of('ingress')[0].url}/graph", files={"file": CAT}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\x89PNG")
    assert "cat" in answer.headers["x-transcript"].lower()


def get_stages(cluster: Cluster) -> dict[str, Any]:
    answer = httpx.get(f"{cluster.nodes_of('ingress')[0].url}/graph", timeout=60)
    assert answer.status_code == 200, answer.text
    return {stage["stage"]: stage for stage in answer.json()["stages"]}


def test_the_graph_shows_each_stage_with_its_replicas_and_their_nodes(cluster: Cluster) -> None:
    stages = get_stages(cluster)
    assert list(stages) == list(DEPLOYMENTS)
    for name, stage in stages.items():
        nodes = {actor["node_id"] for actor in cluster.replicas(name) if actor["state"] == "ALIVE"}
        assert {replica["node"] for replica in stage["replicas"]} == nodes
        assert {replica["state"] for replica in stage["replicas"]} == {"RUNNING"}
        assert all(replica["labels"] == {"image": name} for replica in stage["replicas"])
        assert stage["unsatisfiable"] == []
        assert stage["requested"]["labels"] == {"image": name}
    assert (stages["whisper"]["model"], stages["whisper"]["version"]) == ("tiny.en", "1")
    assert stages["diffusion"]["model"] == "small-stable-diffusion"
    assert stages["diffusion"]["queue"] == {"waiting": 0, "running": 0}


def test_a_wrong_pin_is_named_by_the_doctor_and_by_the_graph(cluster: Cluster, tmp_path: Any) -> None:
    wrong = Manifests()
    wrong.options("whisper")["resources"] = {"wisper": 1}
    result = CliRunner().invoke(cli, ["doctor", str(wrong.write(tmp_path / "wrong"))])
    assert result.exit_code == 1
    assert "whisper requests the resource wisper, which no worker group offers" in result.output

    cluster.deploy(cluster.config(wrong.service))
    cluster.wait_until(lambda: get_stages(cluster)["whisper"]["unsatisfiable"] != [], "the graph names the wrong pin")
    whisper = get_stages(cluster)["whisper"]
    assert whisper["unsatisfiable"] == ["the resource wisper: 1"]
    cluster.wait_until(
        lambda: None in [replica["node"] for replica in get_stages(cluster)["whisper"]["replicas"]], "the new replica waits"
    )
    assert cluster.application()["status"] == "DEPLOYING"  # Serve reports nothing else
    # The previous replica keeps serving, since an update starts the new one first.
    answer = httpx.post(f"{cluster.nodes_of('ingress')[0].url}/graph", files={"file": CAT}, timeout=120)
    assert answer.status_code == 200, answer.text

    cluster.deploy(cluster.config())
    cluster.wait_until(cluster.serves, "the application is as before")
    assert get_stages(cluster)["whisper"]["unsatisfiable"] == []
    assert cluster.images("whisper") == ["whisper"]


class Load:
    """A client that starts a small request every two seconds, at alternating ingress pods, streamed or not, with at most MAX_IN_FLIGHT.

    The bound is low because the processes of five nodes share two CPUs; test_faults.py covers overload.
    """

    MAX_IN_FLIGHT = 8

    def __init__(self, pods: list[Node]) -> None:
        self.calls: list[Call] = []
        self._stopped = asyncio.Event()
        self._sender = asyncio.create_task(self._send(pods))

    async def _send(self, pods: list[Node]) -> None:
        for number in itertools.count():
            await self.wait_until(lambda: len(self.calls) - len(self.finished) < self.MAX_IN_FLIGHT, "a request ends")
            self.calls.append(Call(pods[number % len(pods)], CAT, streaming=number // len(pods) % 2 == 0, steps="2"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 2)
                return

    @property
    def finished(self) -> list[Call]:
        return [call for call in self.calls if call.done]

    async def wait_for_more(self, count: int) -> None:
        """Wait until `count` of the requests that start from now on have finished."""
        started = len(self.calls)
        await self.wait_until(lambda: sum(call.done for call in self.calls[started:]) >= count, "more requests end")

    async def wait_until(self, condition: Callable[[], bool], description: str) -> None:
        deadline_s = time.monotonic() + clusters.START_S
        while not condition():
            assert time.monotonic() < deadline_s, f"not within {clusters.START_S} s: {description}"
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop sending and wait for all requests; a request that hangs is an error."""
        self._stopped.set()
        await self._sender
        await asyncio.gather(*(call.finished() for call in self.calls))


@contextlib.asynccontextmanager
async def load(cluster: Cluster) -> AsyncIterator[Load]:
    load = Load(cluster.nodes_of("ingress"))
    try:
        yield load
    finally:
        await load.stop()


async def test_a_pod_that_is_evicted_loses_no_request_and_its_replacement_starts_before_it_ends(cluster: Cluster) -> None:
    """The preStop hook drains its node: the next pod starts only while the evicted one serves on."""
    (node,) = cluster.nodes_of("whisper")
    (evicted,) = (actor["actor_id"] for actor in cluster.replicas("whisper") if actor["state"] == "ALIVE")

    def migrating() -> bool:
        return len(cluster.application().get("deployments", {}).get("whisper", {}).get("replicas", [])) == 2

    async with load(cluster) as clients:
        await clients.wait_for_more(2)
        cluster.end(node)
        await asyncio.to_thread(cluster.wait_until, migrating, "Serve wants another replica")
        await clients.wait_for_more(4)  # the evicted pod answers them: there is no other
        assert node.process.poll() is None
        cluster.start("whisper")
        # The evicted pod's replica, which migrates, does not count as running.
        await asyncio.to_thread(cluster.wait_until, lambda: cluster.running("whisper") == 1, "the replacement runs")
        assert node.process.poll() is None
        await asyncio.to_thread(node.process.wait, clusters.START_S)
        await asyncio.to_thread(cluster.wait_for_nodes)
        await clients.wait_for_more(4)
    assert [call.problem for call in clients.calls if call.outcome != (200, "")] == []
    (alive,) = (actor["actor_id"] for actor in cluster.replicas("whisper") if actor["state"] == "ALIVE")
    assert alive != evicted
    assert cluster.images("whisper") == ["whisper"]


async def test_the_proxy_of_an_evicted_pod_closes_after_its_requests(cluster: Cluster) -> None:
    """Requests that have come to it are answered; the Service sends further ones elsewhere."""
    node, other = cluster.nodes_of("ingress")
    calls = [Call(node, CAT, streaming=number % 2 == 0, steps="2") for number in range(4)]
    for call in calls[::2]:
        await call.wait_for("image.step")
    cluster.end(node)
    await asyncio.gather(*(call.finished() for call in calls))
    assert [call.outcome for call in calls] == [(200, "")] * len(calls)
    assert (await Call(other, CAT, steps="2").finished()).outcome == (200, "")
    cluster.start("ingress")
    await asyncio.to_thread(node.process.wait, clusters.START_S)
    assert (await Call(node, CAT).finished()).status is None  # no connection
    await asyncio.to_thread(cluster.wait_until, cluster.serves, "two pods of the ingress serve")


async def test_after_its_nodes_death_a_model_refuses_requests_until_the_next_node_starts(cluster: Cluster) -> None:
    """Requests in flight are retried and wait for the next replica; new ones are refused at once."""
    (node,) = cluster.nodes_of("diffusion")
    async with load(cluster) as clients:
        await clients.wait_for_more(2)
        before = clients.finished
        await asyncio.to_thread(cluster.kill, node)
        await clients.wait_until(lambda: sum(call.outcome[0] == 503 for call in clients.finished) >= 4, "refusals")
        cluster.start("diffusion")
        await asyncio.to_thread(cluster.wait_for_nodes)
        await asyncio.to_thread(cluster.wait_until, cluster.ready, "all models serve again")
        recovered = len(clients.calls)
        await clients.wait_for_more(4)
    assert {call.outcome for call in before} == {(200, "")}
    assert [call.problem for call in clients.calls if call.outcome not in ((200, ""), (503, "model_unavailable"))] == []
    refused = [call for call in clients.calls if call.outcome != (200, "")]
    assert {call.problem["stage"] for call in refused} == {"diffusion"}
    assert {call.streaming for call in refused} == {True, False}
    assert all(int(call.headers["retry-after"]) >= 1 for call in refused if not call.streaming)
    assert {call.outcome for call in clients.calls[recovered:]} == {(200, "")}
    assert cluster.images("diffusion") == ["diffusion"]


async def test_the_heads_death_loses_no_request_because_redis_holds_its_state(cluster: Cluster) -> None:
    (head,) = cluster.nodes_of(ray_autoscaler.HEAD)
    pids = {name: {actor["pid"] for actor in cluster.replicas(name) if actor["state"] == "ALIVE"} for name in DEPLOYMENTS}
    async with load(cluster) as clients:
        await clients.wait_for_more(2)
        (gcs,) = (one for one in head.processes() if one.name() == "gcs_server")
        gcs.kill()
        await asyncio.to_thread(head.process.wait, 60)  # the container's command exits with the GCS
        cluster.kill(head)
        await clients.wait_for_more(4)
        cluster.start(ray_autoscaler.HEAD)
        await asyncio.to_thread(cluster.wait_for_nodes)
        restored = lambda: all(cluster.running(name) == len(pids[name]) for name in DEPLOYMENTS)  # noqa: E731
        await asyncio.to_thread(cluster.wait_until, restored, "Serve finds its replicas again")
        await asyncio.to_thread(cluster.wait_until, cluster.ready, "the ingress is ready")
        await clients.wait_for_more(4)
    assert [call.problem for call in clients.calls if call.outcome != (200, "")] == []
    for name in DEPLOYMENTS:  # the replicas never stopped
        assert {actor["pid"] for actor in cluster.replicas(name) if actor["state"] == "ALIVE"} == pids[name]
        assert all(map(psutil.pid_exists, pids[name]))
