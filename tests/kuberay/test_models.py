"""A model's description is enough for its deployment, its worker group, its image and its part of the manifests."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.model_spec import Hardware, ModelSettings, ModelSpec, Workload
from deployments.roles.text_to_image import Image
from kuberay import bake, serve_config, versions
from kuberay.doctor.finding import ERROR
from kuberay.profiles import CPU, ONE_GPU, PROFILES, SMALL_GPUS, Profile
from kuberay.worker_groups import Model
from testing.manifests import Manifests

ROOT = Path(__file__).parents[2]
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


class UpscaleSettings(ModelSettings):
    model: str = "bicubic"
    max_batch: int = 3


def workload(request: Any, settings: Any) -> Workload:
    return Workload(None, 1)


UPSCALE = ModelSpec(
    "upscale",
    "Upscaler",
    "image_to_image",
    UpscaleSettings,
    Image,
    "deployments.upscale.deployment:Upscale",
    workload,
    hardware=Hardware(cpus=1, memory_gib=2, gpus=1),
)


def with_upscale(profile: Profile, **values: Any) -> Profile:
    """The profile of an app that deploys one more model."""

    def find_models(args: dict[str, Any]) -> list[Model]:
        own = {name: value for name, value in args.items() if name != "upscale"}
        return [(UPSCALE, UpscaleSettings.model_validate(args.get("upscale", {}))), *profile.find_models(own)]

    return replace(profile.changed(values), find_models=find_models)


def deployments(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in config["applications"][0]["deployments"]}


def test_a_third_model_gets_a_pinned_deployment_and_the_last_worker_group() -> None:
    profile = with_upscale(SMALL_GPUS)
    assert [group.name for group in profile.groups] == ["ingress", "whisper", "diffusion", "upscale"]
    group = profile.groups[-1]
    assert (group.cpus, group.memory_gib, group.gpu.name, group.min_pods) == (1, 2, "nvidia.com/gpu", 1)
    assert group.resources == {"CPU": "1", "GPU": "1", "upscale": "1"}
    (deployment,) = group.deployments
    assert deployment.batch == 3
    options = deployments(serve_config.cluster(profile))["upscale"]["ray_actor_options"]
    assert options == {"num_cpus": 1, "num_gpus": 1, "resources": {"upscale": 1}, "label_selector": {"image": "upscale"}}


def test_a_third_model_changes_no_other_group() -> None:
    """KubeRay adds a group at the end in place; any other change starts a second cluster."""
    for profile in (CPU, SMALL_GPUS):
        assert with_upscale(profile).groups[:-1] == profile.groups


def test_without_a_gpu_a_model_requests_none() -> None:
    group = with_upscale(CPU).groups[-1]
    assert group.resources == {"CPU": "1", "upscale": "1"}


def test_a_profile_overrides_the_size_of_a_model() -> None:
    size = {"cpus": 2, "memory_gib": 5, "gpu": {"count": 0}, "max_replicas": 4}
    group = with_upscale(SMALL_GPUS, groups={"upscale": size}).groups[-1]
    assert (group.cpus, group.memory_gib, group.gpu.name, group.max_pods) == (2, 5, "", 6)
    assert "GPU" not in group.resources


def test_models_of_a_shared_group_share_its_gpu_in_proportion() -> None:
    ingress, shared = with_upscale(ONE_GPU).groups
    assert ingress == ONE_GPU.groups[0]
    assert {one.name: one.gpus for one in shared.deployments} == {"whisper": 0.15, "diffusion": 0.35, "upscale": 0.5}
    assert shared.memory_gib == ONE_GPU.groups[1].memory_gib + 2


@EACH
def test_a_model_that_the_app_does_not_deploy_has_neither_deployment_nor_group(profile: Profile) -> None:
    changed = profile.changed({"settings": {"graphs": ["voice_to_text"]}})
    assert list(deployments(serve_config.cluster(changed))) == ["ingress", "whisper"]
    assert {name for group in changed.groups for name in group.resources} - {"CPU", "GPU"} == {"ingress", "whisper"}
    assert [finding for finding in Manifests(changed).findings() if finding.severity is ERROR] == []


@EACH
def test_the_doctor_finds_no_error_about_a_third_model_but_that_the_app_lacks_it(profile: Profile) -> None:
    findings = Manifests(with_upscale(profile)).findings()
    assert {finding.rule for finding in findings if finding.severity is ERROR} == {"the_app_has_these_deployments"}


def test_one_machine_has_every_deployed_model() -> None:
    assert list(deployments(serve_config.local(with_upscale(CPU)))) == ["ingress", "whisper", "diffusion", "upscale"]
    assert list(deployments(serve_config.local())) == ["ingress", "whisper", "diffusion"]


def test_the_bake_file_has_an_image_of_each_model_and_one_of_all() -> None:
    rendered = bake.targets(["upscale", "whisper"], "all")
    assert 'targets = ["ingress", "upscale", "whisper", "all"]' in rendered
    assert 'IMAGE = "upscale", MODELS = "upscale"' in rendered
    assert 'IMAGE = "all", MODELS = "upscale whisper"' in rendered


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert project == versions.RELEASE, "the environment has another version of this project: run `make setup`"
    assert versions.TAG.startswith(f"{project}-")
    bake_file = (ROOT / "images" / "docker-bake.hcl").read_text()
    assert bake_file.count(project) == 1, "`sonograph render` writes the version into images/docker-bake.hcl, once"


def test_rays_private_api_is_imported_in_one_folder() -> None:
    for package in ("kuberay", "sonograph", "deployments", "graphs"):
        for path in (ROOT / package).rglob("*.py"):
            if "import" in path.read_text() and path.parent != ROOT / "graphs" / "serve":
                lines = [line for line in path.read_text().splitlines() if "import" in line and "ray." in line]
                assert not [line for line in lines if "_private" in line], f"{path} imports it: graphs/serve is its place"
