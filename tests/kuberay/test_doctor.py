"""The doctor: healthy manifests pass, and each fault is found by its own rule and by no other."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kuberay.doctor.examine import rules
from kuberay.doctor.finding import ERROR, WARNING, Severity
from kuberay.manifest.rayservice import DRAIN
from kuberay.profiles import CPU, MIG, ONE_GPU, PROFILES, SMALL_GPUS, Profile
from kuberay.versions import RELEASE
from sonograph.cli import cli
from testing.manifests import Break, Manifests
from tests.kuberay.test_doctor_mistakes import ALL


def older(image: str, part: str, version: str) -> str:
    head, _, tail = image.partition(f"-{part}")
    return f"{head}-{part}{version}{tail[tail.index('-py') if part == 'ray' else tail.index('@') :]}"


def hook(command: str) -> dict[str, object]:
    """A container's fields with this preStop hook."""
    return {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", command]}}}}


@dataclass(frozen=True)
class Case:
    name: str
    rule: str
    broken: Break
    profile: Profile = CPU
    severity: Severity = ERROR
    cluster: str = ""
    """Consequence in a real cluster, where it was tried: tests/kubernetes/test_mistakes.py."""


BROKEN = [
    Case(
        "no_such_resource", "a_resource_is_offered_by_one_group", lambda m: m.options("whisper").update(resources={"wisper": 1})
    ),
    Case(
        "a_resource_that_two_groups_offer",
        "a_resource_is_offered_by_one_group",
        lambda m: m.group("ingress")["resources"].update(whisper="1"),
    ),
    Case(
        "no_such_label",
        "a_label_is_offered_by_one_group",
        lambda m: m.options("whisper").update(label_selector={"image": "base"}),
    ),
    Case(
        "a_label_that_two_groups_have",
        "a_label_is_offered_by_one_group",
        lambda m: m.group("ingress")["labels"].update(image="whisper"),
    ),
    Case(
        "a_label_that_excludes_too_little",
        "a_label_is_offered_by_one_group",
        lambda m: m.options("whisper").update(label_selector={"image": "!in(diffusion)"}),
    ),
    Case(
        "pins_that_contradict",
        "both_pins_name_one_group",
        lambda m: m.options("whisper").update(label_selector={"image": "diffusion"}),
    ),
    Case("no_resource", "a_deployment_is_pinned_twice", lambda m: m.options("whisper").pop("resources")),
    Case("no_label", "a_deployment_is_pinned_twice", lambda m: m.options("whisper").pop("label_selector")),
    Case("a_deployment_left_out", "a_deployment_is_pinned_twice", lambda m: m.application["deployments"].pop(0)),
    Case("too_many_cpus", "a_replica_fits_one_pod", lambda m: m.options("whisper").update(num_cpus=8)),
    Case("too_many_gpus", "a_replica_fits_one_pod", lambda m: m.options("whisper").update(num_gpus=2), profile=SMALL_GPUS),
    Case("a_gpu_where_there_is_none", "a_replica_fits_one_pod", lambda m: m.options("whisper").update(num_gpus=1)),
    Case("more_replicas_than_pods", "replicas_fit_max_replicas", lambda m: m.scaling("whisper").update(max_replicas=9)),
    Case("too_few_pods", "replicas_fit_max_replicas", lambda m: m.group("whisper").update(maxReplicas=1)),
    Case(
        "no_pod_for_the_surge",
        "replicas_fit_max_replicas",
        lambda m: m.deployment("whisper").update(max_surge_percent=100),
        profile=ONE_GPU,
    ),
    Case(
        "a_gpu_that_no_deployment_requests",
        "a_pods_gpu_is_requested",
        lambda m: m.options("whisper").pop("num_gpus"),
        profile=SMALL_GPUS,
    ),
    Case(
        "cpus_that_no_deployment_requests",
        "a_pods_cpus_are_requested",
        lambda m: m.options("diffusion").pop("num_cpus"),
        severity=WARNING,
    ),
    Case(
        "more_decoders_than_cpus",
        "each_decoder_has_a_cpu",
        lambda m: m.application["args"]["audio"].update(decode_workers=4),
        severity=WARNING,
    ),
    Case(
        "gpus_that_are_not_there",
        "ray_counts_no_more_gpus_than_a_pod_has",
        lambda m: m.group("all")["resources"].update(GPU="2"),
        ONE_GPU,
    ),
    Case("a_head_that_requests_no_cpu", "a_pod_requests_the_cpus_it_uses", lambda m: m.requests("head").pop("cpu")),
    Case(
        "a_group_that_selectors_miss",
        "a_selector_names_a_group_that_there_is",
        lambda m: m.group("whisper").update(groupName="speech"),
    ),
    Case(
        "another_release",
        "the_code_is_one_release",
        lambda m: m.container("head").update(image=m.container("head")["image"].replace(RELEASE, "0.0.9")),
    ),
    Case("a_group_without_end", "replicas_are_in_order", lambda m: m.group("whisper").pop("maxReplicas"), severity=WARNING),
    Case(
        "weights_that_no_model_uses",
        "the_job_fetches_the_models",
        lambda m: m.application["args"]["diffusion"].pop("model"),
        SMALL_GPUS,
    ),
    Case("a_gpu_unstated", "a_gpu_that_is_shared_is_stated", lambda m: m.group("whisper")["resources"].pop("GPU"), profile=MIG),
    Case("a_name_in_gpu", "a_custom_name_does_not_end_in_gpu", lambda m: m.group("whisper")["resources"].update(fast_GPU="1")),
    Case("a_head_that_works", "the_head_takes_no_work", lambda m: m.head.update(resources={"CPU": "2"})),
    Case("a_head_without_resources", "the_head_takes_no_work", lambda m: m.head.pop("resources")),
    Case("requests_to_the_head", "the_head_takes_no_work", lambda m: m.service["spec"].pop("excludeHeadPodFromServeSvc")),
    Case(
        "one_cpu_requested_and_thirteen_used",
        "a_pod_requests_the_cpus_it_uses",
        lambda m: (m.options("whisper").update(num_cpus=13), m.group("whisper")["resources"].update(CPU="13")),
    ),
    Case(
        "a_memory_request_below_its_limit", "memory_and_gpus_are_limits_too", lambda m: m.requests("whisper").update(memory="1Gi")
    ),
    Case(
        "a_gpu_without_limit",
        "memory_and_gpus_are_limits_too",
        lambda m: m.container("whisper")["resources"]["limits"].pop("nvidia.com/gpu"),
        profile=SMALL_GPUS,
    ),
    Case("a_pod_that_is_too_large", "the_pods_that_start_fit_the_nodes", lambda m: m.requests("whisper").update(cpu="5")),
    Case(
        "more_pods_than_nodes_hold",
        "the_pods_that_start_fit_the_nodes",
        lambda m: m.group("all").update(minReplicas=2, maxReplicas=2),
        profile=ONE_GPU,
    ),
    Case(
        "no_nodes_for_a_second_cluster",
        "the_pods_that_start_fit_the_nodes",
        lambda m: m.service["spec"].update(upgradeStrategy={"type": "NewCluster"}),
        ONE_GPU,
        severity=WARNING,
    ),
    Case(
        "no_nodes",
        "the_pods_that_start_fit_the_nodes",
        lambda m: m.service["metadata"]["annotations"].pop("sonograph/nodes"),
        severity=WARNING,
    ),
    Case("another_ray_in_the_manifest", "ray_is_one_version", lambda m: m.cluster.update(rayVersion="2.59.0")),
    Case(
        "another_ray_in_an_image",
        "ray_is_one_version",
        lambda m: m.container("whisper").update(image=older(m.container("whisper")["image"], "ray", "2.59.0")),
    ),
    Case(
        "another_python_in_an_image",
        "python_is_one_version",
        lambda m: m.container("head").update(image=older(m.container("head")["image"], "py", "3.12.1")),
    ),
    Case(
        "a_tag_without_versions",
        "python_is_one_version",
        lambda m: m.container("head").update(image=f"sonograph:latest@sha256:{'0' * 64}"),
    ),
    Case(
        "no_digest",
        "an_image_has_a_digest",
        lambda m: m.container("head").update(image=m.container("head")["image"].split("@")[0]),
        severity=WARNING,
    ),
    Case(
        "a_slot_that_is_no_number", "every_amount_is_a_quantity", lambda m: m.group("whisper")["resources"].update(whisper="many")
    ),
    Case("memory_that_is_no_number", "the_api_server_takes_an_object", lambda m: m.requests("whisper").update(memory="lots")),
    Case(
        "a_pin_that_is_no_number", "serve_accepts_the_config", lambda m: m.options("whisper").update(resources={"whisper": "one"})
    ),
    Case("a_pin_of_nothing", "a_deployment_is_pinned_twice", lambda m: m.options("whisper").update(resources={"whisper": 0})),
    Case("scaling_that_serve_refuses", "serve_accepts_the_config", lambda m: m.scaling("whisper").update(max_replicas="many")),
    Case(
        "automatic_replicas",
        "replicas_fit_max_replicas",
        lambda m: (m.deployment("whisper").pop("autoscaling_config"), m.deployment("whisper").update(num_replicas="auto")),
    ),
    Case("a_misspelt_option", "no_key_is_unknown", lambda m: m.options("whisper").update(num_cpu=1)),
    Case("a_misspelt_key_at_the_top", "no_key_is_unknown", lambda m: m.config.update(http_option={})),
    Case("a_misspelt_scaling", "no_key_is_unknown", lambda m: m.scaling("whisper").update(max_replica=3)),
    Case(
        "a_value_that_serve_refuses", "serve_accepts_the_config", lambda m: m.deployment("whisper").update(max_ongoing_requests=0)
    ),
    Case("no_yaml", "serve_accepts_the_config", lambda m: setattr(m, "config", "applications: [")),
    Case(
        "no_such_deployment",
        "the_app_has_these_deployments",
        lambda m: m.application["deployments"].append(
            {**m.deployment("ingress"), "name": "wisper", "ray_actor_options": m.options("ingress") | {"num_cpus": 0}}
        ),
    ),
    Case("no_such_app", "the_app_can_be_imported", lambda m: m.application.update(import_path="graphs.nothing:app")),
    Case(
        "an_app_that_loads_a_model_library",
        "the_app_loads_no_model_library",
        lambda m: m.application.update(import_path="testing.heavy_app:app"),
    ),
    Case("args_that_are_refused", "the_settings_accept_the_args", lambda m: m.application["args"].update(diffusion={"steps": 0})),
    Case(
        "args_that_are_unknown",
        "the_settings_accept_the_args",
        lambda m: m.application["args"].update(whisper={"model": "tiny.en", "modle": 1}),
    ),
    Case(
        "a_secret_in_the_open",
        "no_secret_is_in_a_runtime_env",
        lambda m: m.application.update(runtime_env={"env_vars": {"HF_TOKEN": "hf_1"}}),
    ),
    Case(
        "weights_that_no_job_fetches",
        "the_job_fetches_the_models",
        lambda m: m.application["args"].update(whisper={"model": "base"}),
    ),
    Case("no_wait_for_the_weights", "a_pod_waits_for_the_job", lambda m: m.pod("whisper").pop("initContainers")),
    Case(
        "a_wait_for_other_weights",
        "a_pod_waits_for_the_job",
        lambda m: m.pod("whisper")["initContainers"][0].update(command=["sh", "-c", "until [ -e /other ]; do sleep 2; done"]),
    ),
    Case("a_deadline_too_long", "each_wait_outlasts_the_next", lambda m: m.application["args"].update(http={"deadline_s": 600})),
    Case(
        "a_stop_too_short",
        "each_wait_outlasts_the_next",
        lambda m: m.deployment("whisper").update(graceful_shutdown_timeout_s=60),
    ),
    Case(
        "a_stop_as_the_code_has_it",
        "each_wait_outlasts_the_next",
        lambda m: m.deployment("whisper").pop("graceful_shutdown_timeout_s"),
    ),
    Case("a_proxy_too_short", "each_wait_outlasts_the_next", lambda m: m.config["http_options"].update(request_timeout_s=100)),
    Case("a_grace_too_short", "each_wait_outlasts_the_next", lambda m: m.pod("ingress").update(terminationGracePeriodSeconds=30)),
    Case(
        "a_drain_too_short",
        "each_wait_outlasts_the_next",
        lambda m: m.container("ingress").update(hook("sonograph drain $RAY_ADDRESS --most-s 60")),
    ),
    Case(
        "rays_own_drain_too_short",
        "each_wait_outlasts_the_next",
        lambda m: m.container("ingress").update(lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
    ),
    Case(
        "a_drain_of_ray's_own_length_after_the_hook",
        "each_wait_outlasts_the_next",
        lambda m: m.remove_env("ingress", DRAIN),
    ),
    Case(
        "a_head_that_drains_until_it_is_killed",
        "each_wait_outlasts_the_next",
        lambda m: m.remove_env("head", DRAIN),
    ),
    Case(
        "a_hook_too_long",
        "each_wait_outlasts_the_next",
        lambda m: m.container("ingress").update(hook("sonograph drain $RAY_ADDRESS --settle-s 60")),
    ),
    Case(
        "a_cluster_gone_too_soon",
        "each_wait_outlasts_the_next",
        lambda m: m.service["spec"].pop("rayClusterDeletionDelaySeconds"),
    ),
    Case("a_tier_too_short", "each_wait_outlasts_the_next", lambda m: m.add_env("RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S", "60")),
    Case("no_hook", "a_pod_settles_before_it_drains", lambda m: m.container("ingress").pop("lifecycle")),
    Case(
        "a_hook_that_does_not_wait",
        "a_pod_settles_before_it_drains",
        lambda m: m.container("ingress").update(lifecycle={"preStop": {"exec": {"command": ["true"]}}}),
    ),
    Case(
        "plain_json",
        "ray_start_params_survive_every_parser",
        lambda m: (
            m.group("whisper").pop("resources"),
            m.group("whisper").update(rayStartParams={"resources": '{"whisper": 1}'}),
        ),
    ),
    Case(
        "the_documented_quoting",
        "ray_start_params_survive_every_parser",
        lambda m: (
            m.group("whisper").pop("resources"),
            m.group("whisper").update(rayStartParams={"resources": '"{\\"whisper\\": 1}"'}),
        ),
    ),
    Case(
        "resources_twice",
        "a_group_says_its_resources_once",
        lambda m: m.group("whisper").update(rayStartParams={"num-cpus": "1"}),
        cluster="operator: resource fields should not be set in both rayStartParams and Resources",
    ),
    Case("a_group_with_an_underscore", "a_name_is_a_dns_label", lambda m: m.rename("whisper", "whisper_small")),
    Case("a_service_with_a_capital", "a_name_is_a_dns_label", lambda m: m.service["metadata"].update(name="Sonograph")),
    Case(
        "a_service_with_a_long_name",
        "a_name_is_a_dns_label",
        lambda m: m.service["metadata"].update(name="s" * 48),
        cluster="operator: RayService name should be no more than 47 characters",
    ),
    Case(
        "labels_among_the_parameters",
        "a_label_is_well_formed",
        lambda m: m.group("whisper").update(rayStartParams={"labels": "a=b"}),
        cluster="operator: rayStartParams['labels'] is not supported",
    ),
    Case(
        "replicas_beside_the_autoscaler",
        "replicas_are_in_order",
        lambda m: m.group("whisper").update(replicas=1),
        severity=WARNING,
    ),
    Case(
        "more_at_least_than_at_most",
        "replicas_are_in_order",
        lambda m: m.group("whisper").update(minReplicas=4),
        cluster="operator: has minReplicas 4 greater than maxReplicas 3",
    ),
    Case(
        "a_group_suspended",
        "replicas_are_in_order",
        lambda m: m.group("whisper").update(suspend=True),
        cluster="operator: cannot be suspended with Autoscaler enabled",
    ),
    Case("no_autoscaler", "the_autoscaler_is_v2", lambda m: m.cluster.pop("enableInTreeAutoscaling")),
    Case("the_old_autoscaler", "the_autoscaler_is_v2", lambda m: m.cluster["autoscalerOptions"].pop("version")),
    Case(
        "the_autoscaler_twice",
        "the_autoscaler_is_v2",
        lambda m: m.add_env("RAY_enable_autoscaler_v2", "1"),
        cluster="operator: both .spec.autoscalerOptions.version and head Pod env var",
    ),
    Case(
        "a_pod_that_restarts",
        "the_autoscaler_is_v2",
        lambda m: m.pod("whisper").update(restartPolicy="Always"),
        cluster="operator: restartPolicy for worker group whisper should be Never or unset",
    ),
    Case(
        "a_negative_idle_time",
        "the_autoscaler_is_v2",
        lambda m: m.group("whisper").update(idleTimeoutSeconds=-1),
        cluster="operator: worker group whisper: idleTimeoutSeconds must be non-negative",
    ),
    Case("redis_twice", "redis_is_named_once", lambda m: m.add_env("RAY_REDIS_ADDRESS", "r")),
    Case("redis_nowhere", "redis_is_named_once", lambda m: m.cluster["gcsFaultToleranceOptions"].pop("redisAddress")),
    Case(
        "redis_shared",
        "redis_is_named_once",
        lambda m: m.cluster["gcsFaultToleranceOptions"].update(externalStorageNamespace="x"),
    ),
    Case("rocksdb", "redis_is_named_once", lambda m: m.cluster.update(gcsFaultToleranceOptions={"backend": "rocksdb"})),
    Case("no_fault_tolerance", "redis_is_named_once", lambda m: m.cluster.pop("gcsFaultToleranceOptions"), severity=WARNING),
    Case(
        "kubernetes_tokens",
        "tokens_are_required",
        lambda m: m.cluster["authOptions"].update(enableK8sTokenAuth=True),
        cluster="operator: K8s token auth mode is currently not supported for RayService",
    ),
    Case("no_tokens", "tokens_are_required", lambda m: m.cluster.pop("authOptions"), severity=WARNING),
    Case(
        "an_unknown_upgrade",
        "an_upgrade_is_one_that_kuberay_knows",
        lambda m: m.service["spec"].update(upgradeStrategy={"type": "Rolling"}),
        cluster="operator: Spec.UpgradeStrategy.Type value Rolling is invalid",
    ),
    Case(
        "half_an_upgrade",
        "an_upgrade_is_one_that_kuberay_knows",
        lambda m: m.service["spec"].update(
            upgradeStrategy={"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": {"gatewayClassName": "g"}}
        ),
    ),
    Case(
        "an_upgrade_of_the_cluster",
        "an_upgrade_is_one_that_kuberay_knows",
        lambda m: m.cluster.update(upgradeStrategy={"type": "Recreate"}),
        cluster="operator: upgradeStrategy cannot be set when RayCluster is created by RayService",
    ),
    Case(
        "a_head_service_with_a_name",
        "the_head_service_has_no_name",
        lambda m: m.head.update(headService={"metadata": {"name": "x"}}),
        cluster="operator: headService.metadata.name should not be set",
    ),
    Case(
        "a_backend_that_no_service_has",
        "a_route_leads_to_services_that_there_are",
        lambda m: m.split()["backendRefs"][1].update(name="sonograph-next-serve-svc"),
    ),
    Case(
        "a_backend_of_another_port",
        "a_route_leads_to_services_that_there_are",
        lambda m: m.split()["backendRefs"][0].update(port=8265),
    ),
    Case(
        "a_backend_with_random_names",
        "a_route_leads_to_services_that_there_are",
        lambda m: (
            m.split(),
            m.service["spec"].update(
                upgradeStrategy={
                    "type": "NewClusterWithIncrementalUpgrade",
                    "clusterUpgradeOptions": {"gatewayClassName": "g", "stepSizePercent": 10, "intervalSeconds": 60},
                }
            ),
        ),
    ),
    Case(
        "a_collector_that_no_policy_lets_through",
        "traces_reach_their_collector",
        lambda m: m.application["args"].update(tracing={"endpoint": "http://collector:4318"}),
        severity=WARNING,
    ),
    Case("a_share_in_words", "the_api_server_takes_an_object", lambda m: m.split()["backendRefs"][1].update(weight="a fifth")),
    Case("shares_above_100", "shares_add_up_to_100", lambda m: m.split()["backendRefs"][1].update(weight=30)),
    Case("no_shares", "shares_add_up_to_100", lambda m: [backend.pop("weight") for backend in m.split()["backendRefs"]]),
    Case("a_route_too_short", "a_route_outlasts_the_deadline", lambda m: m.split().update(timeouts={"request": "1m30s500ms"})),
    Case("a_backend_too_short", "a_route_outlasts_the_deadline", lambda m: m.split()["timeouts"].update(backendRequest="120s")),
    Case("a_route_without_timeout", "a_route_outlasts_the_deadline", lambda m: m.split().pop("timeouts")),
    Case("a_timeout_that_is_none", "a_route_outlasts_the_deadline", lambda m: m.split()["timeouts"].update(request="2 min")),
    Case("a_route_of_everything", "a_route_leaves_out_what_is_private", lambda m: m.split().pop("matches"), severity=WARNING),
    Case(
        "a_route_of_a_graph_and_all_below_it",
        "a_route_leaves_out_what_is_private",
        lambda m: m.split()["matches"].append({"path": {"type": "PathPrefix", "value": "/graph"}}),
        severity=WARNING,
    ),
    Case(
        "a_route_of_a_pattern",
        "a_route_leaves_out_what_is_private",
        lambda m: m.split()["matches"].extend(
            {"path": {"type": "RegularExpression", "value": value}} for value in ("/gr.*", "/page[")
        ),
        severity=WARNING,
    ),
    Case("a_route_to_nobody", "a_route_leads_to_services_that_there_are", lambda m: m.split().update(backendRefs=[])),
    Case(
        "a_route_that_tries_again",
        "a_route_sends_no_request_twice",
        lambda m: m.split().update(retry={"attempts": 2, "codes": [503]}),
        severity=WARNING,
    ),
    Case(
        "a_gateway_without_certificate",
        "a_listener_with_tls_has_a_certificate",
        lambda m: m.gateway()["listeners"][1].pop("tls"),
    ),
    Case("no_nodes_for_the_candidate", "the_pods_that_start_fit_the_nodes", lambda m: m.split(), profile=ONE_GPU),
    Case("a_gated_field", "a_gated_field_is_left_out", lambda m: m.cluster.update(networkPolicy={"mode": "DenyAll"})),
]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_rendered_manifests_are_healthy(profile: Profile) -> None:
    assert [str(finding) for finding in Manifests(profile).findings()] == []


@pytest.mark.parametrize("profile", [CPU, SMALL_GPUS, MIG], ids=lambda profile: profile.name)
def test_a_split_service_is_healthy(profile: Profile) -> None:
    manifests = Manifests(profile)
    manifests.split()
    assert [str(finding) for finding in manifests.findings()] == []


@pytest.mark.parametrize("timeout", ["0s", "2m1s", "1h", "120s1ms"])
def test_a_route_may_wait_longer_than_the_deadline_or_for_ever(timeout: str) -> None:
    manifests = Manifests()
    manifests.split().update(timeouts={"request": timeout})
    assert manifests.findings() == []


def test_a_fault_beside_two_services_is_found_once(tmp_path: Path) -> None:
    manifests = Manifests()
    manifests.split()["backendRefs"][1].update(weight=30)
    result = run(manifests.write(tmp_path / "cpu"))
    assert result.stdout.count("make them add up to 100") == 1
    assert "80 + 30 is 110" in result.stdout


def test_a_candidate_that_is_broken_itself_does_not_hide_the_others_faults() -> None:
    manifests = Manifests(ONE_GPU)
    manifests.split()
    (candidate,) = (one for one in manifests.beside if one["kind"] == "RayService")
    candidate["spec"]["rayClusterConfig"]["autoscalerOptions"]["resources"]["requests"]["cpu"] = "many"
    manifests.service["spec"]["excludeHeadPodFromServeSvc"] = False
    assert [one.number for one in manifests.findings()] == ["SG011", "SG312"]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_broken_manifest_triggers_its_rule_and_no_other(case: Case) -> None:
    manifests = Manifests(case.profile)
    case.broken(manifests)
    found = manifests.findings()
    beside = {finding.rule for finding in found} - {case.rule}
    assert case.rule in {finding.rule for finding in found}, [str(finding) for finding in found]
    assert beside <= {"the_api_server_takes_an_object"}, [str(finding) for finding in found]
    assert all(finding.severity is case.severity for finding in found if finding.rule == case.rule)
    for finding in found:
        assert finding.field
        assert len(finding.sentence.split()) >= 3
        assert str(finding).startswith(f"{finding.severity}: rayservice.yaml: ")


def test_every_rule_has_a_manifest_that_it_finds_broken() -> None:
    of_cases = {case.rule for case in BROKEN}
    of_mistakes = {one.rule for one in ALL}
    assert [rule.number for rule in rules() if rule.name not in of_cases and rule.number not in of_mistakes] == []


def test_a_manifest_of_another_shape_is_found_with_its_field() -> None:
    manifests = Manifests()
    manifests.group("whisper")["minReplicas"] = "many"
    (finding,) = manifests.findings()
    assert finding.field == "spec.rayClusterConfig.workerGroupSpecs[1].minReplicas"


def test_a_healthy_folder_exits_with_status_0(tmp_path: Path) -> None:
    result = run(Manifests().write(tmp_path / "cpu"))
    assert (result.exit_code, result.stdout) == (0, "No errors, no warnings, no notes.\n")


def test_an_error_ends_with_status_1_and_names_file_and_field(tmp_path: Path) -> None:
    manifests = Manifests()
    manifests.options("whisper")["resources"] = {"wisper": 1}
    result = run(manifests.write(tmp_path / "cpu"))
    assert result.exit_code == 1
    first, remedy, last = result.stdout.splitlines()
    file, line, field, *_ = first.removeprefix("error: ").split(":")
    assert (file, field) == (f"{tmp_path}/cpu/all.yaml", " spec.serveConfigV2")
    assert "serveConfigV2" in Path(file).read_text().splitlines()[int(line) - 1]
    assert " applications[0].deployments[1].ray_actor_options.resources: " in first
    assert "wisper, which no worker group offers" in first
    assert remedy.startswith("  ")
    assert last == "1 error, no warnings, no notes."


def test_a_folder_without_a_ray_service_is_no_healthy_one(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "no RayService" in result.stderr


def test_a_file_that_is_no_yaml_is_found(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("kind: [")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "cannot be read" in result.stdout


def run(path: Path) -> Result:
    return CliRunner().invoke(cli, ["doctor", str(path)])
