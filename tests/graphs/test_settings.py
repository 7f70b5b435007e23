"""Settings: frozen, documented, and refused where a key or a value is not known."""

import pickle
from collections.abc import Iterator
from types import ModuleType

import pytest
from pydantic import ValidationError

from deployments import diffusion, whisper
from deployments.concurrency import requests_per_replica
from deployments.settings import Section
from graphs.settings import VoiceToImageSettings
from graphs.voice_to_image import app


def sections(section: type[Section] = VoiceToImageSettings) -> Iterator[type[Section]]:
    """The root, and every section below it."""
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


SECTIONS = list(sections())


def test_the_root_has_a_section_for_the_edge_and_for_each_room() -> None:
    assert list(VoiceToImageSettings.model_fields) == ["http", "whisper", "diffusion"]
    assert len(SECTIONS) == 4


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_default_and_is_documented(section: type[Section]) -> None:
    section()
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no docstring"
        assert field.description.endswith((".", "."))


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_refused_by_name(section: type[Section]) -> None:
    with pytest.raises(ValidationError, match="no_such_setting"):
        section.model_validate({"no_such_setting": 1})


def test_an_unknown_key_deep_inside_is_refused_with_its_place() -> None:
    with pytest.raises(ValidationError, match=r"diffusion\.step\n"):
        VoiceToImageSettings.model_validate({"diffusion": {"step": 4}})


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_do_not_change(section: type[Section]) -> None:
    settings = section()
    name = next(iter(section.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


def test_settings_survive_pickling_as_serve_sends_them() -> None:
    settings = VoiceToImageSettings.model_validate({"whisper": {"model": "base"}, "diffusion": {"steps": 4}})
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("http", "max_upload_bytes", 0),
        ("http", "max_audio_s", 0),
        ("http", "max_audio_s", 3601),
        ("http", "deadline_s", 0),
        ("http", "max_requests", 0),
        ("http", "max_requests", 57),
        ("http", "max_bytes", 25 * 1024 * 1024 - 1),
        ("whisper", "engine", "whisper.cpp"),
        ("whisper", "device", "tpu"),
        ("whisper", "precision", "int4"),
        ("whisper", "no_speech_threshold", 1.1),
        ("whisper", "logprob_threshold", 0.1),
        ("whisper", "stall_s", 0),
        ("diffusion", "precision", "int8"),
        ("diffusion", "steps", 0),
        ("diffusion", "steps", 151),
        ("diffusion", "guidance_scale", "nan"),
        ("diffusion", "guidance_scale", 31),
        ("diffusion", "max_side_px", 12),
        ("diffusion", "max_side_px", 0),
        ("diffusion", "max_batch", 0),
        ("diffusion", "max_batch", 17),
        ("diffusion", "safety_checker", "perhaps"),
    ],
)
def test_a_value_beyond_its_bound_is_refused(section: str, name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"{section}\.{name}\n"):
        VoiceToImageSettings.model_validate({section: {name: value}})


@pytest.mark.parametrize("max_bytes", [{}, {"max_bytes": 300 * 1024 * 1024 - 1}], ids=["by default", "as it is set"])
def test_what_could_not_hold_one_recording_is_refused_with_the_other_setting(max_bytes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"http\.max_bytes\n.*at least max_upload_bytes, which is 314572800"):
        VoiceToImageSettings.model_validate({"http": {"max_upload_bytes": 300 * 1024 * 1024, **max_bytes}})


def test_int8_is_refused_for_the_engine_that_has_it_not() -> None:
    with pytest.raises(ValidationError, match=r"whisper\.precision\n.*by faster-whisper alone: set engine to it"):
        VoiceToImageSettings.model_validate({"whisper": {"precision": "int8"}})
    VoiceToImageSettings.model_validate({"whisper": {"precision": "int8", "engine": "faster-whisper"}})


def test_the_bytes_of_one_largest_recording_suffice() -> None:
    VoiceToImageSettings.model_validate({"http": {"max_upload_bytes": 1000, "max_bytes": 1000}})


def test_the_ingress_takes_more_requests_than_can_be_admitted() -> None:
    most = VoiceToImageSettings.model_validate({"http": {"max_requests": 56}})
    assert app(most)._bound_deployment.max_ongoing_requests >= most.http.max_requests + 8, (
        "nobody could refuse, and no probe pass"
    )


@pytest.mark.parametrize("max_batch", [1, 3, 8, 16])
@pytest.mark.parametrize("room", [whisper, diffusion])
def test_a_batch_never_waits_for_requests_that_serve_holds_back(room: ModuleType, max_batch: int) -> None:
    settings = VoiceToImageSettings.model_validate({room.__name__.split(".")[-1]: {"max_batch": max_batch}})
    bound = room.bind(getattr(settings, room.__name__.split(".")[-1]))._bound_deployment
    assert bound.max_ongoing_requests >= 2 * requests_per_replica(max_batch) >= 2 * (max_batch + 1)


def test_the_defaults_are_what_the_readme_promises() -> None:
    settings = VoiceToImageSettings()
    assert settings.http.max_upload_bytes == 25 * 1024 * 1024
    assert settings.http.max_audio_s == 60
    assert settings.http.deadline_s == 120
    assert settings.http.max_requests == 32
    assert settings.http.max_bytes == 256 * 1024 * 1024
    assert settings.http.log_transcripts is False
    assert settings.whisper.model == "tiny.en"
    assert settings.diffusion.model.endswith("/deployments/diffusion/small-stable-diffusion")


def test_a_models_card_names_it_in_the_log(tmp_path) -> None:
    (tmp_path / "painter").mkdir()
    settings = VoiceToImageSettings.model_validate({"diffusion": {"model": str(tmp_path / "painter")}}).diffusion
    assert settings.card() == "painter"
    (tmp_path / "painter" / "README.md").write_text("---\nlicense: mit\n---\n# Paints foxes\n")
    assert settings.card() == "painter (Paints foxes)"
