"""Images of a batch of the real engine equal those generated alone; what a batch computes and caches."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deployments.diffusion.batch import Batch
from deployments.diffusion.denoising import Generated
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.text_to_image import GenerateRequest, Image
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.pictures import draw, requests
from testing.pipelines import pixels, request
from testing.random_pipelines import set_scheduler, write

pytestmark = pytest.mark.torch

TOLERANCE = 2
"""Of 255, in every channel."""
MIXED = [
    request("a red apple", steps=9, seed=1),
    request("a cat", steps=4, guidance_scale=1.0, seed=2),
    request("a blue house", negative_prompt="dark, blurry", steps=12, guidance_scale=7.5, seed=3),
    request("a tree", steps=6, guidance_scale=0.0, seed=4, width=96, height=64),
    request("a red apple", steps=7, seed=4294967295, width=96, height=64),
    request("a fish", steps=1, seed=6),
    request("a yellow boat", steps=5, guidance_scale=4.0, seed=7, width=64, height=96),
    request("a dog", steps=10, seed=8),
]


@pytest.fixture(scope="module")
def engine() -> DiffusionEngine:
    return DiffusionEngine(EngineConfig(DiffusionSettings().model))


async def generate_together(engine: DiffusionEngine, requests: Sequence[GenerateRequest]) -> tuple[list[Image], int]:
    """The images, and the largest batch. Each joins one step after the one before it; another one among them is cancelled early."""
    batch_sizes: list[int] = []
    stepped, loop = asyncio.Event(), asyncio.get_running_loop()

    def count(steps: int) -> None:
        batch_sizes.append(steps)
        loop.call_soon_threadsafe(stepped.set)

    async def step() -> None:
        stepped.clear()
        async with asyncio.timeout(60):
            await stepped.wait()

    batch = Batch(engine, 8, on_steps=count)
    tasks: list[asyncio.Task[Generated]] = []
    tasks.append(asyncio.create_task(batch.generate(requests[0], {})))
    cancelled = asyncio.create_task(batch.generate(replace(requests[0], seed=99, steps=50), {}))
    for one in requests[1:]:
        await step()
        tasks.append(asyncio.create_task(batch.generate(one, {})))
    await step()
    await step()
    cancelled.cancel()
    generated = await asyncio.gather(*tasks)
    batch.close()
    return [one.image for one in generated], max(batch_sizes)


def greatest_difference(engine: DiffusionEngine, requests: Sequence[GenerateRequest], images: Sequence[Image]) -> int:
    """Of any channel, between an image and the one generated alone."""
    alone = [pixels(engine.generate(one, {}).image).astype(int) for one in requests]
    return max(int(np.abs(one - pixels(image)).max()) for one, image in zip(alone, images, strict=True))


@pytest.mark.parametrize("order", [1, -1])
async def test_an_image_of_a_mixed_batch_equals_the_one_generated_alone(engine: DiffusionEngine, order: int) -> None:
    requests = MIXED[::order]
    images, batch_size = await generate_together(engine, requests)
    assert batch_size >= 3
    assert greatest_difference(engine, requests, images) <= TOLERANCE
    assert len({image.encoded for image in images}) == len(requests)


async def test_the_pictures_of_one_request_share_every_step_and_are_those_drawn_alone(engine: DiffusionEngine) -> None:
    batch = Batch(engine, 8)

    async def stage(one: GenerateRequest, context: RequestContext) -> Image:
        return (await batch.generate(one, {})).image

    each = requests(request("a red apple", steps=6, seed=4294967294), 4)
    images = await draw(stage, each, RequestContext("id-1", TimeLeft(60)))
    batch.close()
    assert [one.compute_time.batch_size for one in images] == [4, 4, 4, 4]
    assert greatest_difference(engine, each, images) <= TOLERANCE
    assert len({one.encoded for one in images}) == 4


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [
        ("sd", "EulerAncestralDiscreteScheduler"),
        ("sd", "PNDMScheduler"),
        ("sdxl", "DPMSolverMultistepScheduler"),
        ("sdxl", "EulerDiscreteScheduler"),
    ],
)
async def test_other_pipelines_and_schedulers_keep_their_images_apart_too(kind: str, scheduler: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    set_scheduler(tmp_path, scheduler)
    engine = DiffusionEngine(EngineConfig(str(tmp_path)))
    images, batch_size = await generate_together(engine, MIXED[:5])
    assert batch_size >= 2
    assert greatest_difference(engine, MIXED[:5], images) <= TOLERANCE


def test_an_image_without_guidance_takes_one_place_in_the_unets_batch_and_a_guided_one_two(engine: DiffusionEngine) -> None:
    sizes: list[int] = []
    hook = engine._pipeline.unet.register_forward_pre_hook(lambda unet, arguments: sizes.append(len(arguments[0])))
    scales = (3.0, 1.0, 0.0, 7.5)
    engine.step([engine.begin(request("a cat", guidance_scale=scale)) for scale in scales])
    hook.remove()
    assert sizes == [2 + 1 + 1 + 2]


def test_a_prompt_is_encoded_once_and_few_are_cached(engine: DiffusionEngine) -> None:
    encoded: list[int] = []
    hook = engine._pipeline.text_encoder.register_forward_hook(lambda *arguments: encoded.append(1))
    for seed in range(3):
        engine.begin(request("a green frog", negative_prompt="a negative of its own", seed=seed))
    assert len(encoded) == 2
    for number in range(40):
        engine.begin(request(f"thing {number}", guidance_scale=0))
    engine.begin(request("a green frog", guidance_scale=0))
    hook.remove()
    assert len(encoded) == 2 + 40 + 1
