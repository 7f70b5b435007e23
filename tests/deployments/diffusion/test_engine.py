"""The diffusion engine without Triton: its denoising loop equals the stock pipelines', its refusals name the remedy."""

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file

from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.types import EngineConfig
from deployments.errors import InvalidInput
from deployments.roles.image_formats import IMAGE_FORMATS, ImageFormat
from deployments.roles.text_to_image import GenerateRequest
from testing.pipelines import StockPipeline, pixels, request
from testing.random_pipelines import KINDS, set_scheduler, write

pytestmark = pytest.mark.torch

DEFAULT = "DPMSolverMultistepScheduler"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a small pipeline of random weights, by its kind and scheduler."""
    folder = tmp_path_factory.mktemp("pipelines")
    write(folder / "sd", "sd")
    write(folder / "sdxl", "sdxl")
    write(folder / "checked", "sd", safety_checker=True)

    def of(kind: str, scheduler: str = DEFAULT) -> Path:
        path = folder / f"{kind}-{scheduler}"
        if not path.exists():
            shutil.copytree(folder / kind, path)
            set_scheduler(path, scheduler)
        return path

    return of


@pytest.fixture(scope="module")
def engines(pipelines: Callable[..., Path]) -> Callable[..., DiffusionEngine]:
    return functools.cache(lambda kind, scheduler=DEFAULT: DiffusionEngine(EngineConfig(str(pipelines(kind, scheduler)))))


@pytest.fixture(scope="module")
def engine(engines: Callable[..., DiffusionEngine]) -> DiffusionEngine:
    return engines("sd")


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [
        ("sd", DEFAULT),
        ("sd", "EulerAncestralDiscreteScheduler"),
        ("sd", "PNDMScheduler"),
        ("sdxl", DEFAULT),
    ],
)
def test_the_images_equal_those_of_the_stock_pipeline(
    kind: str, scheduler: str, pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine]
) -> None:
    engine, stock = engines(kind, scheduler), StockPipeline(pipelines(kind, scheduler))
    for scale, seed in ((0.0, 1), (1.0, 2), (5.0, 4294967295)):
        for negative in ("blurry, dark", ""):
            asked = request("a fox in the snow", negative_prompt=negative, steps=3, guidance_scale=scale, seed=seed)
            assert np.array_equal(pixels(engine.generate(asked, {}).image), stock.generate(asked)), (
                f"guidance {scale}, {negative}"
            )


def test_an_image_of_another_size_equals_the_stock_pipelines_too(
    pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine]
) -> None:
    scheduler = "EulerAncestralDiscreteScheduler"
    asked = request("a fox", steps=2, width=96, height=40, seed=3)
    image = engines("sdxl", scheduler).generate(asked, {}).image
    assert (image.width, image.height) == (96, 40)
    assert np.array_equal(pixels(image), StockPipeline(pipelines("sdxl", scheduler)).generate(asked))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(engine: DiffusionEngine) -> None:
    first, again, other = (engine.generate(request("a fox", steps=2, seed=seed), {}).image for seed in (5, 5, 6))
    assert first.encoded == again.encoded
    assert first.encoded != other.encoded


def test_an_image_has_the_models_own_size_where_the_request_names_none(engine: DiffusionEngine) -> None:
    image, flagged, _ = engine.generate(request("a fox", steps=1), {})
    assert (image.width, image.height) == (64, 64)
    assert pixels(image).shape == (64, 64, 3)
    assert (flagged, image.prompt_truncated) == (False, False)
    assert (image.model, image.compute_time.units) == ("sd-DPMSolverMultistepScheduler", 1)


def test_a_request_that_names_no_steps_is_refused(engine: DiffusionEngine) -> None:
    with pytest.raises(ValueError, match=r"DiffusionSettings\.with_defaults"):
        engine.generate(GenerateRequest("a fox"), {})


def test_a_size_that_the_model_cannot_generate_is_refused(engine: DiffusionEngine) -> None:
    with pytest.raises(InvalidInput, match="multiples of 8"):
        engine.generate(request("a fox", width=60, height=64), {})


def test_a_scheduler_that_takes_more_steps_than_the_request_names_counts_them(engines: Callable[..., DiffusionEngine]) -> None:
    engine, asked = engines("sd", "PNDMScheduler"), request("a fox", steps=5)
    assert engine.begin(asked).steps == 6
    assert engine.generate(asked, {}).image.compute_time.units == 6


@pytest.mark.parametrize("scheduler", [DEFAULT, "EulerAncestralDiscreteScheduler", "PNDMScheduler", "DDIMScheduler"])
def test_a_preview_predicts_the_image_and_changes_nothing(scheduler: str, engines: Callable[..., DiffusionEngine]) -> None:
    engine, previews = engines("sd", scheduler), []
    asked = request("a fox", steps=4, seed=5)

    state = engine.begin(asked)
    while state.step < state.steps:
        engine.step([state])
        (preview,) = engine.preview([state])
        opened = PIL.Image.open(io.BytesIO(preview.encoded))
        assert (opened.format, opened.size) == ("JPEG", (preview.width, preview.height))
        previews.append(np.asarray(opened).astype(int))
    ((decoded, _),) = engine.decode([state])
    image = engine.generate(asked, {}).image
    assert np.array_equal(decoded, pixels(image))
    final = pixels(image).astype(int)
    errors = [np.abs(final - preview).mean() for preview in previews]
    assert len(errors) == image.compute_time.units
    assert errors[-1] <= 1.01 * min(errors), "the last preview is nearly the image itself"
    assert errors[-1] < errors[0]


def test_a_preview_is_small(engine: DiffusionEngine) -> None:
    state = engine.begin(request("a fox", steps=1, width=512, height=256))
    engine.step([state])
    assert [(preview.width, preview.height) for preview in engine.preview([state])] == [(256, 128)]


def test_an_image_says_whether_its_prompt_was_truncated(engine: DiffusionEngine) -> None:
    fits = "a" * 75  # the small tokenizer has a token for each letter, and adds one at each end
    assert not engine.generate(request(fits, steps=1), {}).image.prompt_truncated
    assert engine.generate(request(fits + "a", steps=1), {}).image.prompt_truncated


@pytest.mark.parametrize("format", IMAGE_FORMATS.values(), ids=lambda format: format.name)
def test_an_image_has_the_requests_format(engine: DiffusionEngine, format: ImageFormat) -> None:
    image = engine.generate(request("a fox", steps=1, format=format.name), {"prompt": "a fox"}).image
    opened = PIL.Image.open(io.BytesIO(image.encoded))
    assert (opened.get_format_mimetype(), opened.size, opened.mode) == (format.media_type, (64, 64), "RGB")


@pytest.mark.parametrize("prompt", ["a fox", "ein Füchschen", "雪の中の狐 🦊", "line\nbreak", "x" * 2000])
def test_a_png_carries_prompt_seed_and_model(engine: DiffusionEngine, prompt: str) -> None:
    metadata = {"prompt": prompt, "seed": "7", "model": "tiny"}
    opened = PIL.Image.open(io.BytesIO(engine.generate(request(prompt, steps=1), metadata).image.encoded))
    assert opened.text == metadata


def test_another_pipeline_class_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.0"}')
    with pytest.raises(
        ValueError, match="is a FluxPipeline; this service runs StableDiffusionPipeline and StableDiffusionXLPipeline"
    ):
        DiffusionEngine(EngineConfig(str(tmp_path)))


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="where there is no diffusers pipeline"):
        DiffusionEngine(EngineConfig(str(tmp_path)))


def test_only_safetensors_are_loaded(pipelines: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines("sd"), tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        DiffusionEngine(EngineConfig(str(folder)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_safety_checker_that_the_pipeline_lacks_is_refused(kind: str, pipelines: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"diffusion\.safety_checker is on"):
        DiffusionEngine(EngineConfig(str(pipelines(kind)), safety_checker=True))


def test_a_safety_checker_flags_an_image_and_does_not_run_where_it_is_off(pipelines: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines("checked"), tmp_path / "checked")
    for threshold, flagged in ((-2.0, True), (2.0, False)):
        checker = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
        checker.concept_embeds_weights.data.fill_(threshold)  # a cosine is never beyond 1
        checker.special_care_embeds_weights.data.fill_(2.0)
        checker.save_pretrained(folder / "safety_checker")
        checked = DiffusionEngine(EngineConfig(str(folder), safety_checker=True))
        assert checked.generate(request("a fox", steps=1), {}).flagged is flagged
    assert DiffusionEngine(EngineConfig(str(folder))).generate(request("a fox", steps=1), {}).flagged is False


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_bf16_gives_nearly_the_same_image(
    pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine], kind: str
) -> None:
    asked = request("a red apple", steps=4, seed=3)
    exact = pixels(engines(kind).generate(asked, {}).image)
    rounded = pixels(DiffusionEngine(EngineConfig(str(pipelines(kind)), precision="bf16")).generate(asked, {}).image)
    assert 0 < np.abs(exact.astype(int) - rounded).mean() < 8


def test_fp16_on_a_cpu_is_refused_with_what_to_set(pipelines: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"diffusion.precision is fp16, which needs a GPU: set it to fp32 or bf16"):
        DiffusionEngine(EngineConfig(str(pipelines("sd")), device="cpu", precision="fp16"))


def test_more_steps_than_a_distilled_models_are_refused_before_its_turn(engines: Callable[..., DiffusionEngine]) -> None:
    engine = engines("sd", "LCMScheduler")
    assert engine.size(request("a cat", steps=50)) == (64, 64)
    with pytest.raises(InvalidInput, match="cannot do 150 steps: ask for at most 50"):
        engine.size(request("a cat", steps=150))


def test_a_number_of_steps_below_the_schedulers_is_refused(pipelines: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines("sd", "PNDMScheduler"), tmp_path / "sd")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "skip_prk_steps": False}))
    with pytest.raises(InvalidInput, match="cannot do 3 steps: ask for more"):
        DiffusionEngine(EngineConfig(str(folder))).generate(request("a cat", steps=3), {})
