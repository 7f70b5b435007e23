"""`sonograph doctor --live`: what KubeRay has not applied of a running RayService, and the command that does."""

import copy
import json
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kuberay.doctor.cluster import SERVE, Live, LiveService
from kuberay.doctor.finding import ERROR, WARNING, Finding
from kuberay.doctor.live import BOUNDS, diagnose
from kuberay.profiles import CPU, ONE_GPU, PROFILES, Profile
from sonograph.cli import cli
from testing.json_patch import merged, patched
from testing.manifests import Manifests, load

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
ACTIVE, PENDING = "sonograph-aaaaa", "sonograph-bbbbb"
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
OTHER = {"key": "spot", "operator": "Equal", "value": "true"}
READY = {"type": "Ready", "status": "True", "reason": "NonZeroServeEndpoints", "message": "Number of serve endpoints is above 0"}
KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> calls
if [ -f "$1.error" ]; then cat "$1.error" >&2; exit 1; fi
cat "$1.json"
"""


class Cluster:
    """A RayService and its RayClusters, which begin with its spec, as KubeRay makes them; tests change both."""

    def __init__(self, profile: Profile = CPU) -> None:
        self.manifests = Manifests(profile)
        self.service: dict[str, Any] = self.manifests.service
        for group in self.service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
            group["replicas"] = 0  # the CustomResourceDefinition's default
        self.service["metadata"]["generation"] = 3
        self.service["status"] = {
            "observedGeneration": 3,
            "conditions": [READY, {"type": "UpgradeInProgress", "status": "False", "reason": "NoPendingCluster", "message": ""}],
            "activeServiceStatus": {"rayClusterName": ACTIVE, "applicationStatuses": {"sonograph": {"status": "RUNNING"}}},
            "pendingServiceStatus": {},
        }
        self.clusters = {ACTIVE: self.new()}
        self.serve: dict[str, Any] | None = {
            "http_options": {**self.manifests.config["http_options"], "request_timeout_s": 180.0, "keep_alive_timeout_s": 90},
            "proxy_location": "EveryNode",
        }

    def new(self) -> dict[str, Any]:
        """A RayCluster's spec, in which the autoscaler has set what is its own."""
        spec: dict[str, Any] = copy.deepcopy(self.service["spec"]["rayClusterConfig"])
        for group in spec["workerGroupSpecs"]:
            group["replicas"], group["scaleStrategy"] = 2, {"workersToDelete": ["pod"]}
        return spec

    def upgrade(self) -> None:
        self.clusters[PENDING] = self.new()
        self.service["status"]["pendingServiceStatus"] = {"rayClusterName": PENDING}
        change = {"type": "UpgradeInProgress", "status": "True", "reason": "BothActivePendingClustersExist", "message": "Both."}
        self.service["status"]["conditions"] = [READY, change]

    def live(self) -> Live:
        self.manifests.documents()
        service = LiveService.model_validate(self.service)
        return Live(service, self.clusters, ("kubectl", "-n", "sonograph"), self.serve, "" if self.serve else "it is forbidden")

    def findings(self) -> list[Finding]:
        return diagnose(self.live())

    def finding(self) -> Finding:
        (finding,) = self.findings()
        return finding

    def run(self, command: str) -> None:
        """Apply a printed patch."""
        kubectl, space, name, verb, kind, target, how, _, text = shlex.split(command)
        assert (kubectl, space, name, verb) == ("kubectl", "-n", "sonograph", "patch")
        if kind == "raycluster":
            assert how == "--type=json"
            self.clusters[target] = patched({"spec": self.clusters[target]}, json.loads(text))["spec"]
        else:
            assert (kind, target, how) == ("rayservice", "sonograph", "--type=merge")
            self.manifests.service = self.service = merged(self.service, json.loads(text))

    def group(self, cluster: str, name: str) -> dict[str, Any]:
        return next(group for group in self.clusters[cluster]["workerGroupSpecs"] if group["groupName"] == name)

    def write(self, folder: Path) -> None:
        """Write what the stand-in for kubectl prints."""
        self.manifests.documents()
        head = {"status": {"head": {"podName": f"{ACTIVE}-head"}}}
        clusters = [
            {"kind": "RayCluster", "metadata": {"name": name}, "spec": spec, **head} for name, spec in self.clusters.items()
        ]
        (folder / "get.json").write_text(json.dumps({"kind": "List", "items": [*clusters, self.service]}))
        (folder / "exec.json").write_text(json.dumps(self.serve))


def pod(group: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = group["template"]["spec"]
    return spec


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_service_that_runs_as_its_manifest_says_has_no_finding(profile: Profile) -> None:
    assert Cluster(profile).findings() == []


@pytest.mark.parametrize("changes", [{"maxReplicas": 6}, {"minReplicas": 2}, {"minReplicas": 5, "maxReplicas": 6}], ids=str)
def test_a_groups_other_bounds_are_named_and_the_command_applies_them_and_nothing_else(changes: dict[str, int]) -> None:
    cluster = Cluster()
    before = copy.deepcopy(cluster.clusters[ACTIVE])
    cluster.manifests.group("whisper").update(changes)
    finding = cluster.finding()
    assert (finding.rule, finding.severity) == ("a_group_has_its_bounds", ERROR)
    assert str(finding).startswith("error: rayservice/sonograph: spec.rayClusterConfig.workerGroupSpecs[1].")
    for name, value in changes.items():
        assert f"{name} {cluster.group(ACTIVE, 'whisper')[name]}, not {value}" in finding.sentence
    (command,) = finding.commands
    cluster.run(command)
    assert cluster.findings() == []
    before["workerGroupSpecs"][1].update(changes)
    assert cluster.clusters[ACTIVE] == before


def test_a_groups_command_has_its_number_in_the_raycluster_and_no_other_group_takes_it() -> None:
    cluster = Cluster()
    cluster.clusters[ACTIVE]["workerGroupSpecs"].reverse()
    cluster.manifests.group("ingress")["maxReplicas"] = 9
    (command,) = cluster.finding().commands
    assert "/spec/workerGroupSpecs/2/maxReplicas" in command
    del cluster.clusters[ACTIVE]["workerGroupSpecs"][0]
    cluster.clusters[ACTIVE]["workerGroupSpecs"].append({"groupName": "another", "maxReplicas": 1})
    with pytest.raises(AssertionError, match="groupName"):
        cluster.run(command)


@pytest.mark.parametrize(
    ("name", "value"), [("tolerations", TOLERATION), ("schedulingGates", {"name": "quota"})], ids=["tolerations", "gates"]
)
@pytest.mark.parametrize("group", ["whisper", "headgroup"])
def test_what_the_pods_of_a_group_lack_is_named_and_the_commands_apply_it(group: str, name: str, value: dict[str, str]) -> None:
    cluster = Cluster()
    wanted = cluster.manifests.head if group == "headgroup" else cluster.manifests.group(group)
    pod(wanted)[name] = [*pod(wanted).get(name, []), value]
    finding = cluster.finding()
    assert finding.severity is ERROR
    assert finding.field.endswith(f".template.spec.{name}")
    assert json.dumps([value]) in finding.sentence
    patch, delete = finding.commands
    labels = f"ray.io/cluster={ACTIVE},ray.io/group={group}"
    assert delete == f"kubectl -n sonograph delete pods -l {labels} --field-selector=status.phase=Pending"
    cluster.run(patch)
    assert cluster.findings() == []


def test_a_toleration_of_another_controller_is_a_warning_and_stays_when_one_is_added() -> None:
    cluster = Cluster()
    pod(cluster.group(ACTIVE, "whisper"))["tolerations"] = [OTHER]
    finding = cluster.finding()
    assert finding.severity is WARNING
    assert json.dumps([OTHER]) in finding.sentence
    pod(cluster.manifests.group("whisper"))["tolerations"] = [TOLERATION]
    finding = cluster.finding()
    assert finding.severity is ERROR
    cluster.run(finding.commands[0])
    assert pod(cluster.group(ACTIVE, "whisper"))["tolerations"] == [OTHER, TOLERATION]
    assert cluster.finding().severity is WARNING
    cluster.run(cluster.finding().commands[0])
    assert pod(cluster.group(ACTIVE, "whisper"))["tolerations"] == [TOLERATION]
    assert cluster.findings() == []


def test_another_order_and_empty_fields_are_no_difference() -> None:
    cluster = Cluster()
    pod(cluster.manifests.group("whisper"))["tolerations"] = [{**TOLERATION, "value": ""}, OTHER]
    pod(cluster.group(ACTIVE, "whisper"))["tolerations"] = [OTHER, TOLERATION]
    pod(cluster.manifests.head)["tolerations"] = []
    assert cluster.findings() == []


def test_a_group_that_the_raycluster_lacks_is_left_to_kuberay() -> None:
    cluster = Cluster()
    del cluster.clusters[ACTIVE]["workerGroupSpecs"][2]
    assert cluster.findings() == []


def test_another_option_of_serve_is_named_and_the_command_starts_a_second_cluster_once() -> None:
    cluster = Cluster()
    cluster.manifests.config["http_options"]["request_timeout_s"] = 240
    cluster.manifests.config["proxy_location"] = "HeadOnly"
    finding = cluster.finding()
    assert (finding.rule, finding.severity) == ("serve_runs_with_its_options", ERROR)
    assert finding.field == "spec.serveConfigV2: http_options.request_timeout_s, proxy_location"
    assert f'{ACTIVE} runs with http_options.request_timeout_s 180.0, not 240 and proxy_location "EveryNode"' in finding.sentence
    (command,) = finding.commands
    before = copy.deepcopy(cluster.service)
    cluster.run(command)
    before["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["metadata"]["annotations"] = {"sonograph/replaces": ACTIVE}
    assert cluster.service == before
    cluster.run(command)
    assert cluster.service == before, "a second run would start a third cluster"


@pytest.mark.parametrize("running", [{"http_options": None, "proxy_location": None}, {"http_options": {"port": 8000}}])
def test_only_what_both_the_config_and_serve_state_is_compared(running: dict[str, Any]) -> None:
    cluster = Cluster()
    cluster.serve = running
    assert cluster.findings() == []


def test_a_password_is_not_shown() -> None:
    cluster = Cluster()
    cluster.manifests.config["http_options"]["ssl_keyfile_password"] = "wanted"
    cluster.serve = {"http_options": {"ssl_keyfile_password": "running"}}
    finding = cluster.finding()
    assert "ssl_keyfile_password" in finding.sentence
    assert "wanted" not in str(finding)
    assert "running" not in finding.sentence.replace("runs", "")


def test_without_upgrades_another_option_takes_an_outage() -> None:
    cluster = Cluster(ONE_GPU)
    cluster.manifests.config["http_options"]["request_timeout_s"] = 240
    finding = cluster.finding()
    assert "apply its manifest" in finding.sentence
    assert finding.commands == ("kubectl -n sonograph delete rayservice sonograph",)


@pytest.mark.parametrize("config", ["a: [1", "[1]", "http_options: [1]", "1", ""])
def test_a_config_that_kuberay_cannot_read_is_an_error(config: str) -> None:
    cluster = Cluster()
    cluster.manifests.config = config
    assert "cannot be read, so KubeRay cannot apply it" in cluster.finding().sentence


def test_an_upgrade_has_its_own_findings_and_those_of_the_first_cluster_are_warnings() -> None:
    cluster = Cluster()
    cluster.manifests.config["http_options"]["request_timeout_s"] = 240
    cluster.manifests.group("whisper")["maxReplicas"] = 6
    cluster.upgrade()
    cluster.manifests.group("whisper")["maxReplicas"] = 9
    upgrade, first, second, options = cluster.findings()
    assert (upgrade.field, upgrade.severity) == ("status.conditions.UpgradeInProgress", WARNING)
    assert first.severity is WARNING
    assert f"{ACTIVE} has maxReplicas 3, not 9" in first.sentence
    assert f"until the upgrade to {PENDING} is through" in first.sentence
    assert second.severity is ERROR
    assert f"{PENDING} has maxReplicas 6, not 9" in second.sentence
    cluster.run(second.commands[0])
    assert cluster.group(PENDING, "whisper")["maxReplicas"] == 9
    assert (options.severity, options.commands) == (WARNING, ())
    assert f"{PENDING}, which KubeRay prepares, starts with the config's" in options.sentence


def test_the_first_cluster_is_compared_before_it_serves() -> None:
    cluster = Cluster()
    cluster.clusters = {PENDING: cluster.new()}
    cluster.service["status"] |= {"activeServiceStatus": {}, "pendingServiceStatus": {"rayClusterName": PENDING}}
    cluster.serve = None
    assert cluster.findings() == []
    cluster.manifests.group("whisper")["maxReplicas"] = 6
    assert cluster.finding().severity is ERROR


def test_a_service_that_is_not_ready_is_an_error_with_kuberays_reason() -> None:
    cluster = Cluster()
    message = "No endpoint.\nAt all."
    cluster.service["status"]["conditions"] = [READY | {"status": "False", "reason": "ZeroServeEndpoints", "message": message}]
    finding = cluster.finding()
    assert (
        str(finding)
        == "error: rayservice/sonograph: status.conditions.Ready: False, ZeroServeEndpoints: No endpoint. At all. [SG902]"
    )


def test_a_service_that_kuberay_has_not_read_is_named() -> None:
    cluster = Cluster()
    cluster.service["metadata"]["generation"] = 4
    assert cluster.finding().severity is WARNING
    assert cluster.finding().rule == "kuberay_has_read_the_service"
    del cluster.service["status"]
    assert cluster.finding().severity is ERROR
    assert "KubeRay has not read it" in cluster.finding().sentence


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
def test_an_application_that_does_not_run_is_an_error_with_the_end_of_its_message(status: str) -> None:
    cluster = Cluster()
    message = "Deploying failed:\n" + "a frame\n" * 5000 + "ValueError: the last line"
    cluster.service["status"]["activeServiceStatus"]["applicationStatuses"]["sonograph"] = {"status": status, "message": message}
    sentence = cluster.finding().sentence
    assert sentence.startswith(f"{status} in the RayCluster {ACTIVE}: Deploying failed: a frame")
    assert sentence.endswith("ValueError: the last line")
    assert len(sentence) < 600
    assert "\n" not in sentence


def test_the_reason_of_a_failed_deployment_is_named() -> None:
    cluster = Cluster()
    deployments = {
        "diffusion": {"status": "HEALTHY", "message": ""},
        "whisper": {"status": "DEPLOY_FAILED", "message": "failed to start 3 times in a row.\nFileNotFoundError: tiny.en"},
    }
    failed = {"status": "DEPLOY_FAILED", "message": "Failed to update ['whisper'].", "serveDeploymentStatuses": deployments}
    cluster.service["status"]["activeServiceStatus"]["applicationStatuses"]["sonograph"] = failed
    reason = "whisper: failed to start 3 times in a row. FileNotFoundError: tiny.en"
    assert cluster.finding().sentence.endswith(f"Failed to update ['whisper']. {reason}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a stand-in for kubectl, the only one on the PATH, and return its folder."""
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def doctor(*words: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", "--live", *words])


def test_the_command_reads_the_cluster_by_kubectl(folder: Path) -> None:
    Cluster().write(folder)
    result = doctor()
    assert (result.exit_code, result.output) == (0, "No errors, no warnings, no notes.\n")
    get, execute = (folder / "calls").read_text().splitlines()[:2]
    assert get == "get rayservices.ray.io,rayclusters.ray.io -n sonograph -o json"
    assert execute == f"exec -n sonograph {ACTIVE}-head -c ray-head -- python -c "


def test_the_command_prints_what_applies_a_change_with_the_users_context(folder: Path) -> None:
    cluster = Cluster()
    cluster.manifests.group("whisper")["maxReplicas"] = 6
    cluster.write(folder)
    result = doctor("-n", "talks", "--context", "a b")
    assert result.exit_code == 1
    finding, command, summary = result.output.splitlines()
    assert finding.startswith("error: rayservice/sonograph: spec.rayClusterConfig.workerGroupSpecs[1].maxReplicas: ")
    assert shlex.split(command)[:6] == ["kubectl", "-n", "talks", "--context", "a b", "patch"]
    assert command.startswith("  kubectl ")
    assert summary == "1 error, no warnings, no notes."
    assert "get rayservices.ray.io,rayclusters.ray.io -n talks --context a b -o json" in (folder / "calls").read_text()


def test_where_exec_is_forbidden_a_warning_says_so_and_the_rest_is_reported(folder: Path) -> None:
    cluster = Cluster()
    cluster.manifests.group("whisper")["maxReplicas"] = 6
    cluster.write(folder)
    (folder / "exec.error").write_text(
        'Error from server (Forbidden): pods "x" is forbidden: User "y" cannot create resource "pods/exec"\n'
    )
    result = doctor()
    assert result.exit_code == 1
    assert "maxReplicas 3, not 6" in result.output
    assert "warning: rayservice/sonograph: spec.serveConfigV2: http_options: what Serve runs with is not known: " in result.output
    assert 'cannot create resource "pods/exec"' in result.output


def test_text_of_the_cluster_steers_no_terminal(folder: Path) -> None:
    cluster = Cluster()
    failed = {"status": "DEPLOY_FAILED", "message": "a\x1b[2Jb\u202ec\x07 [bold]d"}
    cluster.service["status"]["activeServiceStatus"]["applicationStatuses"] = {"the\x1b[1m\nname": failed}
    cluster.write(folder)
    output = doctor().output
    assert "a\\x1b[2Jb\\u202ec\\x07 [bold]d" in output
    _, remedy, counts = output.splitlines()
    assert (remedy, counts) == ("  Fix the reason, and deploy again.", "1 error, no warnings, no notes.")
    assert not {"\x1b", "\x07", "\u202e"} & set(output)


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ('error: the server doesn\'t have a resource type "rayservices"', "the cluster knows no RayServices: install KubeRay"),
        (
            'E1130 01:32:37.4 2 memcache.go:265] "Unhandled Error"\nThe connection was refused',
            "kubectl get failed: The connection was refused\n",
        ),
        (
            'Error from server (Forbidden): rayservices.ray.io is forbidden: User "y"',
            "kubectl get failed: Error from server (Forbidden)",
        ),
    ],
)
def test_a_cluster_that_cannot_be_read_ends_the_command_with_one_sentence(folder: Path, printed: str, sentence: str) -> None:
    (folder / "get.error").write_text(printed + "\n")
    result = doctor()
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sonograph doctor: {sentence}")
    assert len(result.stderr.splitlines()) == 1


def test_a_namespace_without_a_rayservice_ends_the_command(folder: Path) -> None:
    (folder / "get.json").write_text(json.dumps({"items": []}))
    result = doctor("--namespace", "talks")
    assert (result.exit_code, result.stderr) == (
        2,
        "sonograph doctor: there is no RayService in the namespace talks: name another by --namespace\n",
    )


def test_without_kubectl_the_command_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kubectl").unlink()
    monkeypatch.setenv("PATH", str(folder))
    result = doctor()
    assert result.exit_code == 2
    assert result.stderr.startswith("sonograph doctor: kubectl is not installed")


@pytest.mark.parametrize(
    "words", [[], ["--live", "kuberay/manifests/cpu"], ["-n", "talks", "kuberay/manifests/cpu"], ["--context", "x", "kuberay"]]
)
def test_manifests_and_a_cluster_are_not_examined_together(words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["doctor", *words])
    assert result.exit_code == 2
    assert "--live" in result.output


class Dashboard(BaseHTTPRequestHandler):
    """Ray's dashboard in a head, which asks for the token."""

    def do_GET(self) -> None:
        right = (self.path, self.headers["Authorization"]) == ("/api/serve/applications/", "Bearer secret")
        self.send_response(200 if right else 401)
        self.end_headers()
        found = {"http_options": {"port": 8000}, "proxy_location": "EveryNode", "applications": {"sonograph": {}}}
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_program_in_the_head_prints_serves_options_and_no_more() -> None:
    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = SERVE.replace("localhost:8265", f"127.0.0.1:{server.server_port}")
        command, environment = [sys.executable, "-c", program], {"RAY_AUTH_TOKEN": "secret"}
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout
        server.shutdown()
    assert json.loads(printed) == {"http_options": {"port": 8000}, "proxy_location": "EveryNode"}


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the CustomResourceDefinitions are not on this machine")
@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (
            "rayservices",
            [
                "status.observedGeneration",
                "status.conditions.message",
                "status.activeServiceStatus.rayClusterName",
                "status.pendingServiceStatus.applicationStatuses.message",
                "spec.upgradeStrategy.type",
                "spec.rayClusterConfig.headGroupSpec.template.metadata.annotations",
            ],
        ),
        ("rayclusters", ["status.head.podName", *(f"spec.workerGroupSpecs.{name}" for name in BOUNDS)]),
    ],
)
def test_kuberay_has_the_fields_that_are_read_or_set(kind: str, paths: list[str]) -> None:
    definition = load((SCHEMAS / f"ray.io_{kind}.yaml").read_text())
    (schema,) = (one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"] if one["name"] == "v1")
    for path in paths:
        found = schema
        for name in path.split("."):
            found = found.get("items", found)
            if "properties" not in found:
                found = found["additionalProperties"]
            found = found["properties"][name]
