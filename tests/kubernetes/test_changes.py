"""Changes of a service under load: replicas by load, Serve's configuration, images, bounds of a group, and the way back."""

import json
from typing import Any

import pytest

from tests.kubernetes.images import NEXT
from tests.kubernetes.installation import CLIENTS, Installation
from tests.kubernetes.machine import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3600)]
LONG_S = 900
"""Longest wait for a change to be through, with the machine busy."""
type Answers = list[tuple[int | str, float]]


def statuses(answers: Answers) -> set[int | str]:
    assert len(answers) > 1
    return {status for status, _ in answers}


def whispers(installed: Installation) -> int:
    """Return the number of Whisper's running replicas."""
    return sum(name == "whisper" for name, _ in installed.replicas())


def pods(installed: Installation, group: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in installed.pods(group=group)]


def set_image(installed: Installation, end: str) -> None:
    """Name another build of every image, and apply it."""

    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        for container in containers(service):
            container["image"] = container["image"].removesuffix(NEXT) + end

    installed.change(change)
    installed.apply()


def containers(service: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = service["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    return [
        one for group in groups for part in ("containers", "initContainers") for one in group["template"]["spec"].get(part, [])
    ]


def test_load_starts_a_models_pod_and_idle_it_goes(small: Installation) -> None:
    assert len(pods(small, "whisper")) == 1
    with small.load(CLIENTS, clients=8, until=lambda: whispers(small) == 2) as answers:
        pass
    assert statuses(answers) == {200}
    wait_until(lambda: len(pods(small, "whisper")) == 1, "whisper's second pod ends", LONG_S)
    assert whispers(small) == 1


def test_a_changed_configuration_of_serve_is_taken_in_place(small: Installation) -> None:
    (before,) = small.clusters()

    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        config["applications"][0]["args"]["diffusion"] = {"max_steps": 7}

    def is_taken() -> bool:
        return "max_steps" in small.head(CONFIGURATION) and small.is_running()

    with small.load(CLIENTS, clients=2, until=is_taken, pause_s=0.5) as answers:
        small.change(change)
        small.apply()
    assert statuses(answers) == {200}
    assert small.clusters() == [before]
    assert small.post(CLIENTS, steps=8).startswith("400 ")


def test_another_image_is_another_cluster_and_no_request_is_lost(small: Installation) -> None:
    (before,) = small.clusters()
    with small.load(CLIENTS, clients=2, until=lambda: small.active() not in ("", before), pause_s=0.5) as answers:
        set_image(small, NEXT)
    assert statuses(answers) == {200}
    (image,) = {one["image"] for pod in small.pods(group="whisper", cluster=small.active()) for one in pod["spec"]["containers"]}
    assert image.endswith(NEXT)
    wait_until(lambda: small.clusters() == [small.active()], "the first cluster is gone", LONG_S)


def test_the_running_cluster_does_not_learn_of_a_groups_new_bound_until_it_is_patched(small: Installation) -> None:
    """As kuberay/README.md says, and its patch."""

    def most() -> int:
        (cluster,) = small.kubectl.get("rayclusters", small.namespace)
        (group,) = (one for one in cluster["spec"]["workerGroupSpecs"] if one["groupName"] == "whisper")
        return int(group["maxReplicas"])

    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        (group,) = (one for one in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "whisper")
        group["maxReplicas"] += 1

    before, (cluster,) = most(), small.clusters()
    small.change(change)
    small.apply()
    small.wait_until_observed()
    assert most() == before
    patch = [
        {"op": "test", "path": "/spec/workerGroupSpecs/1/groupName", "value": "whisper"},
        {"op": "replace", "path": "/spec/workerGroupSpecs/1/maxReplicas", "value": before + 1},
    ]
    small.kubectl("patch", "raycluster", cluster, small.namespace, "--type=json", "--patch", json.dumps(patch))
    small.wait_until_observed()
    assert most() == before + 1
    assert small.clusters() == [cluster]


@pytest.mark.slow
def test_the_way_back_while_the_second_cluster_starts(small: Installation) -> None:
    """The patch of kuberay/README.md: no third cluster starts, and the second ends at once."""
    (first,) = small.clusters()

    def second() -> str:
        return next((name for name in small.clusters() if name != first), "")

    with small.load(CLIENTS, clients=1, until=lambda: small.clusters() == [first], pause_s=1) as answers:
        set_image(small, "" if small.image("whisper").endswith(NEXT) else NEXT)
        wait_until(lambda: bool(second()), "a second cluster starts")
        set_image(small, "" if small.image("whisper").endswith(NEXT) else NEXT)
    assert statuses(answers) == {200}
