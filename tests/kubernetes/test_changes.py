"""Changes of a service under load: replicas by load, Serve's configuration, images, bounds of a group, and the way back."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sonograph.cli import cli
from tests.kubernetes.images import NEXT
from tests.kubernetes.installation import CLIENTS, LONG_S, Answers, Installation
from tests.kubernetes.machine import wait_until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3600)]


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
    with small.load(clients=8, until=lambda: whispers(small) == 2) as answers:
        pass
    assert statuses(answers) == {200}
    wait_until(lambda: len(pods(small, "whisper")) == 1, "whisper's second pod ends", LONG_S)
    assert whispers(small) == 1


def test_a_changed_configuration_of_serve_is_taken_in_place(small: Installation) -> None:
    (before,) = small.clusters()

    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        config["applications"][0]["args"]["diffusion"] = {"max_side_px": 128}

    assert small.draw(CLIENTS, width="256").startswith(b"\x89PNG")
    with small.load(clients=2, until=lambda: b"[422 " in small.draw(CLIENTS, width="256")) as answers:
        small.change(change)
        small.apply()
    assert statuses(answers) == {200}
    assert small.clusters() == [before]


def test_a_wrong_pin_is_named_by_the_doctor_before_and_by_the_service_after(small: Installation) -> None:
    def pin(resource: str) -> None:
        def change(service: dict[str, Any], config: dict[str, Any]) -> None:
            (whisper,) = (one for one in config["applications"][0]["deployments"] if one["name"] == "whisper")
            whisper["ray_actor_options"]["resources"] = {resource: 1}

        small.change(change)

    pin("wisper")
    examined = CliRunner().invoke(cli, ["doctor", str(small.folder)])
    assert examined.exit_code == 1
    assert "wisper" in examined.output

    def is_named() -> bool:
        """By GET /graph, and by what `kubectl describe rayservice` prints."""
        described = small.kubectl.get("rayservice", small.profile.service, small.namespace)["status"]
        return "wisper" in small.status() and "wisper" in json.dumps(described)

    with small.load(clients=2, until=is_named) as answers:
        small.apply()
    assert statuses(answers) == {200}  # the previous replica serves on
    pin("whisper")
    small.apply()
    wait_until(lambda: "wisper" not in small.status(), "the pin is right again", LONG_S, pause_s=3)


def test_another_image_is_another_cluster_and_no_request_is_lost(small: Installation) -> None:
    (before,) = small.clusters()
    with small.load(clients=2, until=lambda: small.active() not in ("", before)) as answers:
        set_image(small, NEXT)
    assert statuses(answers) == {200}
    (image,) = {one["image"] for pod in small.pods(group="whisper", cluster=small.active()) for one in pod["spec"]["containers"]}
    assert image.endswith(NEXT)
    wait_until(lambda: small.clusters() == [small.active()], "the first cluster is gone", LONG_S)


@pytest.fixture
def doctor(small: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what calls `sonograph doctor --live`: its lines before the last one, none where all is well. The PATH has the kubectl."""
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, small.kubectl.command))} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def lines() -> list[str]:
        result = CliRunner().invoke(cli, ["doctor", "--live", small.namespace])
        found = result.output.splitlines()[:-1]
        assert result.exit_code == any(line.startswith("error: ") for line in found), result.output
        return found

    return lines


def run(line: str) -> None:
    """Run a command that the doctor has printed, as a user does."""
    assert line.startswith("  kubectl ")
    subprocess.run(line, shell=True, check=True, timeout=180)


def test_doctor_live_names_what_the_running_cluster_does_not_learn_and_its_command_applies_it(
    small: Installation, doctor: Callable[[], list[str]]
) -> None:
    """Bounds of a group, and tolerations."""
    toleration = {"key": "sonograph/spare", "operator": "Exists"}
    wait_until(lambda: doctor() == [], "the doctor finds nothing", LONG_S, pause_s=3)

    def whisper() -> dict[str, Any]:
        (cluster,) = small.kubectl.get("rayclusters", small.namespace)
        (group,) = (one for one in cluster["spec"]["workerGroupSpecs"] if one["groupName"] == "whisper")
        return dict(group)

    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        (group,) = (one for one in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "whisper")
        group["maxReplicas"] += 1
        group["template"]["spec"]["tolerations"] = [toleration]

    before, (cluster,) = whisper(), small.clusters()
    small.change(change)
    small.apply()
    small.wait_until_observed()
    most, tolerations = before["maxReplicas"], before["template"]["spec"].get("tolerations")
    assert (whisper()["maxReplicas"], whisper()["template"]["spec"].get("tolerations")) == (most, tolerations)
    bounds, patch, lacking, other_patch, delete = doctor()
    assert f"{cluster} has maxReplicas {most}, not {most + 1}" in bounds
    assert json.dumps([toleration]) in lacking
    for command in (other_patch, delete, patch):  # the last one changes what KubeRay counts, so it says that it has read all
        run(command)
    small.wait_until_observed()
    assert doctor() == []
    assert (whisper()["maxReplicas"], whisper()["template"]["spec"]["tolerations"]) == (most + 1, [toleration])
    assert small.clusters() == [cluster]


@pytest.mark.slow
def test_doctor_live_names_an_option_that_serve_does_not_take_and_its_command_starts_the_next_cluster(
    small: Installation, doctor: Callable[[], list[str]]
) -> None:
    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        config["http_options"]["request_timeout_s"] += 1

    (before,) = small.clusters()
    small.change(change)
    small.apply()
    small.wait_until_observed()
    finding, command = doctor()
    assert "http_options.request_timeout_s" in finding
    with small.load(clients=2, until=lambda: small.active() not in ("", before)) as answers:
        run(command)
    assert statuses(answers) == {200}
    wait_until(lambda: small.clusters() == [small.active()], "the first cluster is gone", LONG_S)
    wait_until(lambda: doctor() == [], "the doctor finds nothing", LONG_S, pause_s=3)
    small.apply()  # the manifest has no annotation, and leaves it
    small.wait_until_observed()
    assert small.clusters() == [small.active()]


@pytest.mark.slow
def test_the_way_back_while_the_second_cluster_starts(small: Installation) -> None:
    """As docs/kubernetes/upgrades.md says: no third cluster starts, and the second ends at once."""
    (first,) = small.clusters()
    (image,) = {one["image"] for pod in small.pods(group="whisper", cluster=first) for one in pod["spec"]["containers"]}
    new, old = ("", NEXT) if image.endswith(NEXT) else (NEXT, "")
    with small.load(clients=1, until=lambda: small.clusters() == [first]) as answers:
        set_image(small, new)
        wait_until(lambda: len(small.clusters()) == 2, "a second cluster starts")
        second = small.clusters()[1]
        strategy(small, "None")
        set_image(small, old)
        small.wait_until_observed()
        small.patch(
            "rayservice",
            small.profile.service,
            [{"op": "replace", "path": "/status/pendingServiceStatus", "value": {}}],
            "--subresource=status",
        )
        small.kubectl("delete", "raycluster", second, small.namespace, "--wait=false")
        strategy(small, "NewCluster")
        small.apply()
    assert statuses(answers) == {200}
    small.wait_until_observed()
    assert small.clusters() == [first]


def strategy(installed: Installation, kind: str) -> None:
    def change(service: dict[str, Any], config: dict[str, Any]) -> None:
        service["spec"]["upgradeStrategy"]["type"] = kind

    installed.change(change)
