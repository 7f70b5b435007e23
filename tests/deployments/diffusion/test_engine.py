"""The diffusion engine in torch, called directly: its denoising loop equals the stock pipelines', its refusals are sentences."""

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
from deployments.diffusion.types import Prompt
from deployments.errors import InvalidInput
from testing.pipelines import Stock, pixels
from testing.random_pipelines import KINDS, set_scheduler, write

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
    return functools.cache(lambda kind, scheduler=DEFAULT: DiffusionEngine(str(pipelines(kind, scheduler))))


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
def test_the_loop_draws_what_the_stock_pipeline_draws(
    kind: str, scheduler: str, pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine]
) -> None:
    engine, stock = engines(kind, scheduler), Stock(pipelines(kind, scheduler))
    for scale, seed in ((0.0, 1), (1.0, 2), (5.0, 4294967295)):
        prompt = Prompt("a fox in the snow", "blurry, dark", steps=3, guidance_scale=scale, seed=seed)
        assert np.array_equal(pixels(engine.generate(prompt, {})), stock.draw(prompt)), f"guidance {scale}"


def test_another_size_is_the_stock_pipelines_too(pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine]) -> None:
    scheduler = "EulerAncestralDiscreteScheduler"
    prompt = Prompt("a fox", steps=2, width=96, height=40, seed=3)
    picture = engines("sdxl", scheduler).generate(prompt, {})
    assert (picture.width, picture.height) == (96, 40)
    assert np.array_equal(pixels(picture), Stock(pipelines("sdxl", scheduler)).draw(prompt))


def test_the_same_seed_draws_the_same_bytes_and_another_one_others(engine: DiffusionEngine) -> None:
    first, again, other = (engine.generate(Prompt("a fox", steps=2, seed=seed), {}) for seed in (5, 5, 6))
    assert first.encoded == again.encoded
    assert first.encoded != other.encoded


def test_a_picture_has_the_models_own_size_where_none_is_asked_for(engine: DiffusionEngine) -> None:
    picture = engine.generate(Prompt("a fox", steps=1), {})
    assert (picture.width, picture.height) == (64, 64)
    assert pixels(picture).shape == (64, 64, 3)
    assert (picture.flagged, picture.prompt_truncated) == (False, False)


def test_a_size_that_the_model_cannot_draw_is_refused(engine: DiffusionEngine) -> None:
    with pytest.raises(InvalidInput, match="multiples of 8"):
        engine.generate(Prompt("a fox", width=60, height=64), {})


def test_a_scheduler_that_takes_more_steps_than_were_asked_for_announces_those(engines: Callable[..., DiffusionEngine]) -> None:
    engine, prompt = engines("sd", "PNDMScheduler"), Prompt("a fox", steps=5)
    assert engine.begin(prompt).of == 6
    assert engine.generate(prompt, {}).steps == 6


@pytest.mark.parametrize("scheduler", [DEFAULT, "EulerAncestralDiscreteScheduler", "PNDMScheduler", "DDIMScheduler"])
def test_a_preview_foresees_the_picture_and_changes_nothing(scheduler: str, engines: Callable[..., DiffusionEngine]) -> None:
    engine, previews = engines("sd", scheduler), []
    prompt = Prompt("a fox", steps=4, seed=5)

    denoising = engine.begin(prompt)
    while denoising.done < denoising.of:
        engine.step([denoising])
        ((encoded, width, height),) = engine.preview([denoising])
        opened = PIL.Image.open(io.BytesIO(encoded))
        assert (opened.format, opened.size) == ("JPEG", (width, height))
        previews.append(np.asarray(opened).astype(int))
    ((shown, _),) = engine.decode([denoising])
    picture = engine.generate(prompt, {})
    assert np.array_equal(shown, pixels(picture))
    final = pixels(picture).astype(int)
    misses = [np.abs(final - preview).mean() for preview in previews]
    assert len(misses) == picture.steps
    assert misses[-1] <= 1.01 * min(misses), "the last one is nearly the picture itself"
    assert misses[-1] < misses[0]


def test_a_preview_is_small(engine: DiffusionEngine) -> None:
    denoising = engine.begin(Prompt("a fox", steps=1, width=512, height=256))
    engine.step([denoising])
    assert [size for _, *size in engine.preview([denoising])] == [[256, 128]]


def test_words_beyond_what_the_text_encoder_reads_are_said_to_be_missing(engine: DiffusionEngine) -> None:
    fits = "a" * 75  # the small tokenizer has a token for each letter, and puts one before and one behind
    assert not engine.generate(Prompt(fits, steps=1), {}).prompt_truncated
    assert engine.generate(Prompt(fits + "a", steps=1), {}).prompt_truncated


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_picture_comes_in_the_format_that_was_asked_for(engine: DiffusionEngine, format: str) -> None:
    picture = engine.generate(Prompt("a fox", steps=1, format=format), {"prompt": "a fox"})
    opened = PIL.Image.open(io.BytesIO(picture.encoded))
    assert (opened.format, opened.size, opened.mode) == (format.upper(), (64, 64), "RGB")


@pytest.mark.parametrize("prompt", ["a fox", "ein Füchschen", "雪の中の狐 🦊", "line\nbreak", "x" * 2000])
def test_a_png_carries_prompt_seed_and_model(engine: DiffusionEngine, prompt: str) -> None:
    notes = {"prompt": prompt, "seed": "7", "model": "tiny"}
    opened = PIL.Image.open(io.BytesIO(engine.generate(Prompt(prompt, steps=1), notes).encoded))
    assert opened.text == notes


def test_another_pipeline_class_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.0"}')
    with pytest.raises(
        ValueError, match="is a FluxPipeline; this service runs StableDiffusionPipeline and StableDiffusionXLPipeline"
    ):
        DiffusionEngine(str(tmp_path))


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="where there is no diffusers pipeline"):
        DiffusionEngine(str(tmp_path))


def test_only_safetensors_are_loaded(pipelines: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines("sd"), tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        DiffusionEngine(str(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_safety_checker_that_is_wanted_and_missing_is_refused(kind: str, pipelines: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"diffusion\.safety_checker is on"):
        DiffusionEngine(str(pipelines(kind)), safety_checker=True)


def test_a_safety_checker_flags_what_it_dislikes_and_is_not_asked_where_it_is_off(
    pipelines: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(pipelines("checked"), tmp_path / "checked")
    for threshold, flagged in ((-2.0, True), (2.0, False)):
        checker = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
        checker.concept_embeds_weights.data.fill_(threshold)  # a cosine is never beyond 1
        checker.special_care_embeds_weights.data.fill_(2.0)
        checker.save_pretrained(folder / "safety_checker")
        assert DiffusionEngine(str(folder), safety_checker=True).generate(Prompt("a fox", steps=1), {}).flagged is flagged
    assert DiffusionEngine(str(folder)).generate(Prompt("a fox", steps=1), {}).flagged is False


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_bf16_draws_nearly_the_same_picture(
    pipelines: Callable[..., Path], engines: Callable[..., DiffusionEngine], kind: str
) -> None:
    prompt = Prompt("a red apple", steps=4, seed=3)
    exact = pixels(engines(kind).generate(prompt, {}))
    rounded = pixels(DiffusionEngine(str(pipelines(kind)), precision="bf16").generate(prompt, {}))
    assert 0 < np.abs(exact.astype(int) - rounded).mean() < 8


def test_fp16_on_a_cpu_is_refused_with_what_to_set(pipelines: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"diffusion.precision is fp16, which needs a GPU: set it to fp32 or bf16"):
        DiffusionEngine(str(pipelines("sd")), device="cpu", precision="fp16")


def test_a_scheduler_that_cannot_do_so_few_steps_says_so(pipelines: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines("sd", "PNDMScheduler"), tmp_path / "sd")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "skip_prk_steps": False}))
    with pytest.raises(InvalidInput, match="cannot do 3 steps: ask for more"):
        DiffusionEngine(str(folder)).generate(Prompt("a cat", steps=3), {})
