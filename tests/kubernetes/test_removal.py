"""The ends of an installation, each with clients: what they get, and that nothing is left or waits for ever."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.installation import LONG_S, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.small import small as make_small

UNDER_WAY_S = 10.0
"""Time after which each client waits for a picture."""
pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def installed(clients: Kubectl, tmp_path: Path) -> Iterator[Installation]:
    made = make_small(clients, "removed", tmp_path)
    made.install()
    yield made
    clients("delete", "namespace", "removed", "--ignore-not-found", f"--timeout={LONG_S}s", timeout_s=LONG_S + 20)


def test_a_deleted_service_answers_what_it_has_begun_and_ends_with_all_its_pods(installed: Installation) -> None:
    with installed.load(clients=3, pause_s=0, until=lambda: not installed.pods(**{"is-ray-node": "yes"})) as answers:
        time.sleep(UNDER_WAY_S)
        installed.kubectl("delete", "rayservice", "--all", installed.namespace, "--wait=false")
    print(sorted({str(status) for status, _ in answers}))
    assert 200 in [status for status, _ in answers]
    assert not [status for status, _ in answers if status == 500]
    assert installed.clusters() == []


def test_a_namespace_that_is_deleted_at_once_is_gone_after_a_while(installed: Installation) -> None:
    def clusters() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = installed.kubectl.get("rayclusters", installed.namespace)
        return found

    with installed.load(clients=3, pause_s=0, until=lambda: not installed.pods(**{"is-ray-node": "yes"})) as answers:
        time.sleep(UNDER_WAY_S)
        installed.kubectl("delete", "namespace", installed.profile.namespace, "--wait=false")
    print(sorted({str(status) for status, _ in answers}))
    assert not [status for status, _ in answers if status == 500]
    # As docs/kubernetes/upgrades.md says: KubeRay can start no Job in a namespace that ends, and waits for one.
    wait_until(
        lambda: all(one["metadata"].get("deletionTimestamp") for one in clusters()), "the RayCluster is being deleted", LONG_S
    )
    for cluster in installed.clusters():
        installed.patch("raycluster", cluster, [{"op": "remove", "path": "/metadata/finalizers"}])
    gone = ("get", "namespace", installed.profile.namespace)
    wait_until(lambda: not installed.kubectl.succeeds(*gone), "the namespace is gone", LONG_S)
