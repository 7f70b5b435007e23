"""The chosen candidate as a file that `sonograph render` takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from graphs.settings import Settings
from kuberay import values_file
from kuberay.profiles import PROFILES
from sonograph.compare import plan, values
from sonograph.compare.plan import Candidate

REASON = "base is chosen:\n it is \x1b[31mcheap"


def candidate(role: str, model: str, engine: str = "", **more: Any) -> Candidate:
    (found,) = plan.candidates(role, [model], [engine] if engine else [], more)
    return found


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        (candidate("speech-to-text", "tiny.en", "openai-whisper"), {"model": "tiny.en", "engine": "openai-whisper"}),
        (
            candidate("speech-to-text", "base", "faster-whisper", padding="adaptive"),
            {"model": "base", "engine": "faster-whisper", "padding": "adaptive"},
        ),
    ],
)
def test_every_profile_takes_the_file_and_then_has_the_winner(
    tmp_path: Path, profile: str, winner: Candidate, expected: dict[str, Any]
) -> None:
    path = tmp_path / "values.yaml"
    values.write(path, winner, REASON)
    found = values_file.applied(values_file.read(path), PROFILES[profile]).args["whisper"]
    assert {name: found[name] for name in expected} == expected


def test_a_drawing_model_that_ships_takes_the_place_of_the_profiles_own() -> None:
    one = candidate("text-to-image", "small-stable-diffusion", steps=4)
    profile = next(found for found in PROFILES.values() if "model" in found.args.get("diffusion", {}))
    found = values_file.applied(yaml.safe_load(values.content(one, REASON)), profile).args["diffusion"]
    assert "model" not in found
    assert found["steps"] == 4


def test_the_settings_are_those_of_one_machine_too() -> None:
    one = candidate("speech-to-text", "base", "faster-whisper")
    found = Settings.model_validate(yaml.safe_load(values.content(one, REASON))["settings"])
    assert found.whisper.model == "base"


def test_the_reason_is_a_comment_whatever_it_holds() -> None:
    content = values.content(candidate("speech-to-text", "base", "faster-whisper"), REASON)
    assert content.startswith(f"{values.MARK}\n# base is chosen:")
    assert "\x1b" not in content
    assert list(yaml.safe_load(content)) == ["settings"]


def test_a_file_of_the_users_own_is_not_overwritten_and_one_of_the_command_is(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    assert values.refusal(path) == ""
    values.write(path, candidate("speech-to-text", "base", "faster-whisper"), REASON)
    assert values.refusal(path) == ""
    path.write_text("namespace: pictures\n")
    assert "was not written by this command" in values.refusal(path)
    assert "is no file" in values.refusal(tmp_path)
    assert "there is no folder" in values.refusal(tmp_path / "no" / "values.yaml")
