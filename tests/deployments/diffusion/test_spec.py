"""The diffusion model's description, its types and its settings: light to import, and one place for each value."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL.Image import registered_extensions

from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.spec import SPEC, workload
from deployments.diffusion.types import EngineConfig
from deployments.engine_config import from_parameters, to_parameters
from deployments.model_spec import specs
from deployments.roles.image_formats import IMAGE_FORMATS
from deployments.roles.text_to_image import GenerateRequest, Preview, Step

ROOT = Path(__file__).parents[3]
HEAVY = ["ray", "torch", "numpy", "PIL", "diffusers", "transformers", "tritonserver"]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("settings", HEAVY), ("spec", HEAVY), ("types", [*HEAVY, "pydantic"])],
    ids=["settings", "spec", "types"],
)
def test_a_description_loads_neither_ray_nor_a_model_library(module: str, heavy: list[str]) -> None:
    program = (
        f"import json, sys, deployments.diffusion.{module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_the_spec_is_found_by_the_folders_name() -> None:
    assert specs()["diffusion"] is SPEC
    assert SPEC.events == ("image.step", "image.preview")
    assert SPEC.load().__name__ == "Diffusion"


def test_a_requests_workload_is_its_steps_and_its_key_is_size_and_guidance() -> None:
    settings = DiffusionSettings(steps=9, guidance_scale=1.0)
    default = workload(GenerateRequest("a fox"), settings)
    guided = workload(GenerateRequest("a fox", steps=4, guidance_scale=1.5, width=64, height=32), settings)
    assert (default.key, default.units) == ((None, None, False), 9)
    assert (guided.key, guided.units) == ((64, 32, True), 4)


def test_defaults_fill_in_only_options_that_the_request_leaves_open() -> None:
    settings = DiffusionSettings(steps=9, guidance_scale=1.0)
    assert settings.with_defaults(GenerateRequest("a fox")) == GenerateRequest("a fox", steps=9, guidance_scale=1.0)
    named = GenerateRequest("a fox", steps=1, guidance_scale=0.0)
    assert settings.with_defaults(named) == named


def test_an_engines_configuration_survives_the_way_to_the_model() -> None:
    config = EngineConfig('/models/a "b"', "cpu", "bf16", threads=3, safety_checker=True, max_batch=5, max_queue_delay_s=0.02)
    assert from_parameters(to_parameters(config), EngineConfig) == config
    assert EngineConfig("hub/id").model_name == "hub/id"
    assert EngineConfig("/models/painter").model_name == "painter"


def test_a_step_is_one_event_and_with_a_preview_two() -> None:
    assert list(Step(2, 12, 80.4).events()) == [("image.step", {"step": 2, "steps": 12, "eta_ms": 80})]
    _, (name, data) = Step(2, 12, 80.4, Preview(b"jpeg", 64, 48)).events()
    assert name == "image.preview"
    assert list(data.items()) == [
        ("step", 2),
        ("media_type", "image/jpeg"),
        ("base64", "anBlZw=="),
        ("width", 64),
        ("height", 48),
    ]


def test_pillow_knows_each_image_format_by_its_name() -> None:
    assert list(IMAGE_FORMATS) == ["png", "jpeg", "webp"]
    for name, format in IMAGE_FORMATS.items():
        assert (format.name, format.media_type) == (name, f"image/{name}")
        assert name.upper() in registered_extensions().values()


def test_a_request_is_plain_and_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerateRequest("a fox").seed = 1  # type: ignore[misc]
