"""Two installations: of two names in one namespace, and of one name in two namespaces. Neither meets the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberay.manifest.objects import HEAD_PORTS, INSTANCE
from tests.kubernetes.installation import CLIENTS, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.small import small as make_small

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(params=[("small", "other"), ("second", "sonograph")], ids=["one namespace", "two namespaces"])
def second(request: pytest.FixtureRequest, clients: Kubectl, tmp_path: Path) -> Iterator[Installation]:
    """Install another one beside the first, and remove what a failed test leaves."""
    space, name = request.param
    made = make_small(clients, space, tmp_path, name=name)
    made.install()
    yield made
    if made.kubectl.succeeds("get", "rayservice", name, made.namespace):
        made.end()
    if space != "small":
        clients("delete", "namespace", space, "--timeout=300s", timeout_s=320)


def test_two_installations_do_not_meet_and_one_that_goes_takes_nothing_of_the_other(
    small: Installation, second: Installation
) -> None:
    before = {one["metadata"]["uid"] for one in all_pods(small)}
    addresses = {name: {pod["status"]["podIP"] for pod in one.pods()} for name, one in (("first", small), ("second", second))}
    assert not addresses["first"] & addresses["second"]
    for one, other in ((small, second), (second, small)):
        assert one.draw(CLIENTS).startswith(b"\x89PNG")
        assert {address for _, address in one.replicas()} <= {pod["status"]["podIP"] for pod in one.pods()}
        assert reached(one, other) == []
    with small.load(clients=2) as answers:
        second.end()
    assert {status for status, _ in answers} == {200}
    assert {one["metadata"]["uid"] for one in all_pods(small)} == before
    assert small.connects(CLIENTS, "client", small.service, 8000)
    wait_until(lambda: not second.pods(), "the end of the other's last pods, whose grace begins with their deletion", 60)


def all_pods(installed: Installation) -> list[dict[str, dict[str, str]]]:
    """Return the pods of an installation, Redis' too."""
    found: list[dict[str, dict[str, str]]] = installed.kubectl.get(
        "pods", installed.namespace, f"--selector={INSTANCE}={installed.profile.service}"
    )
    return found


def reached(one: Installation, other: Installation) -> list[int]:
    """Return the ports of the other's Redis, head and worker that a worker of the first reaches."""
    source = one.pods(group="ingress")[0]["metadata"]["name"]
    space = one.profile.namespace
    own_redis, redis = (f"{each.profile.service}-redis.{each.profile.namespace}" for each in (one, other))
    assert one.connects(space, source, own_redis, 6379), "it reaches its own, else this test says nothing"
    head = other.pods(**{"node-type": "head"})[0]["status"]["podIP"]
    worker = other.pods(group="whisper")[0]["status"]["podIP"]
    tried = [(redis, 6379), *((head, port) for port in (HEAD_PORTS["gcs"], HEAD_PORTS["dashboard"])), (worker, 8000)]
    return [port for host, port in tried if one.connects(space, source, host, port)]
