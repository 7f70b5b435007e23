"""kuberay/README.md says what a person needs to deploy, and what it says is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from graphs.cli import cli
from kuberay import around, render
from kuberay.graph import CPU, PROFILES, REDIS_SECRET, TRITON, Profile
from kuberay.images import Images

ROOT = Path(__file__).parents[1]
README = (ROOT / "kuberay" / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.removeprefix("$ ").strip() for line in README.splitlines() for line in [line.strip()] if line.startswith("$ ")]


def row(first: str) -> list[str]:
    (found,) = (line for line in README.splitlines() if line.startswith(f"| `{first}` |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_each_profile_is_documented_with_its_groups(profile: Profile) -> None:
    _, _, groups, figures = row(profile.name)
    assert groups == ", ".join(group.name for group in profile.groups)
    assert (figures == "estimates") == (not profile.measured)


def test_each_file_and_alert_is_documented() -> None:
    for file in render.manifests(CPU, Images()):
        assert row(file)
    for alert in around.alerts(CPU):
        assert f"`{alert['alert']}`" in README


def test_the_times_are_those_of_the_manifests() -> None:
    times = CPU.times
    chain = (times.deadline_s, times.graceful_shutdown_s, times.drain_s, times.termination_s, times.deletion_delay_s)
    assert tuple(sorted(set(chain))) == chain
    table = README.split("| what | seconds |")[1].split("\n\n")[0]
    assert tuple(map(int, re.findall(r"\| (\d+) \|$", table, re.MULTILINE))) == chain
    assert f"deletes the first {times.deletion_delay_s} s later" in README


def test_every_command_of_ours_is_one_that_there_is() -> None:
    group: Any = typer.main.get_command(cli)
    ours = [command.split()[1:] for command in COMMANDS if command.startswith(".venv/bin/sonograph")]
    assert len(ours) >= 4
    for verb, *words in ours:
        options = {option for parameter in group.commands[verb].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_every_namespace_label_that_the_policies_ask_for_is_set() -> None:
    asked = set(re.findall(r"sonograph/\w+", str(around.network())))
    assert asked == {"sonograph/operator", "sonograph/monitoring", "sonograph/clients"}
    for label in asked:
        assert any(command.startswith("kubectl label namespace") and f"{label}=" in command for command in COMMANDS)


def test_what_is_made_by_hand_has_the_names_that_the_manifests_use() -> None:
    assert any(f"create secret generic {REDIS_SECRET} --from-literal=password=" in command for command in COMMANDS)
    assert "create namespace sonograph" in README
    assert f"tritonserver:{TRITON}-py3" in README


def test_the_main_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("sonograph render cpu", "sonograph doctor kuberay/manifests/cpu"):
        assert command in text
        assert command in README
