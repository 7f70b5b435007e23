"""The phrases of `--help`, the options that several commands share, and docs/command-line.md, which has both."""

import re
from typing import Any

import pytest
import typer

from sonograph.cli import cli
from testing.service import ROOT

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
NO_VERBS = ("Sonograph", "This", "The", "It")


def commands(group: Any, name: str = "") -> dict[str, Any]:
    """Return every command by its words after `sonograph`."""
    found: dict[str, Any] = {}
    for word, command in group.commands.items():
        words = f"{name} {word}".strip()
        found |= {words: command, **(commands(command, words) if hasattr(command, "commands") else {})}
    return found


COMMANDS = commands(typer.main.get_command(cli))
TABLE = {
    name: meaning
    for names, meaning in re.findall(r"^\| ((?:`[a-z ]+`(?:, )?)+) \| (.*) \|$", PAGE, re.MULTILINE)
    for name in re.findall("`([a-z ]+)`", names)
    if name != "sonograph"
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_begins_with_an_imperative_verb_and_is_a_sentence(name: str) -> None:
    first, *_ = (COMMANDS[name].help or "").split("\n\n")
    verb = first.split()[0]
    assert verb.istitle()
    assert verb not in NO_VERBS
    assert not verb.endswith("s"), f"{verb}: a command does it when it is told to"
    assert first.rstrip().endswith("."), first


def test_the_page_has_each_command_with_the_verb_of_its_help() -> None:
    top = {name for name, command in COMMANDS.items() if " " not in name and not hasattr(command, "commands")}
    assert top | {"rollout", "new model", "new graph"} == set(TABLE)
    for name, meaning in TABLE.items():
        if not name.startswith("new "):  # one row for both
            assert meaning.split()[0] == (COMMANDS[name].help or "").split()[0].lower(), name


@pytest.mark.parametrize("option", ["--url", "--dashboard", "--ray-token-file", "--namespace", "--context"])
def test_an_option_of_several_commands_is_the_same_in_all(option: str) -> None:
    found = [one for command in COMMANDS.values() for one in command.params if option in one.opts]
    assert len(found) > 1
    assert len({(tuple(one.opts), getattr(one, "help", None), str(one.default)) for one in found}) == 1


def test_one_option_reads_what_runs_and_another_changes_it() -> None:
    takers = {
        option: {name for name, one in COMMANDS.items() if any(option in it.opts for it in one.params)}
        for option in ("--live", "--apply")
    }
    assert takers["--live"] == {"doctor"}
    assert takers["--apply"] == {f"rollout {name}" for name in ("start", "promote", "abort", "remove")}
