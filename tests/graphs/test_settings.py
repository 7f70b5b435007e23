"""Settings: frozen, documented, and refused if a key or a value is unknown."""

import pickle
import re
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.base import bind
from deployments.concurrency import requests_per_replica
from deployments.model_spec import ModelSpec, specs
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from deployments.settings import Section
from graphs.audio.settings import AudioSettings
from graphs.settings import GRAPHS, Settings
from graphs.voice_to_image import app
from kuberay.manifest.rayservice import ray_env


def sections(section: type[Section] = Settings) -> Iterator[type[Section]]:
    """Yield the root and every section below it."""
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


SECTIONS = list(sections())


def test_the_root_has_a_section_for_recordings_for_the_edge_and_for_each_model() -> None:
    assert list(Settings.model_fields) == ["graphs", "models", "audio", "http", "logging", "rollouts", "tracing", *specs()]
    assert len(SECTIONS) == 6 + len(specs())


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


def test_an_unknown_nested_key_is_refused_with_its_path() -> None:
    with pytest.raises(ValidationError, match=r"diffusion\.step\n  there is no such key; did you mean steps\?"):
        Settings.model_validate({"diffusion": {"step": 4}})


def test_of_several_faults_each_is_named_and_bounds_keep_their_numbers() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"http": {"deadline_s": 0, "max_upload_byte": 1}, "htp": {}, "rollouts": {"samples_folder": "a"}})
    found = {".".join(map(str, one["loc"])): one["msg"] for one in raised.value.errors()}
    assert found == {
        "http.deadline_s": "Input should be greater than 0",
        "http.max_upload_byte": "there is no such key; did you mean max_upload_bytes?",
        "rollouts.samples_folder": "Value error, rollouts.samples_folder is 'a': name the whole path, or a URL",
        "htp": "there is no such key; did you mean http?",
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_are_frozen(section: type[Section]) -> None:
    settings = section()
    name = next(iter(section.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


def test_settings_survive_pickling_as_serve_sends_them() -> None:
    settings = Settings.model_validate({"whisper": {"model": "base"}, "diffusion": {"steps": 4}})
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("http", "max_upload_bytes", 0),
        ("audio", "max_duration_s", 0),
        ("audio", "max_duration_s", 3601),
        ("http", "deadline_s", 0),
        ("http", "max_concurrent_requests", 0),
        ("http", "max_concurrent_uploads", 0),
        ("http", "body_idle_timeout_s", 0),
        ("http", "min_body_bytes_per_s", 0),
        ("http", "key_max_concurrent_requests", 0),
        ("http", "max_buffered_bytes", 25 * 1024 * 1024 - 1),
        ("logging", "level", "TRACE"),
        ("logging", "output", "out.txt"),
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
        ("diffusion", "max_queue_delay_s", -0.1),
        ("diffusion", "max_queue_delay_s", 10.1),
        ("diffusion", "safety_checker", "perhaps"),
    ],
)
def test_a_value_beyond_its_bound_is_refused(section: str, name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"{section}\.{name}\n"):
        Settings.model_validate({section: {name: value}})


@pytest.mark.parametrize("max_buffered_bytes", [{}, {"max_buffered_bytes": 300 * 1024 * 1024 - 1}], ids=["default", "set"])
def test_a_buffer_smaller_than_one_recording_is_refused_with_the_other_setting(max_buffered_bytes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"http\.max_buffered_bytes\n.*at least max_upload_bytes, which is 314572800"):
        Settings.model_validate({"http": {"max_upload_bytes": 300 * 1024 * 1024, **max_buffered_bytes}})


def test_int8_is_refused_for_an_engine_without_it() -> None:
    with pytest.raises(ValidationError, match=r"whisper\.precision\n.*by faster-whisper alone: set engine to it"):
        Settings.model_validate({"whisper": {"precision": "int8"}})
    Settings.model_validate({"whisper": {"precision": "int8", "engine": "faster-whisper"}})


def test_the_bytes_of_one_largest_recording_suffice() -> None:
    Settings.model_validate({"http": {"max_upload_bytes": 1000, "max_buffered_bytes": 1000}})


def test_the_ingress_accepts_more_requests_than_it_admits() -> None:
    for http in ({}, {"max_concurrent_requests": 500, "max_concurrent_uploads": 1000}):
        settings = Settings.model_validate({"http": http})
        admitted = settings.http.max_concurrent_requests + settings.http.max_concurrent_uploads
        assert app(settings)._bound_deployment.max_ongoing_requests >= admitted + 64, (
            "at the bounds the ingress can neither refuse a request nor answer a probe"
        )


@pytest.mark.parametrize("max_batch", [1, 3, 8, 16])
@pytest.mark.parametrize("spec", specs().values(), ids=specs())
def test_serve_never_holds_back_requests_that_a_batch_could_take(spec: ModelSpec, max_batch: int) -> None:
    settings = Settings.model_validate({spec.name: {"max_batch": max_batch}})
    bound = bind(spec, settings.section(spec))._bound_deployment
    assert bound.max_ongoing_requests >= 2 * requests_per_replica(max_batch) >= 2 * (max_batch + 1)


def test_the_defaults_match_the_documentation() -> None:
    settings = Settings()
    assert settings.http.max_upload_bytes == 25 * 1024 * 1024
    assert settings.audio.max_duration_s == 60
    assert settings.http.deadline_s == 120
    assert settings.http.max_concurrent_requests == 32
    assert settings.http.max_concurrent_uploads == 128
    assert settings.http.body_idle_timeout_s == 10
    assert settings.http.min_body_bytes_per_s == 500
    assert settings.http.max_buffered_bytes == 256 * 1024 * 1024
    assert settings.logging.transcripts is False
    assert settings.whisper.model == "tiny.en"
    assert settings.diffusion.model.endswith("/deployments/diffusion/small-stable-diffusion")


def test_a_models_card_names_it_in_the_log(tmp_path) -> None:
    (tmp_path / "painter").mkdir()
    settings = Settings.model_validate({"diffusion": {"model": str(tmp_path / "painter")}}).diffusion
    assert settings.card() == "painter"
    (tmp_path / "painter" / "README.md").write_text("---\nlicense: mit\n---\n# Paints foxes\n")
    assert settings.card() == "painter (Paints foxes)"


RENAMED = [
    (section, old, new)
    for section, field in Settings.model_fields.items()
    if issubclass(type(field.get_default(call_default_factory=True)), Section)
    for old, new in type(field.get_default(call_default_factory=True)).RENAMED.items()
]


@pytest.mark.parametrize(("section", "old", "new"), RENAMED)
def test_a_renamed_setting_is_refused_with_its_new_name(section: str, old: str, new: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"the setting {old} is now {new}")):
        Settings.model_validate({section: {old: 1}})
    in_section, name = new.split(" ")[0].split(".")
    assert hasattr(getattr(Settings(), in_section), name)


@pytest.mark.parametrize("graphs", [[], ["voice_to_song"], ["voice_to_text", "voice_to_song"]])
def test_an_unknown_graph_is_refused_with_the_known_ones(graphs: list[str]) -> None:
    with pytest.raises(ValidationError, match=f"graphs must be some of {', '.join(GRAPHS)}"):
        Settings.model_validate({"graphs": graphs})


def test_a_graph_alone_deploys_its_own_models() -> None:
    settings = Settings.model_validate({"graphs": ["voice_to_text", "voice_to_text"]})
    assert settings.graphs == ("voice_to_text",)
    assert list(app(Settings.model_validate({"graphs": ["voice_to_text"]}))._bound_deployment.init_kwargs) == ["whisper"]
    assert list(app(Settings())._bound_deployment.init_kwargs) == ["whisper", "diffusion"]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({"speech_to_text": "diffusion"}, "models.speech_to_text must be one of .*whisper"),
        ({"speech_to_text": "no_such_model"}, "models.speech_to_text must be one of .*whisper"),
        ({"image_to_image": "diffusion"}, "models.image_to_image must be (left out, since no model has this role|one of .+)"),
        ({"speech": "whisper"}, "there is no role speech: models takes speech_to_text, text_to_image, image_to_image"),
    ],
)
def test_a_role_accepts_only_models_that_have_it(models: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings.model_validate({"models": models})


def test_the_longest_recording_that_the_settings_allow_fits_a_message_between_replicas() -> None:
    (longest_s,) = (one.le for one in AudioSettings.model_fields["max_duration_s"].metadata if hasattr(one, "le"))
    samples_bytes = int(longest_s) * SAMPLE_RATE_HZ * np.dtype(np.int16).itemsize
    assert samples_bytes < 0.5 * int(ray_env()["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"])
