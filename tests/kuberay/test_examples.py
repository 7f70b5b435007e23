"""kuberay/examples: they fit the rendered manifests, and the doctor reads them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kuberay import render
from kuberay.images import Images
from kuberay.profiles import CPU, MIG
from sonograph.cli import cli
from testing.manifests import load, load_all
from tests.kubernetes.programs import cache

EXAMPLES = Path(__file__).parents[2] / "kuberay" / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))
KUSTOMIZATION = load((EXAMPLES / "kustomize" / "kustomization.yaml").read_text())
(APPLICATION,) = load_all((EXAMPLES / "argocd" / "application.yaml").read_text())
SOURCE, FLUX = load_all((EXAMPLES / "flux" / "sonograph.yaml").read_text())


def doctor(*paths: Path | str, text: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["doctor", *map(str, paths)], input=text)
    return result.exit_code, result.output


def rendered() -> dict[str, list[dict[str, Any]]]:
    return {name: load_all(text) for name, text in render.manifests(CPU, Images()).items()}


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("kustomize", f"kubectl kustomize {EXAMPLES / 'kustomize'} | sonograph doctor -"),
        ("argocd", f"sonograph doctor {APPLICATION['spec']['source']['path']}"),
        ("flux", f"sonograph doctor {FLUX['spec']['path']}"),
    ],
)
def test_the_doctor_says_how_an_examples_manifests_are_examined_and_objects_to_nothing(folder: str, command: str) -> None:
    status, output = doctor(EXAMPLES / folder)
    assert status == 0
    assert f"`{command}`" in output
    assert "No errors, 1 warning, " in output


def test_a_folder_of_yaml_that_is_neither_is_refused_still(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("apiVersion: v1\nkind: ConfigMap\n")
    status, output = doctor(tmp_path)
    assert status == 2
    assert "hold no RayService" in output


def test_the_doctor_reads_standard_input() -> None:
    everything = yaml.safe_dump_all(one for documents in rendered().values() for one in documents)
    assert doctor("-", text=everything)[0] == 0
    status, output = doctor("-", text=everything.replace("rayVersion: 2.60.0", "rayVersion: 2.59.0"))
    assert status == 1
    assert re.match(r"error: -:\d+: ", output)


def test_the_kustomization_lists_every_file_that_is_rendered() -> None:
    assert KUSTOMIZATION["resources"] == [f"cpu/{name}" for name in sorted(rendered())]


def test_each_patch_replaces_a_field_that_there_is() -> None:
    objects = {one["kind"]: one for documents in rendered().values() for one in documents}
    patched = [(patch["target"]["kind"], step) for patch in KUSTOMIZATION["patches"] for step in load(patch["patch"])]
    assert patched
    for kind, step in patched:
        place: Any = objects[kind]
        *above, last = step["path"].removeprefix("/").split("/")
        for name in above:
            place = place[name]
        assert step["op"] == "replace"
        assert place[last] != step["value"]


def test_the_labels_change_no_pod_and_no_selector() -> None:
    """A label of the pods would start a new cluster."""
    (labels,) = KUSTOMIZATION["labels"]
    assert not labels["includeSelectors"]
    assert not labels["includeTemplates"]


def test_what_kustomize_makes_is_healthy(tmp_path: Path) -> None:
    found = shutil.which("kubectl") or next(map(str, cache().glob("programs-*/kubectl")), None)
    if found is None:
        pytest.skip("no kubectl, which has kustomize, is on this machine")
    folder = tmp_path / "cluster"
    shutil.copytree(EXAMPLES / "kustomize", folder)
    assert CliRunner().invoke(cli, ["render", "cpu", "--out", str(folder)]).exit_code == 0
    made = subprocess.run([found, "kustomize", str(folder)], check=True, capture_output=True, text=True, timeout=60).stdout
    status, output = doctor("-", text=made)
    assert status == 0, output
    objects = load_all(made)
    assert len(objects) == sum(map(len, rendered().values()))
    assert {one["metadata"]["labels"]["team"] for one in objects} == {"pictures"}
    (service,) = (one for one in objects if one["kind"] == "RayService")
    assert service["spec"]["rayClusterConfig"]["autoscalerOptions"]["resources"]["limits"]["memory"] == "1Gi"


def test_argo_cd_and_flux_prune_the_former_job_and_run_none_again() -> None:
    assert APPLICATION["spec"]["syncPolicy"]["automated"]["prune"]
    assert FLUX["spec"]["prune"]
    for one in (one for documents in rendered().values() for one in documents if one["kind"] == "Job"):
        assert "ttlSecondsAfterFinished" not in one["spec"]
        assert not any("hook" in name for name in one["metadata"].get("annotations", {}))


def test_neither_applies_the_folder_of_the_gpu_operator() -> None:
    assert any(name.startswith("nvidia/") for name in render.manifests(MIG, Images()))
    assert "directory" not in APPLICATION["spec"]["source"]
    assert not any("nvidia" in name for name in KUSTOMIZATION["resources"])


def test_neither_deletes_everything_at_once() -> None:
    assert "finalizers" not in APPLICATION["metadata"]
    assert FLUX["spec"]["deletionPolicy"] == "Orphan"


def test_argo_cd_compares_with_the_defaults_of_the_definitions() -> None:
    assert APPLICATION["metadata"]["annotations"]["argocd.argoproj.io/compare-options"] == "ServerSideDiff=true"
    assert "ServerSideApply=true" in APPLICATION["spec"]["syncPolicy"]["syncOptions"]


def test_flux_waits_for_the_service_longer_than_kuberay_does() -> None:
    (service,) = rendered()["rayservice.yaml"]
    limit = service["metadata"]["annotations"]["ray.io/initializing-timeout"]
    assert int(FLUX["spec"]["timeout"].removesuffix("m")) > int(limit.removesuffix("m"))
    (check,) = FLUX["spec"]["healthChecks"]
    assert check == {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
    }
    assert FLUX["spec"]["sourceRef"]["name"] == SOURCE["metadata"]["name"]


def test_each_example_is_documented() -> None:
    text = (EXAMPLES.parents[1] / "docs" / "kubernetes" / "gitops.md").read_text()
    for file in FILES:
        assert f"(../../{file.relative_to(EXAMPLES.parents[1])})" in text
