"""Losses under load: evicted pods, a drained node, a node that dies, the head, Redis."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.kubernetes.conftest import SPARE
from tests.kubernetes.installation import CLIENTS, LONG_S, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.node import Node

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def only_spare(kubectl: Kubectl) -> Iterator[None]:
    """Let Kubernetes put new pods onto the spare node alone."""
    others = [one["metadata"]["name"] for one in kubectl.get("nodes") if one["metadata"]["name"] != f"node{SPARE}"]
    kubectl("cordon", *others)
    kubectl("uncordon", f"node{SPARE}")
    yield
    kubectl("uncordon", *others)
    kubectl("cordon", f"node{SPARE}")


class Watched:
    """The names of all pods of a group that have been there, and whether the group has settled on others than the first."""

    def __init__(self, installed: Installation, group: str) -> None:
        self._installed, self._group = installed, group
        self.first = self.seen = self._now()

    def _now(self) -> set[str]:
        """Return the pods of the active cluster: those of one before may take minutes to end."""
        found = self._installed.pods(group=self._group, cluster=self._installed.active())
        return {pod["metadata"]["name"] for pod in found}

    def is_replaced(self) -> bool:
        now = self._now()
        self.seen = self.seen | now
        return len(now) == len(self.first) and not now & self.first and is_whole(self._installed)

    def started(self) -> int:
        return len(self.seen - self.first)


def is_whole(installed: Installation) -> bool:
    """Return whether each deployment has one running replica."""
    return sorted(name for name, _ in installed.replicas()) == ["diffusion", "ingress", "whisper"]


@pytest.mark.parametrize("group", ["diffusion", "whisper", "ingress"])
def test_an_evicted_pod_serves_until_its_replacement_does_and_loses_nothing(small: Installation, group: str) -> None:
    watched = Watched(small, group)
    with small.load(clients=2, until=watched.is_replaced) as answers:
        assert all(small.evict(pod) for pod in small.pods(group=group))
    assert {status for status, _ in answers} == {200}
    # The autoscaler asks for one pod more, and once the evicted pod has ended KubeRay makes another for it, which goes after its idle time.
    assert watched.started() <= 2


@pytest.mark.own_nodes
@pytest.mark.usefixtures("only_spare")
def test_a_drained_node_loses_nothing(small: Installation) -> None:
    (pod,) = small.pods(group="whisper")
    watched = Watched(small, "whisper")
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=ray.io/group=whisper", "--timeout=600s")
    with small.load(clients=2, until=watched.is_replaced) as answers:
        small.kubectl("drain", pod["spec"]["nodeName"], *words, timeout_s=620)
    assert {status for status, _ in answers} == {200}
    (pod,) = small.pods(group="whisper")
    assert pod["spec"]["nodeName"] == f"node{SPARE}"


@pytest.mark.own_nodes
def test_a_node_that_dies_is_missed_for_a_time_and_no_request_that_was_taken_is_left_without_an_answer(
    small: Installation,
) -> None:
    """Whisper's pod is on the spare node (see the test before), and on no other. It stays there, Terminating, until the node is deleted."""

    def addresses() -> list[str]:
        return [address for name, address in small.replicas() if name == "whisper"]

    wait_for_surplus_pods(small)  # a second replica would answer meanwhile
    (dead,) = addresses()

    def is_replaced() -> bool:
        now = addresses()
        return bool(now) and dead not in now

    with small.load(clients=2, until=is_replaced) as answers:
        Node(SPARE).die()
    # 504: was on the node, whose connections nobody closes. No connection: its pod is in the Service until Kubernetes misses the node.
    assert {status for status, _ in answers} <= {200, 503, 504, "ConnectTimeout('')"}
    assert small.draw(CLIENTS).startswith(b"\x89PNG")
    served_s = [0.0, *(at_s for status, at_s in answers if status == 200)]
    print(f"{max(after_s - before_s for before_s, after_s in pairwise(served_s)):.0f} s without a picture")
    small.kubectl("delete", "node", f"node{SPARE}")


def test_without_the_head_requests_go_on_and_the_next_one_takes_over(small: Installation) -> None:
    assert_all_answered(small, lambda: delete_head(small))


def test_without_redis_requests_go_on_and_with_it_the_service_is_whole_again(small: Installation) -> None:
    assert_all_answered(small, lambda: small.kubectl("delete", "pod", "sonograph-redis-0", small.namespace, "--wait=false"))


def delete_head(installed: Installation) -> None:
    (head,) = installed.pods(**{"node-type": "head"})
    installed.kubectl(
        "delete", "pod", head["metadata"]["name"], installed.namespace, "--grace-period=0", "--force", "--wait=false"
    )


def assert_all_answered(installed: Installation, loss: Callable[[], object]) -> None:
    wait_for_surplus_pods(installed)
    before, workers = heads(installed), installed.pods(**{"node-type": "worker"})

    def is_over() -> bool:
        return (
            heads(installed) != before and installed.kubectl.succeeds("get", "pods", installed.namespace) and is_served(installed)
        )

    with installed.load(clients=2, until=is_over) as answers:
        loss()
    assert {status for status, _ in answers} == {200}
    kept = {pod["metadata"]["name"] for pod in installed.pods(**{"node-type": "worker"})}
    assert {pod["metadata"]["name"] for pod in workers} <= kept


def wait_for_surplus_pods(installed: Installation) -> None:
    """Wait until the pods that load or an eviction has started beyond the smallest number have ended."""
    needed = sum(group.min_pods for group in installed.profile.groups)
    wait_until(lambda: len(installed.pods(**{"node-type": "worker"})) == needed, "the surplus pods have ended", LONG_S)


def heads(installed: Installation) -> list[tuple[str, int]]:
    """Return the head's pod, and how often its containers have started again."""
    return [
        (pod["metadata"]["name"], sum(one["restartCount"] for one in pod["status"].get("containerStatuses", [])))
        for pod in installed.pods(**{"node-type": "head"})
    ]


def is_served(installed: Installation) -> bool:
    found = [one for pod in installed.pods(**{"node-type": "head"}) for one in pod["status"].get("containerStatuses", [])]
    return len(found) == 2 and all(one["ready"] for one in found) and is_whole(installed)
