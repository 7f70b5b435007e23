"""Values of an installation: applied to the profiles, refused where they are wrong, documented."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from deployments.settings import Section
from kuberay import render
from kuberay.images import Images
from kuberay.profiles import CPU, ONE_GPU, PROFILES, Profile
from kuberay.values import GroupValues, HeadValues, Values, read
from sonograph.cli import cli

ROOT = Path(__file__).parents[2]


def file(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def service(profile: Profile = CPU, **content: Any) -> dict[str, Any]:
    """Return the RayService that is rendered with these values."""
    applied = Values.model_validate(content).applied_to(profile)
    document: dict[str, Any] = yaml.safe_load(render.manifests(applied, Images())["rayservice.yaml"])
    return document


def group(service: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == name)
    return dict(found)


def deployment(service: dict[str, Any], name: str) -> dict[str, Any]:
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    (found,) = (one for one in application["deployments"] if one["name"] == name)
    return dict(found)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_without_values_a_profile_is_as_it_is(profile: Profile) -> None:
    assert render.manifests(Values().applied_to(profile), Images()) == render.manifests(profile, Images())


def test_every_object_is_in_the_namespace_and_the_services_have_the_name() -> None:
    applied = Values(name="pictures", namespace="team-a").applied_to(CPU)
    texts = render.manifests(applied, Images())
    documents = [one for text in texts.values() for one in yaml.safe_load_all(text)]
    assert {one["metadata"]["namespace"] for one in documents} == {"team-a"}
    (found,) = (one for one in documents if one["kind"] == "RayService")
    assert found["metadata"]["name"] == "pictures"
    (application,) = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
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
    (application,) = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
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
        ([1], "it has to be a mapping"),
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


def test_a_shared_group_has_one_number_of_replicas_and_no_cpus_of_its_own() -> None:
    found = service(ONE_GPU, groups={"all": {"max_replicas": 2}})
    assert [deployment(found, name)["autoscaling_config"]["max_replicas"] for name in ("whisper", "diffusion")] == [2, 2]
    with pytest.raises(ValueError, match="the group has several deployments"):
        service(ONE_GPU, groups={"all": {"cpus": 4}})


def test_the_options_registry_precedes_the_files_and_the_header_names_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, {"registry": "registry.internal/a"})
    for options, registry in (([], "registry.internal/a"), (["--registry", "registry.internal/b"], "registry.internal/b")):
        assert CliRunner().invoke(cli, ["render", "cpu", "--values", str(path), "--out", str(tmp_path), *options]).exit_code == 0
        text = (tmp_path / "cpu" / "rayservice.yaml").read_text()
        assert text.startswith("# Rendered by `sonograph render cpu --values my.yaml`")
        assert set(re.findall(r"image: (.*)/ingress:", text)) == {registry}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "groups":
            yield from keys(GroupValues, "groups.GROUP.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_each_key_is_documented() -> None:
    table = (ROOT / "kuberay" / "README.md").read_text().split("| value | default | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE) == list(keys(Values))


def test_the_example_of_the_documentation_renders() -> None:
    (example,) = re.findall(r"```yaml\n(# my.yaml\n.*?)```", (ROOT / "kuberay" / "README.md").read_text(), re.DOTALL)
    values = Values.model_validate(yaml.safe_load(example))
    assert values.head == HeadValues()
    applied = values.applied_to(CPU)
    assert render.manifests(applied, Images()) != render.manifests(replace(applied, args=CPU.args), Images())
