"""docs/kubernetes/gpus.md: every pod of a card's profile and values has a place, and the commands name what is rendered."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kuberay import render
from kuberay.doctor.finding import ERROR
from kuberay.images import Images
from kuberay.manifest.nvidia import mig_parted, time_slicing
from kuberay.profiles import MIG, PROFILES, SMALL_GPUS, Profile
from kuberay.values_file import applied
from testing.manifests import Manifests, load, load_all

TEXT = (Path(__file__).parents[2] / "docs" / "kubernetes" / "gpus.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([\w, ]+) \| (\d+) \| `([\w-]+)` \|(?: `(.*?)`)? \| (.*?) \|$", TEXT, re.MULTILINE)
PATCHES = [json.loads(text)["spec"] for text in re.findall(r"-p '(\{.*?\})'", TEXT)]


def profile(row: tuple[str, ...]) -> Profile:
    return applied(load(row[3] or "{}"), PROFILES[row[2]])


def test_the_table_has_each_card() -> None:
    cards = {(name, memory) for names, memory, *_ in ROWS for name in names.split(", ")}
    assert cards == {
        *(("T4", "16"), ("L4", "24"), ("A10", "24"), ("L40S", "48")),
        *(("A100", "40"), ("A100", "80"), ("H100", "80"), ("H200", "141")),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_every_pod_of_a_card_has_a_place(row: tuple[str, ...]) -> None:
    assert [str(one) for one in Manifests(profile(row)).findings() if one.severity is ERROR] == []


@pytest.mark.parametrize("row", [row for row in ROWS if row[4] != "none"], ids=lambda row: f"{row[0]} {row[1]}")
def test_the_layout_of_a_card_is_one_that_it_has(row: tuple[str, ...]) -> None:
    listed = [
        {part: int(count) for count, part in re.findall(r"(\d) of (\w+\.\w+)", choice)}
        for choice in re.split(r", or |, (?=\d of)", row[4])
    ]
    (config,) = mig_parted(profile(row))
    for (layout,) in load(config["data"]["config.yaml"])["mig-configs"].values():
        if layout["mig-enabled"]:
            assert layout["mig-devices"] in listed


def test_the_commands_of_mig_name_the_rendered_config() -> None:
    (config,) = mig_parted(MIG)
    assert PATCHES[0]["migManager"]["config"]["name"] == config["metadata"]["name"]
    layouts = load(config["data"]["config.yaml"])["mig-configs"]
    assert set(re.findall(r"nvidia.com/mig.config=([\w-]+)", TEXT)) <= set(layouts)
    assert "cluster/mig/nvidia/mig-parted.yaml" in TEXT
    assert "nvidia/mig-parted.yaml" in render.manifests(MIG, Images())


def test_the_commands_of_time_slicing_name_the_rendered_config() -> None:
    shared = SMALL_GPUS.changed({"gpu": {"time_slicing_replicas": 3}})
    (config,) = time_slicing(shared)
    assert PATCHES[1]["devicePlugin"]["config"]["name"] == config["metadata"]["name"]
    assert set(re.findall(r"device-plugin.config=(\w+)", TEXT)) == set(config["data"])
    assert "nvidia/time-slicing.yaml" in render.manifests(shared, Images())


@pytest.mark.parametrize("one", PROFILES.values(), ids=lambda one: one.name)
def test_a_container_sees_a_gpu_only_where_it_asks_for_one(one: Profile) -> None:
    seen = {}
    for text in render.manifests(one, Images()).values():
        for container in containers(load_all(text)):
            asks = any("nvidia.com/" in name for name in container["resources"].get("limits", {}))
            void = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container.get("env", [])
            if container["name"] != "redis":  # its image is not of NVIDIA's
                seen[asks] = seen.get(asks, True) and asks != void
    assert seen == ({False: True} if one.name == "cpu" else {False: True, True: True})


def containers(part: Any) -> list[dict[str, Any]]:
    if isinstance(part, list):
        return [found for one in part for found in containers(one)]
    if not isinstance(part, dict):
        return []
    own = [*part.get("containers", []), *part.get("initContainers", [])] if isinstance(part.get("containers"), list) else []
    return own + [found for one in part.values() for found in containers(one)]
