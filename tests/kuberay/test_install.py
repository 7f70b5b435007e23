"""Install in docs/kubernetes/index.md: one file of values, which reaches every object, and commands that fit it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kuberay import render
from kuberay.doctor.finding import ERROR
from kuberay.images import Images
from kuberay.pod_values import PodValues
from kuberay.profiles import CPU
from kuberay.values import Values
from kuberay.values_file import applied
from kuberay.values_table import fields
from testing.manifests import Manifests, load, load_all

DOCS = Path(__file__).parents[2] / "docs" / "kubernetes"
PAGE = (DOCS / "index.md").read_text(encoding="utf-8")
INSTALL = PAGE.split("\n## Install\n")[1].split("\n## ")[0]
COMMANDS = [line.strip().removeprefix("$ ") for line in INSTALL.splitlines() if line.strip().startswith("$ ")]
(TEXT,) = re.findall(r"```yaml\n(# my.yaml\n.*?)```", PAGE, re.DOTALL)
MINE: dict[str, Any] = load(TEXT)
PROFILE = applied(MINE, CPU)
OBJECTS = [one for text in render.manifests(PROFILE, Images(PROFILE.values.registry)).values() for one in load_all(text)]
CREATED = {"$NAMESPACE": PROFILE.namespace, "$OPERATOR": "kuberay-system"}


def pods(part: Any) -> Iterator[dict[str, Any]]:
    """Yield the specification of every pod."""
    if isinstance(part, dict):
        if isinstance(part.get("containers"), list):
            yield part
        for below in part.values():
            yield from pods(below)
    elif isinstance(part, list):
        for below in part:
            yield from pods(below)


def secrets(part: Any) -> Iterator[str]:
    """Yield the name of each Secret without which a pod does not start."""
    if isinstance(part, dict):
        for key, below in part.items():
            if key == "secretKeyRef":
                yield below["name"]
            elif key == "imagePullSecrets":
                yield from (one["name"] for one in below)
            elif key == "secret" and not below.get("optional"):
                yield below["secretName"]
            yield from secrets(below)
    elif isinstance(part, list):
        for below in part:
            yield from secrets(below)


def test_every_object_is_in_the_namespace() -> None:
    assert {one["metadata"]["namespace"] for one in OBJECTS} == {MINE["namespace"]} != {CPU.namespace}


def test_every_image_of_ours_is_the_registrys_and_every_pod_has_its_password() -> None:
    found = list(pods(OBJECTS))
    assert len(found) == 6  # head, three groups, Redis, the Job
    for pod in found:
        assert pod["imagePullSecrets"] == [{"name": name} for name in MINE["pull_secrets"]]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["name"] == "redis" or container["image"].startswith(f"{MINE['registry']}/")


def test_each_volume_has_its_storage_class() -> None:
    classes = {
        one["kind"]: (one["spec"] if one["kind"] != "StatefulSet" else one["spec"]["volumeClaimTemplates"][0]["spec"])
        for one in OBJECTS
        if one["kind"] in ("PersistentVolumeClaim", "StatefulSet")
    }
    assert {kind: spec["storageClassName"] for kind, spec in classes.items()} == {
        "PersistentVolumeClaim": MINE["weights"]["storage_class"],
        "StatefulSet": MINE["redis"]["storage_class"],
    }


def test_it_needs_no_definition_but_kuberays() -> None:
    groups = {one["apiVersion"].partition("/")[0] for one in OBJECTS}
    assert {group for group in groups if "." in group and not group.endswith("k8s.io")} == {"ray.io"}
    assert "gateway.networking.k8s.io" not in groups


def test_the_doctor_finds_no_error() -> None:
    assert [str(one) for one in Manifests(PROFILE).findings() if one.severity is ERROR] == []


def test_each_secret_that_a_pod_needs_is_created() -> None:
    made = {
        match[1] for command in COMMANDS if (match := re.match(r"kubectl -n \$NAMESPACE create secret [\w-]+ ([\w-]+) ", command))
    }
    needed = set(secrets(OBJECTS))
    assert needed == {PROFILE.redis_secret, *MINE["pull_secrets"]}
    assert made == needed | {PROFILE.keys_secret}


def test_the_commands_have_the_files_names() -> None:
    assert f"NAMESPACE={PROFILE.namespace} OPERATOR={CREATED['$OPERATOR']}" in COMMANDS
    assert f"export REGISTRY={MINE['registry']}" in COMMANDS
    (made,) = (command for command in COMMANDS if ".venv/bin/sonograph render" in command)
    assert made.split()[1:] == ["render", "cpu", "--values", "my.yaml", "--digests", "images.json", "--out", "cluster"]
    assert "kubectl apply -f cluster/cpu" in COMMANDS
    assert not any("-n sonograph" in command for command in COMMANDS)
    assert any(f"--namespace {CREATED['$OPERATOR']} --create-namespace" in command for command in COMMANDS)


def test_no_command_names_a_namespace_that_may_not_exist() -> None:
    """Of a selector without a match kubectl says so, and ends with 0."""
    labelled = [command.split()[3] for command in COMMANDS if command.startswith("kubectl label namespace")]
    assert set(labelled) == {*CREATED, "-l"}


def test_each_value_that_is_explained_exists() -> None:
    table = INSTALL.split("| value | where to find it |")[1].split("\n\n")[0]
    explained = {name for cells in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", cells)}
    known = {name for name, _ in fields(Values)}
    assert explained <= known
    assert {"pull_secrets", "weights.storage_class", "redis.storage_class", "monitoring.enabled"} <= explained


def test_the_values_of_pods_stand_once_and_the_sections_that_take_them_are_named() -> None:
    names = [name for name, _ in fields(Values)]
    assert len(names) == len(set(names))
    for field in PodValues.model_fields:
        assert [name for name in names if name.endswith(f".{field}") and name.startswith(("pods.", "head.", "groups."))] == [
            f"pods.{field}"
        ]
    sections = [
        name
        for name, field in Values.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, PodValues)
    ]
    (sentence,) = re.findall(r"^(.*) take the keys of `pods` too", (DOCS / "values.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"`([\w.]+)`", sentence) == [*(name for name in sections if name != "pods"), "groups.GROUP"]


def test_every_value_has_a_meaning() -> None:
    assert [name for name, field in fields(Values) if not field.description] == []
