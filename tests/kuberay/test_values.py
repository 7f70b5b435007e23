"""Values of an installation: applied to the profiles, refused where they are wrong, documented."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from deployments.settings import Section
from kuberay import render
from kuberay.images import Images
from kuberay.pod_values import PodValues
from kuberay.profiles import CPU, MIG, ONE_GPU, PROFILES, SMALL_GPUS, SPOT, Profile
from kuberay.values import GroupValues, ModelValues, Values
from kuberay.values_file import applied, printed, read
from sonograph.cli import cli
from testing.manifests import load, load_all

ROOT = Path(__file__).parents[2]


def file(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def service(profile: Profile = CPU, **content: Any) -> dict[str, Any]:
    """Return the RayService that is rendered with these values."""
    document: dict[str, Any] = load(render.manifests(applied(content, profile), Images())["rayservice.yaml"])
    return document


def group(service: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == name)
    return dict(found)


def deployment(service: dict[str, Any], name: str) -> dict[str, Any]:
    (application,) = load(service["spec"]["serveConfigV2"])["applications"]
    (found,) = (one for one in application["deployments"] if one["name"] == name)
    return dict(found)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_without_values_a_profile_is_as_it_is(profile: Profile) -> None:
    assert render.manifests(applied({}, profile), Images()) == render.manifests(profile, Images())


def test_every_object_is_in_the_namespace_and_the_services_have_the_name() -> None:
    texts = render.manifests(applied({"name": "pictures", "namespace": "team-a"}, CPU), Images())
    documents = [one for text in texts.values() for one in load_all(text)]
    assert {one["metadata"]["namespace"] for one in documents} == {"team-a"}
    (found,) = (one for one in documents if one["kind"] == "RayService")
    assert found["metadata"]["name"] == "pictures"
    (application,) = load(found["spec"]["serveConfigV2"])["applications"]
    assert application["name"] == "pictures"
    rules = texts["monitoring.yaml"]
    assert 'job="team-a/pictures"' in rules
    assert 'namespace="team-a"' in rules
    assert "sonograph/sonograph" not in rules
    assert 'application="sonograph"' not in rules


def test_requests_of_cpu_change_neither_rays_cpus_nor_the_threads() -> None:
    found = service(groups={"whisper": {"cpu_request": 0.8}}, head={"cpu_request": 0.5, "memory_gib": 2})
    (container,) = group(found, "whisper")["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "800m", "memory": "3Gi"}
    assert group(found, "whisper")["resources"]["CPU"] == "1"
    (head,) = found["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert head["resources"] == {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}


def test_replicas_and_delays_reach_serve_and_the_group() -> None:
    sizes = {"min_replicas": 2, "max_replicas": 6, "cpus": 3, "upscale_delay_s": 1, "downscale_delay_s": 20}
    found = service(groups={"whisper": {**sizes, "memory_gib": 5}}, idle_timeout_s=30)
    scaling = deployment(found, "whisper")["autoscaling_config"]
    expected = {"min_replicas": 2, "max_replicas": 6, "upscale_delay_s": 1, "downscale_delay_s": 20}
    assert {key: scaling[key] for key in expected} == expected
    pods = group(found, "whisper")
    assert (pods["minReplicas"], pods["maxReplicas"]) == (2, 9)
    (container,) = pods["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "3250m", "memory": "5Gi"}
    assert found["spec"]["rayClusterConfig"]["autoscalerOptions"]["idleTimeoutSeconds"] == 30
    assert "autoscaling_config" in deployment(found, "diffusion")


def test_settings_are_added_to_the_profiles_section_by_section() -> None:
    found = service(settings={"whisper": {"padding": "adaptive"}, "http": {"deadline_s": 60}})
    (application,) = load(found["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["whisper"] == {"model": "tiny.en", "padding": "adaptive"}
    assert found["spec"]["rayClusterDeletionDelaySeconds"] == 150


def test_a_model_that_the_settings_switch_off_has_no_group() -> None:
    found = service(settings={"graphs": ["voice_to_text"]})
    assert [one["groupName"] for one in found["spec"]["rayClusterConfig"]["workerGroupSpecs"]] == ["ingress", "whisper"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"namespce": "a"}, "namespce: there is no such key; did you mean namespace?"),
        ({"zzz": 1}, "zzz: there is no such key, only name, namespace, registry,"),
        (
            {"groups": {"whisper": {"max_replica": 2}}},
            "groups.whisper.max_replica: there is no such key; did you mean max_replicas?",
        ),
        ({"groups": {"wisper": {}}}, "groups.wisper: there is no such group in the profile cpu; did you mean whisper?"),
        ({"groups": {"whisper": {"max_replicas": "many"}}}, "groups.whisper.max_replicas: Input should be a valid integer"),
        ({"groups": {"whisper": {"min_replicas": 9}}}, "groups.whisper: min_replicas is above max_replicas (9 and 2)"),
        ({"head": {"memory": 3}}, "head.memory: there is no such key; did you mean memory_gib?"),
        ({"settings": {"http": {"deadline": 3}}}, "settings.http.deadline: there is no such key; did you mean deadline_s?"),
        ({"name": "Pictures"}, "name: String should match pattern"),
        ({"name": "a" * 38}, "name: String should have at most 37 characters"),
        ({"groups": {"whisper": {"gpu": {"mig_profile": "1g.10gb", "time_slicing_replicas": 2}}}}, "exclude each other"),
        ({"pods": {"tolerations": [{"kye": "a"}]}}, "pods.tolerations.0.kye: there is no such key; did you mean key?"),
        (
            {"pods": {"affinity": {"nodeAfinity": {}}}},
            "pods.affinity.nodeAfinity: there is no such key; did you mean nodeAffinity?",
        ),
        ({"nodes": [{"nam": "a"}]}, "nodes.0.nam: there is no such key; did you mean name?"),
        ({"route": {"gateway_class": "envoy"}}, "route: a rendered Gateway needs hostnames"),
        ({"route": {"hostnames": ["https://a"]}}, "'https://a' is no hostname"),
        ({"upgrade": {"gateway_class": "envoy"}}, "NewClusterWithIncrementalUpgrade and gateway_class need each other"),
        ({"redis": {"address": "http://a"}}, "redis.address: String should match pattern"),
        ({"digests": {"whisper": "sha256:1"}}, "digests.whisper: String should match pattern"),
        ({"quota": {"requests.cpu": "many"}}, "quota.requests.cpu: String should match pattern"),
        ({"upgrade": {"interval_seconds": 9}}, "upgrade: the setting interval_seconds is now upgrade.interval_s"),
        ({"nodes": [{"name": "a", "count": 1, "cpu": 1, "memory_gib": 1}]}, "nodes.0: the setting cpu is now nodes[].cpus"),
        ({"settings": {"tracing": {"kept": 9}}}, "settings.tracing: the setting kept is now tracing.max_traces"),
        ([1], "it has to be a mapping"),
        (0, "it has to be a mapping"),
        ({"weights": {"fetch": {"wisper": ["a"]}}}, "weights.fetch.wisper: there is no such model; did you mean whisper?"),
        ({"digests": {"wisper": f"sha256:{'1' * 64}"}}, "digests.wisper: there is no such image; did you mean whisper?"),
        ({"groups": {"all": {"models": {"wisper": {}}}}}, "groups.all.models.wisper: there is no such model"),
        ({"groups": {"ingress": {"gpu": {"count": 1}}}}, "groups.ingress.gpu: no replica of the group uses a GPU"),
        (
            {"gpu": {"count": 1}, "groups": {"all": {"models": {"whisper": {"gpus": 0.001}}}}},
            "groups.all.models.whisper.gpus: its part of the GPU is below 0.01",
        ),
        ({"redis": {"address": "cache:65536"}}, "redis: address: there is no port 65536"),
        (
            {"redis": {"certificate": True}},
            "redis: username, cidrs and certificate are of a Redis of yours: give its address too",
        ),
        ({"redis": {"secret": "A b"}}, "redis.secret: String should match pattern"),
        ({"weights": {"hub": {"endpoint": "https://a:99999"}}}, "weights.hub.endpoint: Port out of range"),
        ({"registry": "https://a/b"}, "registry: String should match pattern"),
        ({"pods": {"labels": {"team": "a b"}}}, "pods.labels.team: String should match pattern"),
        ({"pods": {"node_selector": {"a b": "c"}}}, "pods.node_selector.a b.[key]: String should match pattern"),
        ({"pods": {"tolerations": [{}]}}, "pods.tolerations.0: without a key the operator has to be Exists"),
        ({"pods": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}}, "Exists takes no value"),
        (
            {"pods": {"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3}]}},
            "tolerationSeconds is for the effect NoExecute alone",
        ),
        (
            {"nodes": [{"name": "a", "count": 1, "cpus": 1, "memory_gib": 1, "gpus": {"b": -1}}]},
            "nodes.0.gpus.b: Input should be",
        ),
        ({"nodes": [{"name": "a", "count": 1, "cpus": float("inf"), "memory_gib": 1}]}, "nodes.0.cpus: Input should be"),
        (
            {"route": {"tls_secret": "a"}},
            "route: tls_secret and annotations are of a rendered Gateway: give its gateway_class too",
        ),
        ({"route": {"gateway": "edge", "hostnames": ["a.b", "a.b"]}}, "route: hostnames: a name stands twice"),
        (
            {"route": {"gateway": "edge", "hostnames": [f"h{n}.a" for n in range(17)]}},
            "route.hostnames: List should have at most 16",
        ),
        ({"settings": {"http": {"deadline_s": float("inf")}}}, "settings.http.deadline_s: Input should be a finite number"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, content: Any, sentence: str) -> None:
    path = file(tmp_path, content)
    result = CliRunner().invoke(cli, ["render", "cpu", "--values", str(path), "--out", str(tmp_path)], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert sentence in " ".join(re.sub("[│╭╰╮╯─]", " ", result.output).split())
    assert not (tmp_path / "cpu").exists()


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read(tmp_path / "missing.yaml")
    (tmp_path / "wrong.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"wrong\.yaml"):
        read(tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: a\nname: b", "the key name stands twice"),
        ("groups: {whisper: {max_replicas: 2}}\ngroups: {ingress: {cpus: 2}}", "the key groups stands twice"),
        ("groups: {whisper: {cpus: 1, cpus: 2}}", "the key cpus stands twice"),
        ("settings: " + "{a: " * 2000 + "}" * 2000, "it is nested too deep"),
        ("settings: &a {http: *a}", "an alias (*) stands in what it names"),
        ("name: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("1: 2", "1: Keys should be strings"),
        (b"name: \xff", "can't decode byte"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_yaml_that_makes_no_values_is_refused_with_a_sentence(text: str | bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(sentence)):
        applied(read(path), CPU)


def test_an_alias_may_stand_beside_what_it_names_and_a_merge_may_be_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("groups: {whisper: &a {cpus: 1, memory_gib: 4}, diffusion: {<<: *a, cpus: 3}}")
    found = service(**read(path))
    assert [group(found, name)["resources"]["CPU"] for name in ("whisper", "diffusion")] == ["1", "3"]


def test_times_are_whole_seconds_where_the_deadline_has_a_part_of_one_or_is_a_text() -> None:
    for deadline_s in (59.5, "59.5"):
        found = service(settings={"http": {"deadline_s": deadline_s}})
        assert found["spec"]["rayClusterDeletionDelaySeconds"] == 150
        termination_s = group(found, "whisper")["template"]["spec"]["terminationGracePeriodSeconds"]
        assert isinstance(termination_s, int)


def test_a_summary_of_several_lines_stays_a_comment() -> None:
    texts = render.manifests(applied({"summary": "one\nkind: two"}, CPU), Images())
    assert texts["rayservice.yaml"].splitlines()[1] == "# cpu: one kind: two."


def test_a_part_may_have_none_of_what_all_pods_have() -> None:
    found = pods(documents(pods=PLACED, redis={"tolerations": [], "affinity": {}}))
    assert not {"tolerations", "affinity"} & set(found["StatefulSet"]["spec"])
    assert {"tolerations", "affinity"} <= set(found["head"]["spec"])


def test_a_shared_group_has_one_number_of_replicas_and_no_cpus_of_its_own() -> None:
    found = service(ONE_GPU, groups={"all": {"max_replicas": 2}})
    assert [deployment(found, name)["autoscaling_config"]["max_replicas"] for name in ("whisper", "diffusion")] == [2, 2]
    with pytest.raises(ValueError, match=r"groups.all.cpus: the group has several models: give all.models.MODEL.cpus"):
        service(ONE_GPU, groups={"all": {"cpus": 4}})


def test_the_parts_of_models_in_a_shared_group_add_up_to_its_gpus() -> None:
    found = service(ONE_GPU, groups={"all": {"models": {"whisper": {"gpus": 0.2, "cpus": 3, "memory_gib": 6}}}})
    options = {name: deployment(found, name)["ray_actor_options"] for name in ("whisper", "diffusion")}
    assert {name: (one["num_cpus"], one["num_gpus"]) for name, one in options.items()} == {
        "whisper": (3, 0.22),
        "diffusion": (2, 0.77),
    }
    assert group(found, "all")["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] == "18Gi"


def test_models_of_any_profile_can_share_the_one_image_of_all() -> None:
    found = service(SMALL_GPUS, groups={"all": {"models": {"whisper": {"gpus": 0.5}}}, "whisper": None, "diffusion": None})
    assert [one["groupName"] for one in found["spec"]["rayClusterConfig"]["workerGroupSpecs"]] == ["ingress", "all"]
    with pytest.raises(ValueError, match=r"groups.whisper.models: only the group all has several models"):
        service(SMALL_GPUS, groups={"whisper": {"models": {"diffusion": {}}}})


def test_null_takes_away_what_the_profile_says() -> None:
    assert (
        "affinity"
        not in group(service(SPOT, groups={"whisper": {"affinity": None}, "diffusion": {}}, pods=None), "whisper")["template"][
            "spec"
        ]
    )
    assert "affinity" in group(service(SPOT), "whisper")["template"]["spec"]


@pytest.mark.parametrize(
    "content", [dict.fromkeys(("name", "zone_spread", "redis", "route")), {"redis": {"secret": None}}], ids=str
)
def test_null_of_what_the_profile_does_not_say_is_no_fault(content: dict[str, Any]) -> None:
    """One file serves several profiles."""
    assert applied(content, CPU).values == CPU.values


def documents(profile: Profile = CPU, **content: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rendered objects by kind and name."""
    texts = render.manifests(applied(content, profile), Images())
    return {(one["kind"], one["metadata"]["name"]): one for text in texts.values() for one in load_all(text)}


def pods(found: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pod templates of rendered objects by their part."""
    (service,) = (one for (kind, _), one in found.items() if kind == "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    parts = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    others = {kind: one["spec"]["template"] for (kind, _), one in found.items() if kind in ("StatefulSet", "Job")}
    return {"head": cluster["headGroupSpec"]["template"], **parts, **others}


PLACED = {
    "node_selector": {"pool": "pictures"},
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "priority_class": "high",
    "runtime_class": "nvidia",
    "annotations": {"sidecar.istio.io/inject": "false"},
    "labels": {"team": "a"},
}


def test_every_pod_has_what_all_pods_have_and_a_part_may_have_otherwise() -> None:
    found = pods(
        documents(
            pods=PLACED, pull_secrets=["registry"], groups={"whisper": {"priority_class": "low", "node_selector": {"zone": "b"}}}
        )
    )
    assert set(found) == {"head", "ingress", "whisper", "diffusion", "StatefulSet", "Job"}
    for part, template in found.items():
        spec = template["spec"]
        selector = {"pool": "pictures", **({"zone": "b"} if part == "whisper" else {})}
        assert spec["nodeSelector"] == selector
        assert spec["priorityClassName"] == ("low" if part == "whisper" else "high")
        assert spec["runtimeClassName"] == "nvidia"
        assert spec["affinity"] == PLACED["affinity"]
        assert spec["tolerations"] == PLACED["tolerations"]
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert template["metadata"]["annotations"] == PLACED["annotations"]
        assert template["metadata"]["labels"].items() >= {"team": "a", "app.kubernetes.io/instance": "sonograph"}.items()


def test_tolerations_stand_beside_those_of_gpus() -> None:
    found = pods(documents(SMALL_GPUS, pods={"tolerations": PLACED["tolerations"]}))
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert found["whisper"]["spec"]["tolerations"] == [gpu, *PLACED["tolerations"]]
    assert found["ingress"]["spec"]["tolerations"] == PLACED["tolerations"]


def test_own_labels_do_not_take_the_place_of_those_that_selectors_need() -> None:
    found = pods(documents(pods={"labels": {"app.kubernetes.io/instance": "mine"}}))
    assert {template["metadata"]["labels"]["app.kubernetes.io/instance"] for template in found.values()} == {"sonograph"}


@pytest.mark.parametrize(
    ("gpu", "limits", "rays"),
    [
        ({"count": 2}, {"nvidia.com/gpu": 2}, "2"),
        ({"resource": "amd.com/gpu"}, {"amd.com/gpu": 1}, "1"),
        ({"mig_profile": "3g.40gb"}, {"nvidia.com/mig-3g.40gb": 1}, "1"),
        ({"time_slicing_replicas": 4}, {"nvidia.com/gpu.shared": 1}, "1"),
        ({"count": 0}, {}, None),
    ],
)
def test_a_groups_gpu(gpu: dict[str, Any], limits: dict[str, int], rays: str | None) -> None:
    found = service(SMALL_GPUS, groups={"whisper": {"gpu": gpu}})
    worker = group(found, "whisper")
    container = worker["template"]["spec"]["containers"][0]
    assert {key: value for key, value in container["resources"]["limits"].items() if key != "memory"} == limits
    assert worker["resources"].get("GPU") == rays
    assert deployment(found, "whisper")["ray_actor_options"].get("num_gpus", 0) == int(rays or 0)
    void = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    assert (void in container["env"]) == (not limits)
    assert group(found, "diffusion")["resources"]["GPU"] == "1"


def test_containers_without_a_gpu_see_none() -> None:
    for profile in PROFILES.values():
        for part, template in pods(documents(profile)).items():
            for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", ())):
                env = {one["name"]: one.get("value") for one in container.get("env", ())}
                asks = any("/" in name for name in container["resources"]["limits"])
                assert part == "StatefulSet" or asks != (env.get("NVIDIA_VISIBLE_DEVICES") == "void"), (
                    profile.name,
                    part,
                    container["name"],
                )


def test_the_layout_of_mig_and_time_slicing_are_for_nvidias_operator_and_apart_from_the_manifests() -> None:
    texts = render.manifests(MIG, Images())
    config = load(load(texts["nvidia/mig-parted.yaml"])["data"]["config.yaml"])
    expected = [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 3, "2g.20gb": 2}}]
    disabled = [{"devices": "all", "mig-enabled": False}]
    assert config == {"version": "v1", "mig-configs": {"all-disabled": disabled, "sonograph-a100": expected}}
    texts = render.manifests(applied({"gpu": {"time_slicing_replicas": 4}}, SMALL_GPUS), Images())
    sharing = load(load(texts["nvidia/time-slicing.yaml"])["data"]["shared"])["sharing"]["timeSlicing"]
    assert sharing == {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}
    assert not [name for name in render.manifests(SMALL_GPUS, Images()) if "/" in name]


def test_a_redis_of_yours() -> None:
    redis = {
        "address": "rediss://cache.example.org:6380",
        "username": "ray",
        "secret": "cache",
        "cidrs": ["10.1.0.0/16"],
        "certificate": True,
    }
    found = documents(redis=redis)
    assert not [name for kind, name in found if kind == "StatefulSet" or (kind, name) == ("NetworkPolicy", "sonograph-redis")]
    cluster = found["RayService", "sonograph"]["spec"]["rayClusterConfig"]
    assert cluster["gcsFaultToleranceOptions"] == {
        "redisAddress": "rediss://cache.example.org:6380",
        "redisUsername": {"value": "ray"},
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "cache", "key": "password"}}},
    }
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert {"name": "RAY_REDIS_CA_CERT", "value": "/etc/redis/ca.crt"} in head["containers"][0]["env"]
    assert head["volumes"] == [
        {"name": "redis-certificate", "secret": {"secretName": "cache", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    ]
    egress = found["NetworkPolicy", "sonograph-ray"]["spec"]["egress"]
    assert {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 6380}]} in egress
    assert "Redis" not in yaml.safe_dump(found["PrometheusRule", "sonograph"]), "no alert on a Redis that is not there"


def test_storage_and_the_hub() -> None:
    hub = {"token_secret": "hf", "endpoint": "https://hub.example.org:8443"}
    found = documents(
        SMALL_GPUS, weights={"storage_class": "nfs", "size_gib": 30, "hub": hub}, redis={"storage_class": "ssd", "size_gib": 2}
    )
    claim = found["PersistentVolumeClaim", "sonograph-weights"]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("nfs", "30Gi")
    (template,) = found["StatefulSet", "sonograph-redis"]["spec"]["volumeClaimTemplates"]
    assert (template["spec"]["storageClassName"], template["spec"]["resources"]["requests"]["storage"]) == ("ssd", "2Gi")
    ((_, job),) = ((name, one) for (kind, name), one in found.items() if kind == "Job")
    for container in job["spec"]["template"]["spec"]["initContainers"]:
        assert {"name": "HF_ENDPOINT", "value": hub["endpoint"]} in container["env"]
        assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}} in container["env"]
    assert {"ports": [{"protocol": "TCP", "port": 8443}]} in found["NetworkPolicy", "sonograph-weights"]["spec"]["egress"]


@pytest.mark.parametrize("fetch", [{}, {"fetch": None}], ids=["filled by the Job", "filled already"])
def test_a_claim_of_yours(fetch: dict[str, Any]) -> None:
    found = documents(weights={"claim": "models", **fetch})
    assert "PersistentVolumeClaim" not in {kind for kind, _ in found}
    spec = pods(found)["whisper"]["spec"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}} in spec["volumes"]
    assert ("Job" in pods(found), "initContainers" in spec) == ((True, True) if not fetch else (False, False))


def test_a_job_that_runs_something_else_is_another_job_and_none_goes_by_itself() -> None:
    """Kubernetes lets no Job change, and what applies manifests again makes a Job again that has gone."""

    def job(images: Images, **content: Any) -> dict[str, Any]:
        text = render.manifests(applied(content, CPU), images)["weights.yaml"]
        (found,) = (one for one in load_all(text) if one["kind"] == "Job")
        return dict(found)

    first, again, other = job(Images()), job(Images(), pods={}), job(Images(digests={"whisper": f"sha256:{'1' * 64}"}))
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert first["metadata"]["name"] != job(Images(), settings={"whisper": {"model": "base"}})["metadata"]["name"]
    assert "ttlSecondsAfterFinished" not in first["spec"]


def test_the_rest_of_the_values() -> None:
    found = documents(
        zone_spread="DoNotSchedule",
        service={"annotations": {"networking.gke.io/neg": "x"}},
        monitoring={"enabled": False},
        network={"api_cidrs": ["10.0.0.1"], "api_ports": [16443]},
        quota={"requests.cpu": "40", "requests.nvidia.com/gpu": "4"},
        upgrade={"strategy": "NewClusterWithIncrementalUpgrade", "gateway_class": "envoy"},
        nodes=[{"name": "mine", "count": 2, "cpus": 8, "memory_gib": 32}],
    )
    spec = found["RayService", "sonograph"]["spec"]
    spread = {one["topologyKey"]: one["whenUnsatisfiable"] for one in pods(found)["ingress"]["spec"]["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname": "ScheduleAnyway", "topology.kubernetes.io/zone": "DoNotSchedule"}
    assert spec["serveService"] == {"metadata": {"annotations": {"networking.gke.io/neg": "x"}}}
    assert not [name for kind, name in found if kind in ("PodMonitor", "PrometheusRule")]
    (rule,) = found["NetworkPolicy", "sonograph-head"]["spec"]["egress"]
    assert rule == {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 16443}]}
    assert found["ResourceQuota", "sonograph"]["spec"] == {"hard": {"requests.cpu": "40", "requests.nvidia.com/gpu": "4"}}
    options = {"gatewayClassName": "envoy", "stepSizePercent": 10, "intervalSeconds": 30, "maxSurgePercent": 100}
    assert spec["upgradeStrategy"] == {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}
    (node,) = load(found["RayService", "sonograph"]["metadata"]["annotations"]["sonograph/nodes"])
    assert (node["name"], node["cpus"]) == ("mine", 8)


def test_two_instances_share_no_name_and_no_pod() -> None:
    """Kubernetes' own selectors of each match only pods of its own, wherever the other is."""
    first, second = documents(), documents(name="other")
    assert not {key for key in first if key in second}
    labels = [template["metadata"]["labels"] for template in pods(second).values()]
    selectors = [one for document in first.values() for one in selecting(document["spec"])]
    assert len(selectors) > 15
    for selector in selectors:
        assert selector.get("app.kubernetes.io/instance") == "sonograph", selector
        assert not any(selector.items() <= of_pod.items() for of_pod in labels)


def selecting(part: Any, key: str = "") -> Iterator[dict[str, str]]:
    """Yield the labels of each selector of pods below `part`; those of namespaces and of nodes aside."""
    if isinstance(part, list):
        for one in part:
            yield from selecting(one, key)
    if isinstance(part, dict):
        if key in ("podSelector", "labelSelector") or (key == "selector" and "matchLabels" in part):
            yield part.get("matchLabels", {})
        elif key == "selector":
            yield part
        for name, one in part.items():
            if name not in ("namespaceSelector", "nodeSelector", "nodeSelectorTerms"):
                yield from selecting(one, name)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_all_values_are_printed_with_their_meaning_and_say_what_the_profile_says(profile: Profile) -> None:
    text = printed(profile)
    assert render.manifests(applied(load(text), profile), Images()) == render.manifests(profile, Images())
    lines = text.splitlines()
    for name, field in Values.model_fields.items():
        (place,) = (number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[place - 1].startswith("# "), name
        assert field.description, name
    assert re.search(r"^    max_replicas: \d+$", text, re.MULTILINE)


def test_the_command_prints_values_and_writes_nothing(tmp_path: Path) -> None:
    path = file(tmp_path, {"name": "pictures"})
    words = ["render", "cpu", "--values", str(path), "--print-values", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0
    assert load(result.output)["name"] == "pictures"
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(cli, ["render", "--print-values"]).exit_code == 2


def test_the_options_registry_precedes_the_files_and_the_header_names_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, {"registry": "registry.internal/a"})
    for options, registry in (([], "registry.internal/a"), (["--registry", "registry.internal/b"], "registry.internal/b")):
        assert CliRunner().invoke(cli, ["render", "cpu", "--values", str(path), "--out", str(tmp_path), *options]).exit_code == 0
        text = (tmp_path / "cpu" / "rayservice.yaml").read_text()
        assert text.startswith("# Rendered by `sonograph render cpu --values my.yaml`")
        assert set(re.findall(r"image: (.*)/ingress:", text)) == {registry}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield each key; those of `pods` once, since head, Redis, weights and groups have the same."""
    placed = set(PodValues.model_fields) if prefix and model is not PodValues else set()
    for name, field in model.model_fields.items():
        if name in placed and issubclass(model, PodValues):
            continue
        if name == "groups":
            yield from keys(GroupValues, "groups.GROUP.")
        elif name == "models":
            yield from keys(ModelValues, "groups.all.models.MODEL.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_each_key_is_documented() -> None:
    table = (ROOT / "docs" / "kubernetes" / "values.md").read_text().split("| value | default | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE) == list(keys(Values))


def test_the_example_of_the_documentation_renders() -> None:
    (example,) = re.findall(r"```yaml\n(# my.yaml\n.*?)```", (ROOT / "docs" / "kubernetes" / "index.md").read_text(), re.DOTALL)
    assert render.manifests(applied(load(example), CPU), Images()) != render.manifests(CPU, Images())
