"""docs/kubernetes: complete for a deployment, and true."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.serve.config import HTTPOptions

from kuberay import render
from kuberay.doctor.cluster import Live, LiveService
from kuberay.doctor.live import diagnose
from kuberay.images import Images
from kuberay.manifest.network import network
from kuberay.manifest.rayservice import ray_service
from kuberay.manifest.redis import REDIS_MAXMEMORY_MIB, REDIS_MEMORY_MIB
from kuberay.manifest.route import Split, route
from kuberay.profiles import CPU, MIG, OTLP_HEADERS, PROFILES, SMALL_GPUS, Profile
from kuberay.values import Values
from kuberay.values_table import fields
from kuberay.versions import PYTHON, RAY, TRITON
from sonograph.cli import cli
from testing.json_patch import patched
from testing.manifests import load

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "kubernetes").glob("*.md"))}
GUIDE = "\n".join(PAGES.values())
FLOWING = " ".join(GUIDE.split())
"""The guide's sentences, wherever its lines break."""
SCHEMAS = ROOT.parent / "shared" / "schemas"
(EXAMPLE,) = re.findall(r"^\$ .venv/bin/sonograph doctor --live\n(error.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
(WEIGHTS,) = (json.loads(text) for text in re.findall(r"patch httproute sonograph --type=json -p '(.*?)'", GUIDE, re.DOTALL))
SPLIT = Split({"stable": 95, "candidate": 5})
SLICED = SMALL_GPUS.changed({"gpu": {"time_slicing_replicas": 2}})
COMMANDS = [line.removeprefix("$ ").strip() for line in GUIDE.splitlines() for line in [line.strip()] if line.startswith("$ ")]


def row(first: str) -> list[str]:
    (found,) = (line for line in GUIDE.splitlines() if line.startswith(f"| `{first}` |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_each_profile_is_documented_with_its_groups(profile: Profile) -> None:
    _, _, groups, sizes = row(profile.name)
    assert groups == ", ".join(group.name for group in profile.groups)
    assert (sizes == "estimates") == (not profile.values.measured)


@pytest.mark.parametrize("profile", [CPU.changed({"quota": {"pods": "40"}}), MIG, SLICED], ids=["cpu", "mig", "time slicing"])
def test_each_file_is_documented(profile: Profile) -> None:
    table = GUIDE.split("| file | content |")[1].split("\n\n")[0]
    for file in render.manifests(profile, Images(), split=SPLIT):
        assert f"`{file}`" in table


def test_the_label_by_which_prometheus_selects_is_that_of_the_values() -> None:
    ((name, value),) = Values().monitoring.labels.items()
    assert f"additionalLabels.{name}={value}" in GUIDE
    (sentence,) = re.findall(r"by the label `(\w+)`, the name of its Helm release. Where that is not `([\w-]+)`", FLOWING)
    assert sentence == (name, value)
    assert f"`monitoring: {{labels: {{{name}: NAME}}}}`" in FLOWING


def test_the_times_are_those_of_the_manifests() -> None:
    times = CPU.times
    chain = (times.deadline_s, times.graceful_shutdown_s, times.deletion_delay_s, times.drain_s, times.termination_s)
    assert tuple(sorted(set(chain))) == chain
    table = GUIDE.split("| what | seconds |")[1].split("\n\n")[0]
    assert tuple(map(int, re.findall(r"\| (\d+) \|$", table, re.MULTILINE))) == chain
    assert f"deletes the first {times.deletion_delay_s} s later" in FLOWING
    assert f"deletes the second {times.deletion_delay_s} s later" in FLOWING


def test_the_limit_of_the_first_start_is_that_of_the_manifests() -> None:
    (limit,) = re.findall(r"first cluster does not get healthy within (\d+) minutes \(`([\w./-]+)`\)", FLOWING)
    assert ray_service(CPU, Images())["metadata"]["annotations"][limit[1]] == f"{limit[0]}m"


def test_redis_memory_is_that_of_the_manifests() -> None:
    assert f"fills {REDIS_MAXMEMORY_MIB} MiB at most, of its container's {REDIS_MEMORY_MIB}:" in FLOWING


def test_the_value_that_lets_dns_pass_is_documented_with_its_symptom() -> None:
    symptom = PAGES["networking"].split("\n## DNS\n")[1].split("\n## ")[0]
    assert "`wait-gcs-ready` never ends" in symptom
    assert "`network: {dns_cidrs: [ADDRESS]}`" in symptom
    assert f"exec {CPU.service}-redis-0 -- cat /etc/resolv.conf" in symptom
    assert "network.dns_cidrs" in dict(fields(Values))


def test_the_doctors_output_for_a_running_cluster_is_the_documented_one() -> None:
    # As for 4 replicas, which the text has.
    larger = CPU.changed({"groups": {"whisper": {"max_replicas": 4}}})
    (group,) = (group for group in larger.groups if group.name == "whisper")
    service, (name,) = ray_service(CPU, Images()), set(re.findall(r"RayCluster (\S+)", EXAMPLE))
    running = copy.deepcopy(service["spec"]["rayClusterConfig"])
    service["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["maxReplicas"] = group.max_pods
    conditions = [{"type": "Ready", "status": "True"}]
    service["status"] = {"conditions": conditions, "activeServiceStatus": {"rayClusterName": name}}
    kubectl = ("kubectl", "-n", CPU.namespace)
    (finding,) = diagnose(Live(LiveService.model_validate(service), {name: running}, kubectl, serve={}))
    assert EXAMPLE.splitlines() == [
        str(finding),
        *(f"  {command}" for command in finding.commands),
        "1 error, no warnings, no notes.",
    ]


def test_the_patch_of_the_route_changes_its_shares_and_nothing_else() -> None:
    (before,) = (one["spec"] for one in route(CPU, SPLIT))
    after = patched({"spec": before}, WEIGHTS)["spec"]
    shares = [backend["weight"] for backend in after["rules"][0]["backendRefs"]]
    assert f"one patch, here {shares[0]} and {shares[1]}:" in FLOWING
    assert sum(shares) == 100
    (wanted,) = (one["spec"] for one in route(CPU, Split(dict(zip(SPLIT.shares, shares, strict=True)))))
    assert after == wanted != before


def test_the_waits_of_the_gateway_are_those_of_the_manifests_and_of_serve() -> None:
    ((rule,),) = (one["spec"]["rules"] for one in route(CPU, SPLIT))
    assert f"The gateway waits {rule['timeouts']['request'].removesuffix('s')} s for" in FLOWING
    assert f"closes a connection after {HTTPOptions().keep_alive_timeout_s} s without a request" in FLOWING


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the CustomResourceDefinitions are not on this machine")
def test_the_commands_find_the_clusters_names() -> None:
    paths = re.findall(r"get rayservice sonograph -o jsonpath='\{\.([\w.]+)\}'", GUIDE)
    definition = load((SCHEMAS / "ray.io_rayservices.yaml").read_text())
    (schema,) = (one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"] if one["name"] == "v1")
    assert paths == ["status.pendingServiceStatus.rayClusterName"]
    for path in paths:
        found = schema
        for name in path.split("."):
            found = found["properties"][name]
        assert found["type"] == "string"


def test_every_command_of_sonograph_exists() -> None:
    group: Any = typer.main.get_command(cli)
    ours = [command.split()[1:] for command in COMMANDS if command.startswith(".venv/bin/sonograph")]
    assert len(ours) >= 4
    for verb, *words in ours:
        options = {option for parameter in group.commands[verb].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_every_namespace_label_in_the_policies_is_set() -> None:
    traced = CPU.with_tracing({"endpoint": "http://collector:4318"})
    labels = set(re.findall(r"sonograph/\w+", str(network(traced))))
    assert labels == {"sonograph/operator", "sonograph/monitoring", "sonograph/clients", "sonograph/collector"}
    for label in labels:
        assert any(command.startswith("kubectl label namespace") and f"{label}=" in command for command in COMMANDS)


def test_what_the_policies_leave_open_is_documented_with_the_value_that_narrows_it() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in network(CPU)}
    open_to_all = [name for name, spec in policies.items() for rule in spec.get("egress", ()) if "to" not in rule]
    assert open_to_all == ["sonograph-head", "sonograph-weights"]
    assert "The head reaches any address on the Kubernetes API's ports" in FLOWING
    assert "the weights' Job any on the hub's port" in FLOWING
    (value,) = re.findall(r"narrower: `([\w.]+)`", FLOWING)
    assert value in dict(fields(Values))


def test_the_rayservice_is_removed_first_and_what_it_needs_last() -> None:
    section = PAGES["upgrades"].split("\n## Remove\n")[1].split("\n## ")[0]
    commands = [line.removeprefix("$ ") for line in section.split("```")[1].splitlines() if line.startswith("$ ")]
    assert commands[0].endswith("delete rayservice --all")
    assert "wait rayclusters" in commands[1]
    assert commands[-1] == "kubectl delete namespace sonograph"


def test_objects_made_by_hand_have_the_names_in_the_manifests() -> None:
    assert any(f"create secret generic {CPU.redis_secret} --from-literal=password=" in command for command in COMMANDS)
    headers = f"create secret generic {CPU.keys_secret} --from-literal={Path(OTLP_HEADERS).name}="
    assert any(headers in command for command in COMMANDS)
    assert f"tritonserver:{TRITON}-py3" in GUIDE
    assert f"| Ray, Python, Triton | {RAY}, {PYTHON}, {TRITON}:" in GUIDE


def test_the_folders_readme_has_the_commands() -> None:
    text = (ROOT / "kuberay" / "README.md").read_text(encoding="utf-8")
    for command in ("sonograph render cpu", "sonograph doctor kuberay/manifests/cpu", "sonograph doctor --live"):
        assert command in text
        assert command in GUIDE


def test_the_folders_readme_is_short_and_the_first_page_leads_to_each_other() -> None:
    """The guide has the rest."""
    text = (ROOT / "kuberay" / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 30
    assert "(../docs/kubernetes/index.md)" in text
    assert {f"{name}.md" for name in PAGES if name != "index"} <= set(re.findall(r"\((\w[\w-]*\.md)\)", PAGES["index"]))
