"""The ends of an installation, each with clients: what they get, and that nothing is left or waits for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.installation import LONG_S, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.small import small as make_small

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def installed(clients: Kubectl, tmp_path: Path) -> Iterator[Installation]:
    made = make_small(clients, "removed", tmp_path)
    made.install()
    yield made
    clients("delete", "namespace", "removed", "--ignore-not-found", f"--timeout={LONG_S}s", timeout_s=LONG_S + 20)


def test_a_deleted_service_answers_what_it_has_begun_and_ends_with_all_its_pods(installed: Installation) -> None:
    with installed.load(clients=3, pause_s=0, until=lambda: not installed.pods(**{"is-ray-node": "yes"})) as answers:
        installed.kubectl("delete", "rayservice", "--all", installed.namespace, "--wait=false")
    served = [status for status, _ in answers if status == 200]
    print(sorted({str(status) for status, _ in answers}))
    assert served
    assert not [status for status, _ in answers if status == 500]
    assert installed.clusters() == []


def test_a_namespace_that_is_deleted_at_once_is_gone_after_a_while(installed: Installation) -> None:
    with installed.load(clients=3, pause_s=0, until=lambda: not installed.pods(**{"is-ray-node": "yes"})) as answers:
        installed.kubectl("delete", "namespace", installed.profile.namespace, "--wait=false")
    assert not [status for status, _ in answers if status == 500]
    gone = ("get", "namespace", installed.profile.namespace)
    wait_until(lambda: not installed.kubectl.succeeds(*gone), "the namespace is gone", LONG_S)
