"""Manifests that are near to a mistake in the Serve config or in what KubeRay refuses, and are none; and some that no rule may fail on."""

from typing import Any

import pytest

from kuberay.doctor.finding import ERROR
from kuberay.doctor.rules.models import repository
from kuberay.doctor.rules.refusals import duration_s
from kuberay.profiles import CPU, MIG, ONE_GPU, SMALL_GPUS, Profile
from testing.manifests import Break, Manifests
from tests.kuberay.mistakes.serve import (
    OPTIONS,
    annotated,
    args,
    deployed,
    drain,
    env,
    hook,
    http,
    image,
    port,
    scaled,
    served,
    unmounted,
    upgraded,
    without_a_job,
)


def all_ports(number: int) -> Break:
    return lambda m: [port(name, number)(m) for name in ("head", "ingress", "whisper", "diffusion")]


def all_drain_from(number: int) -> Break:
    def change(m: Manifests) -> None:
        for name in ("ingress", "whisper", "diffusion"):
            (*shell, line) = m.container(name)["lifecycle"]["preStop"]["exec"]["command"]
            command = [*shell, line.replace("--port 8000", f"--port {number}")]
            m.container(name)["lifecycle"] = {"preStop": {"exec": {"command": command}}}

    return change


def with_keys(m: Manifests) -> None:
    args("http", api_keys_file="/etc/sonograph/keys")(m)


def with_weights_in_the_images(m: Manifests) -> None:
    """No volume anywhere, and no Job."""
    without_a_job(m)
    m.beside = [one for one in m.beside if one["kind"] != "PersistentVolumeClaim"]
    for group in m.cluster["workerGroupSpecs"]:
        if "initContainers" in group["template"]["spec"]:
            unmounted(group["groupName"])(m)


OUT_BY_A_NAMED_PORT = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "hub", "namespace": CPU.namespace},
    "spec": {
        "podSelector": {"matchLabels": {"ray.io/group": "diffusion"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "https"}]}],
    },
}
FULL_DRAIN = '"$RAY_ADDRESS" --settle-s 5 --most-s 435 --idle-s 150 --port 8000'
NEAR: dict[str, tuple[Break, Profile]] = {
    "hours_and_minutes": (annotated(initializing_timeout="1h30m"), CPU),
    "seconds": (annotated(initializing_timeout="2700"), CPU),
    "a_fraction_of_an_hour": (annotated(initializing_timeout="0.75h"), CPU),
    "no_time_stated": (annotated(initializing_timeout=""), CPU),
    "an_annotation_of_a_mesh": (lambda m: m.service["metadata"]["annotations"].update({"example.org/timeout": "x"}), CPU),
    "an_empty_annotation_for_fault_tolerance": (annotated(ft_enabled=""), CPU),
    "an_upgrade_in_steps": (upgraded(), CPU),
    "an_upgrade_with_all_at_once": (upgraded(stepSizePercent=100, maxSurgePercent=100), CPU),
    "kuberay_as_manager": (lambda m: m.service["spec"].update(managedBy="ray.io/kuberay-operator"), CPU),
    "not_suspended": (lambda m: m.service["spec"].update(suspend=False), CPU),
    "a_group_without_pods_beside_others": (
        lambda m: m.cluster["workerGroupSpecs"].append(
            {
                "groupName": "spare",
                "minReplicas": 0,
                "maxReplicas": 1,
                "template": m.group("whisper")["template"],
                "resources": {"CPU": "1"},
            }
        ),
        CPU,
    ),
    "another_port_of_all": (lambda m: (http(port=9000)(m), all_ports(9000)(m), all_drain_from(9000)(m)), CPU),
    "any_host": (http(host="0.0.0.0"), CPU),
    "any_host_of_ipv6": (http(host="::"), CPU),
    "no_host": (lambda m: m.config["http_options"].pop("host"), CPU),
    "no_port": (lambda m: m.config["http_options"].pop("port"), CPU),
    "no_location": (lambda m: m.config.pop("proxy_location"), CPU),
    "no_prefix_stated": (lambda m: m.application.pop("route_prefix"), CPU),
    "a_service_with_annotations": (served(metadata={"annotations": {"a": "b"}}), CPU),
    "a_service_with_its_own_name": (served(metadata={"name": "sonograph-serve-svc"}), CPU),
    "a_service_with_its_own_port": (served(spec={"type": "LoadBalancer", "ports": [{"name": "serve", "port": 8000}]}), CPU),
    "a_service_on_port_80": (served(spec={"ports": [{"name": "serve", "port": 80, "targetPort": 8000}]}), CPU),
    "a_head_without_ports": (lambda m: m.container("head").pop("ports"), CPU),
    "as_many_at_once_as_the_app_counts_on": (deployed("whisper", max_ongoing_requests=32), CPU),
    "a_target_of_all": (scaled("whisper", target_ongoing_requests=32), CPU),
    "a_model_that_sleeps": (scaled("whisper", min_replicas=0), CPU),
    "a_delay_as_long_as_a_request": (scaled("whisper", upscale_delay_s=120), CPU),
    "a_loop_of_two_seconds": (deployed("whisper", graceful_shutdown_wait_loop_s=2), CPU),
    "a_check_that_waits": (deployed("whisper", health_check_timeout_s=30, health_check_period_s=10), CPU),
    "the_image_from_another_registry": (image("whisper", "registry.example.com/sonograph", "mirror.example.com:5000/a/b"), CPU),
    "the_image_of_all_models": (image("whisper", "/whisper:", "/all:"), CPU),
    "an_image_of_another_name": (image("whisper", "/whisper:", "/speech:"), CPU),
    "auto_on_a_gpu": (args("whisper", device="auto"), SMALL_GPUS),
    "auto_on_a_cpu": (args("whisper", device="auto"), CPU),
    "cpu_on_a_cpu": (args("diffusion", device="cpu"), CPU),
    "cuda_on_a_part_of_a_gpu": (args("whisper", device="cuda"), MIG),
    "keys_on_the_volume": (with_keys, CPU),
    "weights_in_the_images": (with_weights_in_the_images, SMALL_GPUS),
    "a_model_of_the_hub_in_a_mirror": (
        lambda m: (
            with_weights_in_the_images(m),
            args("diffusion", model="stabilityai/sd-turbo")(m),
            env("diffusion", "HF_ENDPOINT", "http://hub")(m),
        ),
        CPU,
    ),
    "a_model_of_the_hub_without_policies": (
        lambda m: (
            with_weights_in_the_images(m),
            args("diffusion", model="stabilityai/sd-turbo")(m),
            setattr(m, "beside", [one for one in m.beside if one["kind"] != "NetworkPolicy"]),
        ),
        CPU,
    ),
    "a_model_of_the_hub_past_policies_with_named_ports": (
        lambda m: (
            with_weights_in_the_images(m),
            args("diffusion", model="stabilityai/sd-turbo")(m),
            m.beside.append(OUT_BY_A_NAMED_PORT),
        ),
        CPU,
    ),
    "a_variable_of_ones_own": (env("whisper", "HF_TOKEN", "x"), CPU),
    "a_number_with_a_point": (env("head", "RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S", "135.5"), CPU),
    "a_drain_by_bash": (hook("/bin/bash", "-c", f"exec sonograph drain {FULL_DRAIN}"), CPU),
    "a_drain_with_equal_signs": (drain('"$RAY_ADDRESS" --settle-s=5 --most-s=435 --port=8000'), CPU),
    "a_drain_with_defaults": (drain("${RAY_ADDRESS}"), CPU),
    "a_drain_of_the_whole_path": (hook("sh", "-c", f"/opt/sonograph/bin/sonograph drain {FULL_DRAIN}"), CPU),
    "connections_that_last": (http(keep_alive_timeout_s=90), CPU),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_no_mistake_is_not_named(name: str) -> None:
    breaks, profile = NEAR[name]
    manifests = Manifests(profile)
    breaks(manifests)
    of_policies = ("SG740", "SG746")  # the rendered policies stay as they are, and are then for another port, or for no pod
    assert [str(one) for one in manifests.findings() if one.number not in of_policies] == []


def job(spec: Any) -> Break:
    return lambda m: m.beside.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec})


ODD: dict[str, Break] = {
    "no_groups": lambda m: m.cluster.pop("workerGroupSpecs"),
    "a_node_in_thousandths": lambda m: m.service["metadata"]["annotations"].update(
        {"sonograph/nodes": '[{"name": "a", "count": 1, "cpus": "3900m", "memory_gib": 1, "gpus": {}}]'}
    ),
    "nodes_that_are_no_mappings": lambda m: m.service["metadata"]["annotations"].update({"sonograph/nodes": '["a"]'}),
    "a_tier_in_minutes": lambda m: m.add_env("RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S", "2m"),
    "a_job_without_containers": job({"template": {"spec": {"restartPolicy": "Never"}}}),
    "a_job_without_pods": job({}),
    "a_job_that_is_text": job("x"),
    "steps_as_text": upgraded(stepSizePercent="50%"),
    "options_without_steps": lambda m: m.service["spec"].update(
        upgradeStrategy={
            "type": "NewClusterWithIncrementalUpgrade",
            "clusterUpgradeOptions": {**OPTIONS, "stepSizePercent": None},
        }
    ),
    "no_apps": lambda m: m.config.update(applications=[]),
    "apps_that_are_text": lambda m: m.config.update(applications="x"),
    "an_app_that_is_no_app": lambda m: m.application.update(import_path="os:system"),
    "a_config_of_text": lambda m: setattr(m, "config", "text"),
    "no_http_options": lambda m: m.config.pop("http_options"),
    "a_hook_of_numbers": lambda m: m.container("whisper").update(lifecycle={"preStop": {"exec": {"command": []}}}),
    "a_policy_of_nothing": lambda m: m.beside.append(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": {"podSelector": {}}}
    ),
    "an_empty_service": served(),
    "groups_of_one_name": lambda m: m.cluster["workerGroupSpecs"].append(m.group("whisper")),
    "a_group_of_one_cpu_in_words": lambda m: m.group("whisper")["resources"].update(CPU="many"),
}


@pytest.mark.parametrize("profile", [CPU, ONE_GPU], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ODD)
def test_no_rule_fails_on_what_is_odd(name: str, profile: Profile) -> None:
    manifests = Manifests(profile)
    group = manifests.cluster["workerGroupSpecs"]
    if "whisper" not in {one["groupName"] for one in group}:
        manifests.rename("all", "whisper")
    ODD[name](manifests)
    assert [str(one) for one in manifests.findings() if one.number == "SG003"] == []


def test_a_candidate_has_the_same_rules() -> None:
    manifests = Manifests()
    manifests.split()
    (candidate,) = (one for one in manifests.beside if one["kind"] == "RayService")
    (group,) = (one for one in candidate["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "whisper")
    container = group["template"]["spec"]["containers"][0]
    container["image"] = container["image"].replace("/whisper:", "/diffusion:")
    assert {one.number for one in manifests.findings() if one.severity is ERROR} == {"SG240"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45m", 2700),
        ("1h30m", 5400),
        ("300", 300),
        ("-5m", -300),
        ("1.5h", 5400),
        ("45min", None),
        ("1d", None),
        ("m", None),
        ("", None),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "name",
    [
        "whisper",
        "whisper:1",
        "a.example.com/b/whisper:1",
        "a.example.com:5000/whisper",
        f"a.example.com:5000/b/whisper:1@sha256:{'0' * 64}",
        f"whisper@sha256:{'0' * 64}",
    ],
)
def test_the_name_of_an_image_has_no_registry_nor_tag(name: str) -> None:
    assert repository(name) == "whisper"
