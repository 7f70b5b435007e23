"""The memory budget: measured peaks, free memory, and the images that fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.memory import MemoryBudget, free_bytes, peak_bytes
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest
from testing.random_pipelines import write

pytestmark = pytest.mark.torch


def test_the_peak_counts_the_tensors_that_exist_at_once() -> None:
    kib = 256  # floats

    def work() -> None:
        one = torch.zeros(kib)
        view = one.view(16, 16)
        two = view + 1
        del one, view
        del two
        torch.zeros(kib)

    assert peak_bytes(work) == 2 * 1024


def test_one_images_memory_grows_with_the_model(tmp_path: Path) -> None:
    write(tmp_path, "sd")
    small, large = (
        MemoryBudget.measure(DiffusionEngine(EngineConfig(model))) for model in (str(tmp_path), DiffusionSettings().model)
    )
    assert 0 < small.step_bytes_per_pixel < large.step_bytes_per_pixel
    assert 0 < small.decode_bytes_per_pixel < large.decode_bytes_per_pixel
    assert 0 < large.available_bytes < free_bytes("cpu")


def test_a_budget_always_fits_one_image() -> None:
    budget = MemoryBudget(available_bytes=1000, step_bytes_per_pixel=1, decode_bytes_per_pixel=1)
    assert [budget.fits(images, 400) for images in (1, 2, 3)] == [True, True, False]
    assert budget.fits(1, 4000)


def test_the_decoders_memory_does_not_grow_with_the_batch_of_large_images(tmp_path: Path) -> None:
    """At most 1024 x 1024 pixels are decoded in a call: four images of 512 x 512, one of 1024 x 1024."""
    pixels = 512 * 512
    budget = MemoryBudget(available_bytes=40 * pixels, step_bytes_per_pixel=1, decode_bytes_per_pixel=10)
    assert [budget.needed_bytes(images, pixels) / pixels for images in (1, 4, 8, 60)] == [10, 40, 40, 60]
    assert [budget.fits(images, pixels) for images in (8, 40, 41)] == [True, True, False]
    assert budget.needed_bytes(3, 4 * pixels) == 40 * pixels
    write(tmp_path, "sd")
    engine = DiffusionEngine(EngineConfig(str(tmp_path)))
    requests = [GenerateRequest("", steps=2, guidance_scale=1.0, width=512, height=512, seed=seed) for seed in range(5)]
    states = [engine.begin(request) for request in requests]
    sizes: list[int] = []
    hook = engine._pipeline.vae.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = engine.decode(states)
    hook.remove()
    assert sizes == [4, 1]
    assert all(np.array_equal(one.pixels, engine.decode([state])[0].pixels) for one, state in zip(together, states, strict=True))


def test_free_memory_is_bounded_by_the_containers_limit(tmp_path: Path) -> None:
    whole = free_bytes("cpu", tmp_path)
    assert whole > 2**24
    (tmp_path / "memory.stat").write_text("anon 3145728\nfile 4096\nshmem 1048576\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes("cpu", tmp_path) == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{10 * 2**20}\n")
    assert free_bytes("cpu", tmp_path) == 6 * 2**20
