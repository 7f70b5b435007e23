"""RayServices: their config, and the patch that changes it."""

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sonograph.errors import Failed
from sonograph.rollouts import serve_config
from sonograph.rollouts.serve_config import Candidate
from sonograph.rollouts.session import TargetOptions
from sonograph.rollouts.targets import Manifest
from testing.service import ROOT

MANIFEST = ROOT / "kuberay" / "manifests" / "cpu" / "rayservice.yaml"
NAME = "sonograph-whisper-candidate"


def test_a_manifests_patch_adds_the_application_to_the_serve_config_alone(capsys: pytest.CaptureFixture[str]) -> None:
    target = Manifest(str(MANIFEST))
    config = target.config()
    changed = serve_config.with_candidate(config, "sonograph", Candidate("whisper", NAME, {"padding": "adaptive"}))
    with pytest.raises(typer.Exit):
        target.apply(changed)
    printed = capsys.readouterr()
    patch = yaml.safe_load(printed.out)
    assert list(patch) == ["spec"]
    assert list(patch["spec"]) == ["serveConfigV2"]
    assert yaml.safe_load(patch["spec"]["serveConfigV2"]) == changed
    assert "kubectl patch rayservice sonograph --namespace sonograph --type merge --patch-file patch.yaml" in printed.err


def test_the_patched_manifest_has_the_candidate(tmp_path: Path) -> None:
    candidate = Candidate("whisper", NAME, {"padding": "adaptive"})
    changed = serve_config.with_candidate(Manifest(str(MANIFEST)).config(), "sonograph", candidate)
    document = yaml.safe_load(MANIFEST.read_text())
    document["spec"]["serveConfigV2"] = yaml.safe_dump(changed)
    path = tmp_path / "rayservice.yaml"
    path.write_text(yaml.safe_dump(document))
    again = Manifest(str(path)).config()
    assert serve_config.with_candidate(again, "sonograph", candidate) == again, "the repeated command would print the patch again"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"kind": "RayCluster"}, "has 0 RayServices"),
        ({"kind": "RayService", "metadata": {"name": "a"}, "spec": {}}, "has no serveConfigV2"),
        ("just a text", "cannot read"),
    ],
)
def test_a_file_without_a_rayservice_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(Failed, match=sentence):
        Manifest(str(path)).config()


def test_apply_needs_a_name_since_a_file_is_not_the_cluster() -> None:
    with pytest.raises(Failed, match="--apply changes a RayService in the cluster"):
        TargetOptions(None, Path("none"), str(MANIFEST), None, None, True).target(None)
