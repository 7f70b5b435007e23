"""The manifests: rendered from the profiles, current, valid for Kubernetes and KubeRay, and read by Ray as intended."""

import copy
import functools
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from deployments.concurrency import requests_per_replica
from graphs.core import metrics
from graphs.http.schemas.openapi import ERRORS
from graphs.settings import Settings
from kuberay import ray_autoscaler, render
from kuberay.images import Images, Versions, digests, versions
from kuberay.manifest import foreign_metrics
from kuberay.manifest.alerts import alerts
from kuberay.manifest.monitoring import monitoring
from kuberay.manifest.network import network
from kuberay.manifest.rayservice import ray_env, ray_service
from kuberay.manifest.weights import marker
from kuberay.profiles import CPU, PROFILES, Profile
from kuberay.versions import PYTHON, RAY, RELEASE, TAG
from sonograph.cli import cli
from testing.manifests import load, load_all
from testing.promtool import promtool

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared" / "schemas"
KUBERNETES = "1.35"
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


def documents(profile: Profile) -> list[dict[str, Any]]:
    return [one for text in render.manifests(profile, Images()).values() for one in load_all(text)]


def cluster(profile: Profile) -> dict[str, Any]:
    return ray_service(profile, Images())["spec"]["rayClusterConfig"]


def pod_specs(profile: Profile) -> list[dict[str, Any]]:
    templates = [one["spec"]["template"] for one in documents(profile) if "template" in one.get("spec", {})]
    spec = cluster(profile)
    templates += [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    return [template["spec"] for template in templates]


def all_containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@EACH
def test_the_manifests_that_are_checked_in_are_current(profile: Profile) -> None:
    folder = ROOT / "kuberay" / "manifests" / profile.name
    there = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}
    assert there == render.manifests(profile, Images()), f"run `sonograph render {profile.name}`"


def test_every_folder_of_manifests_is_a_profile() -> None:
    assert {path.name for path in (ROOT / "kuberay" / "manifests").iterdir()} == set(PROFILES)


@pytest.mark.parametrize("path", render.shared(), ids=lambda path: path.name)
def test_the_other_rendered_files_are_current(path: Path) -> None:
    assert path.read_text() == render.shared()[path], "run `sonograph render`"


@EACH
def test_kubernetes_own_objects_have_only_fields_that_it_knows(profile: Profile) -> None:
    checked = 0
    for document in documents(profile):
        if "." not in document["apiVersion"] or document["apiVersion"].split("/")[0].endswith("k8s.io"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
            checked += 1
    assert checked == len(documents(profile)) - 3


@EACH
@pytest.mark.slow
def test_the_custom_objects_fit_their_definitions(profile: Profile) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("the CustomResourceDefinitions are not on this machine")
    for document in documents(profile):
        group, version = document["apiVersion"].rpartition("/")[::2]
        name = f"{group}_{document['kind'].lower()}s.yaml"
        if (SCHEMAS / name).is_file():
            errors = [f"{error.json_path}: {error.message}" for error in schema(name, version).iter_errors(document)]
            assert errors == [], document["metadata"]["name"]


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the CustomResourceDefinitions are not on this machine")
def test_the_definitions_find_a_misspelt_field() -> None:
    wrong = ray_service(CPU, Images())
    wrong["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplica"] = 1
    assert list(schema("ray.io_rayservices.yaml", "v1").iter_errors(wrong))


@functools.cache
def schema(name: str, version: str) -> Draft202012Validator:
    definition = load((SCHEMAS / name).read_text())
    (wanted,) = (one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"] if one["name"] == version)
    strict = closed(wanted)
    strict["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(strict)


def closed(schema: Any) -> Any:
    """The schema, which refuses unknown fields as `kubectl apply` does; Kubernetes' own extensions in JSON Schema."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if key != "required"}
    if "required" in schema:  # defaults are filled in before
        properties = schema.get("properties", {})
        made["required"] = [name for name in schema["required"] if "default" not in properties.get(name, {})]
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if (
        "properties" in schema
        and isinstance(schema["properties"], dict)
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        made.setdefault("additionalProperties", False)
    return made


@EACH
def test_ray_reads_a_group_as_the_profile_describes_it(profile: Profile) -> None:
    types = ray_autoscaler.node_types(ray_service(profile, Images()))
    assert list(types) == [ray_autoscaler.HEAD, *(group.name for group in profile.groups)]
    assert types[ray_autoscaler.HEAD].resources["CPU"] == 0
    for group in profile.groups:
        found = types[group.name]
        assert {name: amount for name, amount in found.resources.items() if name != "memory"} == {
            name: int(amount) for name, amount in group.resources.items()
        }
        assert found.resources["memory"] == group.memory_gib << 30
        assert found.labels == {"image": group.name}
        assert (found.min_workers, found.max_workers) == (group.min_pods, group.max_pods)


@pytest.mark.parametrize("part", [{"mig_profile": "1g.10gb"}, {"time_slicing_replicas": 4}], ids=str)
def test_ray_counts_the_part_of_a_gpu_only_where_it_is_stated(part: dict[str, Any]) -> None:
    service = ray_service(CPU.changed({"gpu": {"count": 1, **part}}), Images())
    assert ray_autoscaler.node_types(service)["whisper"].resources["GPU"] == 1
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        group["resources"].pop("GPU", None)
    assert "GPU" not in ray_autoscaler.node_types(service)["whisper"].resources


@EACH
def test_a_pod_runs_without_root_and_without_capabilities(profile: Profile) -> None:
    for pod in pod_specs(profile):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in all_containers(pod):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@EACH
def test_what_is_fetched_from_the_hub_is_a_commit(profile: Profile) -> None:
    commands = [
        container["command"] for spec in pod_specs(profile) for container in all_containers(spec) if "command" in container
    ]
    fetched = [command for command in commands if "hf" in command or "from_pretrained" in " ".join(command)]
    assert len(fetched) == ("sd-turbo" in str(profile.args)), "a fetch in another form has to be found here too"
    for command in fetched:
        remedy = "name a commit with --revision: what a branch holds can change"
        assert re.fullmatch("[0-9a-f]{40}", dict(pairwise(command)).get("--revision", "")), remedy


@EACH
def test_only_the_job_writes_the_weights_and_every_model_that_has_some_reads_them(profile: Profile) -> None:
    reading = set()
    for group in cluster(profile)["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        mounts = container.get("volumeMounts", [])
        assert all(mount["readOnly"] for mount in mounts)
        reading |= set(group["resources"]) if "weights" in {mount["name"] for mount in mounts} else set()
    assert set(profile.values.weights.fetch) <= reading


@EACH
def test_the_pods_of_the_ingress_and_no_others_have_the_secret_of_api_keys_if_there_is_one(profile: Profile) -> None:
    having = set()
    for group in cluster(profile)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        for volume in (one for one in spec.get("volumes", []) if "secret" in one):
            assert volume["secret"] == {"secretName": "sonograph-keys", "optional": True}
            mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
            assert mounts[volume["name"]] == "/etc/sonograph"
            having.add(group["groupName"])
    assert having == {group.name for group in profile.groups if "ingress" in {one.name for one in group.deployments}}


@EACH
def test_the_pods_that_read_the_weights_wait_for_the_marker_that_the_job_writes_last(profile: Profile) -> None:
    (job,) = (one for one in documents(profile) if one["kind"] == "Job")
    (last,) = job["spec"]["template"]["spec"]["containers"]
    assert last["command"][0] == "touch"
    marker = last["command"][1]
    waiting = set()
    for group in cluster(profile)["workerGroupSpecs"]:
        for container in group["template"]["spec"].get("initContainers", []):
            assert f"until [ -e {marker} ]" in container["command"][-1]
            waiting.add(group["groupName"])
    assert waiting == {profile.group_of(model).name for model in profile.values.weights.fetch}


def test_other_weights_have_another_marker() -> None:
    assert marker(CPU.changed({"settings": {"whisper": {"model": "base"}}})) != marker(CPU)


def test_images_that_carry_their_weights_need_neither_volume_nor_job() -> None:
    baked = CPU.changed({"weights": {"size_gib": 0}})
    assert "weights.yaml" not in render.manifests(baked, Images())
    assert "persistentVolumeClaim" not in yaml.safe_dump(ray_service(baked, Images()))


@EACH
def test_a_container_has_rays_variables_as_make_serve_sets_them(profile: Profile) -> None:
    spec = cluster(profile)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        env = {one["name"]: one["value"] for one in group["template"]["spec"]["containers"][0]["env"]}
        assert set(ray_env()) <= set(env)
        # But for one that follows this profile's deadline.
        differing = {name for name, value in ray_env().items() if env[name] != value}
        assert differing <= {"RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S"}


@EACH
def test_autoscaling_aims_above_a_batch_and_below_the_requests_that_a_replica_takes(profile: Profile) -> None:
    for group in profile.groups:
        for deployment in group.deployments:
            # http.max_concurrent_requests, and the requests that an ingress sends to one replica.
            most = 32 if deployment.name == "ingress" else requests_per_replica(deployment.batch)
            assert deployment.batch < deployment.target_ongoing_requests < most


@EACH
def test_autoscaling_knows_how_many_requests_share_a_batch(profile: Profile) -> None:
    settings = Settings.model_validate(profile.args)
    for group in profile.groups:
        for deployment in group.deployments:
            if deployment.name != "ingress":
                assert deployment.batch == getattr(settings, deployment.name).max_batch


@EACH
def test_the_lines_of_requests_go_to_the_standard_output_of_the_pods_container(profile: Profile) -> None:
    (application,) = load(ray_service(profile, Images())["spec"]["serveConfigV2"])["applications"]
    assert Settings.model_validate(application["args"]).logging.output == "/proc/1/fd/1"
    for pod in pod_specs(profile):
        assert not pod.get("shareProcessNamespace"), "process 1 would then be the pod's, not the container's"
        assert pod["securityContext"]["runAsUser"], "process 1 and the replica have one user"


@EACH
@pytest.mark.parametrize("split", [False, True], ids=["one service", "two services"])
def test_each_rule_is_promql_about_metrics_that_exist(profile: Profile, split: bool) -> None:
    groups = monitoring(profile, split)[1]["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    names = {name for metric in metrics.METRICS for name in metric.series}
    names |= {name for exported in foreign_metrics.SOURCES.values() for name in exported}
    names |= {rule["record"] for rule in rules if "record" in rule}
    assert len([rule for rule in rules if "alert" in rule]) == len(alerts(profile, split)) > 15
    for rule in rules:
        selected = selectors(promql_parser.parse(rule["expr"]))
        assert selected
        assert {selector.name for selector in selected} <= names
        for code in [matcher for selector in selected for matcher in selector.matchers.matchers if matcher.name == "code"]:
            assert set(code.value.split("|")) <= {error.code for error in ERRORS}


def selectors(expression: Any) -> list[Any]:
    if hasattr(expression, "matchers"):
        return [expression]
    below = [getattr(expression, name, None) for name in ("expr", "lhs", "rhs", "vector_selector", "vs")]
    below += list(getattr(expression, "args", None) or [])
    return [one for part in below if part is not None for one in selectors(part)]


@EACH
def test_promtool_accepts_the_alerts(profile: Profile, tmp_path: Path) -> None:
    rule = next(one for one in documents(profile) if one["kind"] == "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    succeeds, output = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert succeeds, output


def test_the_network_lets_through_the_traffic_of_ray_probes_metrics_and_clients() -> None:
    policies = {one["metadata"]["name"].removeprefix("sonograph-"): one["spec"] for one in network(CPU)}
    own = {"matchLabels": {"app.kubernetes.io/instance": "sonograph"}}
    assert policies["deny"] == {"podSelector": own, "policyTypes": ["Ingress", "Egress"]}
    assert {port["port"] for port in policies["head"]["ingress"][0]["ports"]} == {8265, 8000}
    outside = [rule for rule in policies["ray"]["ingress"] if "ports" in rule]
    assert [{port["port"] for port in rule["ports"]} for rule in outside] == [{8080, 44217, 44227}, {8000}]
    assert all(
        "ports" in rule
        for policy in policies.values()
        for rule in policy.get("ingress", [])
        if "namespaceSelector" in rule["from"][0]
    )


@EACH
def test_a_worker_is_ready_while_serves_proxy_answers_and_one_slow_answer_does_not_take_it_out(profile: Profile) -> None:
    for group in cluster(profile)["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        probe = container["readinessProbe"]
        assert probe["httpGet"] == {"path": "/-/healthz", "port": "serve"}
        assert "serve" in {port["name"] for port in container["ports"]}
        assert probe["failureThreshold"] > 1
        assert probe["timeoutSeconds"] > 2


@EACH
def test_estimates_are_marked(profile: Profile) -> None:
    service = ray_service(profile, Images())
    uses_a_gpu = any(group.gpu.name for group in profile.groups)
    assert service["metadata"]["annotations"]["sonograph/sizes"] == ("estimate" if uses_a_gpu else "measured")
    for text in render.manifests(profile, Images()).values():
        assert ("ESTIMATES" in text.split("apiVersion")[0]) == uses_a_gpu


def test_digests_come_from_the_builds_metadata(tmp_path: Path) -> None:
    metadata = tmp_path / "images.json"
    digest = f"sha256:{'a' * 64}"
    metadata.write_text(f'{{"buildx.build.warnings": {{}}, "whisper": {{"containerimage.digest": "{digest}"}}}}')
    images = Images("registry.internal/team", digests(metadata))
    assert images["whisper"].endswith(f"@{digest}")
    assert images["whisper"].startswith("registry.internal/team/whisper:")
    assert "@" not in images["diffusion"]
    assert versions(images["whisper"]) == versions(images["diffusion"]) == Versions(RELEASE, RAY, PYTHON)


def test_the_command_renders_for_another_registry_and_touches_nothing_else(tmp_path: Path) -> None:
    metadata, out = tmp_path / "images.json", tmp_path / "cluster"
    metadata.write_text(f'{{"whisper": {{"containerimage.digest": "sha256:{"b" * 64}"}}}}')
    (out / "cpu").mkdir(parents=True)
    (out / "cpu" / "mine.yaml").write_text("kind: Mine\n")
    local = ROOT / "graphs" / "local.yaml"
    before = local.stat().st_mtime_ns
    options = ["--registry", "registry.internal/team", "--digests", str(metadata), "--out", str(out)]
    result = CliRunner().invoke(cli, ["render", "cpu", *options])
    assert result.exit_code == 0, result.output
    text = (out / "cpu" / "rayservice.yaml").read_text()
    assert f"registry.internal/team/whisper:{TAG}@sha256:{'b' * 64}" in text
    assert "registry.example.com" not in text
    assert (out / "cpu" / "mine.yaml").exists()
    assert local.stat().st_mtime_ns == before


def test_an_unknown_profile_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["render", "huge", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "small-gpus" in result.output


def test_rendering_leaves_the_profiles_unchanged() -> None:
    before = copy.deepcopy(PROFILES)
    for profile in PROFILES.values():
        render.manifests(profile, Images())
    assert before == PROFILES
