"""The advice as a values file: which values, that every profile renders with it, and what an existing file keeps."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kuberay import values_file
from kuberay.doctor.finding import ERROR
from kuberay.profiles import ONE_GPU, PROFILES, Profile
from sonograph.errors import Failed
from sonograph.rightsize.advice import Advice, advise
from sonograph.rightsize.values import MARK, chosen, content, stated, write
from testing.manifests import Manifests
from tests.sonograph.rightsize.figures import samples, subject


def of(name: str, cpus: float = 0.95, memory_mib: float = 1200, **fields: Any) -> Advice:
    is_model = name not in ("ingress",)
    return advise(
        subject(
            samples(cpus=cpus, memory_mib=memory_mib), name=name, **{"deployment": name, "threads_follow": is_model, **fields}
        )
    )


ADVICES = [of("ingress", 0.3, 250, asked_cpus=0), of("whisper"), of("diffusion", 1.9, 1300, asked_cpus=2)]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda one: one.name)
def test_every_profile_renders_with_the_advice_and_the_doctor_has_no_objection(profile: Profile) -> None:
    applied = values_file.applied(content(ADVICES, shares_pod=profile is ONE_GPU), profile)
    assert [str(finding) for finding in Manifests(applied).findings()] == []


def test_a_replica_is_whole_cpus_for_ray_and_a_pod_that_holds_its_other_processes_too() -> None:
    assert content(ADVICES) == {
        "groups": {
            "ingress": {"cpus": 1, "memory_gib": 2},
            "whisper": {"cpus": 1, "memory_gib": 3},
            "diffusion": {"cpus": 2, "memory_gib": 3},
        }
    }


def test_a_half_cpu_is_kept_by_kubernetes_and_is_no_thread_of_rays() -> None:
    assert content([of("whisper", 1.4)])["groups"]["whisper"] == {"cpus": 1, "cpu_request": 1.75, "memory_gib": 3}


def test_a_pods_own_figures_are_the_pods() -> None:
    assert content([of("whisper", 1.2, 2500, of_pod=True)])["groups"]["whisper"] == {
        "cpus": 1,
        "cpu_request": 1.5,
        "memory_gib": 3,
    }


def test_an_idle_deployment_has_no_cpus_and_a_candidate_no_values() -> None:
    assert content([of("whisper", 0.0)])["groups"]["whisper"] == {"memory_gib": 3}
    assert content([of("whisper-candidate", deployment="whisper")]) == {}
    assert content([of("node a", kind="node", deployment=None)]) == {}


def test_models_that_share_a_pod_are_parts_of_its_group() -> None:
    assert content(ADVICES, shares_pod=True)["groups"] == {
        "ingress": {"cpus": 1, "memory_gib": 2},
        "all": {"models": {"whisper": {"cpus": 1, "memory_gib": 3}, "diffusion": {"cpus": 2, "memory_gib": 3}}},
    }


def task(model: str, engine: str = "faster-whisper") -> Advice:
    return of(f"{model}, {engine}", kind="task", deployment="whisper", model=model, engine=engine)


def test_of_several_candidates_the_file_or_the_option_says_which() -> None:
    tasks = [task("tiny.en"), task("base")]
    assert chosen(tasks[:1], None, {}) == tasks[:1]
    assert chosen(tasks, "base, faster-whisper", {}) == tasks[1:]
    assert chosen(tasks, None, {"settings": {"whisper": {"model": "tiny.en", "engine": "faster-whisper"}}}) == tasks[:1]
    for stated_values in ({}, {"settings": 5}, {"settings": {"whisper": {"model": "tiny.en"}}}, {"settings": {"whisper": None}}):
        with pytest.raises(Failed, match=r"--candidate, of: tiny\.en, faster-whisper; base, faster-whisper"):
            chosen(tasks, None, stated_values)
    with pytest.raises(Failed, match="--candidate"):
        chosen(tasks, "large", {})


def test_the_file_has_the_reasons_and_what_another_command_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    before = "# Written by `sonograph compare`.\n# tiny.en is chosen.\nsettings:\n  whisper: {model: tiny.en}\n"
    path.write_text(before)
    write(path, content(ADVICES), ADVICES, "cpu")
    text = path.read_text()
    assert text.startswith(before)
    assert "# whisper: asks for 1 CPU and used 0.95 CPUs (p95)" in text
    assert values_file.read(path) == {"settings": {"whisper": {"model": "tiny.en"}}, **content(ADVICES)}

    again = [of("whisper", 3.9, asked_cpus=4)]
    write(path, content(again), again, "mig")
    text, found = path.read_text(), values_file.read(path)
    assert text.startswith("# Written by `sonograph compare`.\n# tiny.en is chosen.\n")
    assert text.count(MARK) == 1
    assert found["groups"]["whisper"]["cpus"] == 4
    assert found["groups"]["diffusion"]["cpus"] == 2
    assert found["settings"] == {"whisper": {"model": "tiny.en"}}


def test_a_name_from_outside_ends_no_comment(tmp_path: Path) -> None:
    evil = [advise(subject(name="x\nnamespace: evil", kind="task", deployment="whisper"))]
    path = tmp_path / "values.yaml"
    write(path, content(evil), evil, "cpu")
    assert set(yaml.safe_load(path.read_text())) == {"groups"}


@pytest.mark.parametrize("before", ["groups: [", "- a list\n", "registry: 5\n", "groups: {wisper: {cpus: 1}}\n"], ids=repr)
def test_a_file_that_render_would_refuse_is_left_as_it_is(before: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(before)
    with pytest.raises(Failed):
        write(path, content(ADVICES), ADVICES, "cpu")
    assert path.read_text() == before


def test_values_that_do_not_fit_the_profile_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="do not fit the profile one-gpu"):
        write(tmp_path / "values.yaml", content(ADVICES), ADVICES, "one-gpu")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert stated(tmp_path / "none.yaml") == {}
    with pytest.raises(Failed, match="cannot be written"):
        write(tmp_path / "no" / "values.yaml", content(ADVICES), ADVICES, "cpu")
    with pytest.raises(Failed):
        write(tmp_path, content(ADVICES), ADVICES, "cpu")


def test_an_error_of_the_doctor_is_what_a_node_does_not_hold() -> None:
    """Advice may be more than a profile's nodes have: the doctor says so, and rightsize does not hide it."""
    applied = values_file.applied(content([of("whisper", 7.9, asked_cpus=8)]), PROFILES["cpu"])
    assert {finding.number for finding in Manifests(applied).findings() if finding.severity is ERROR} == {"SG406"}
