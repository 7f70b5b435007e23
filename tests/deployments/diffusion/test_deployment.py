"""The diffusion deployment over a scripted Triton: a request in, progress and an image out."""

import numpy as np
import pytest

from deployments.compute_time import ComputeTime
from deployments.diffusion.deployment import Diffusion
from deployments.diffusion.settings import DiffusionSettings
from deployments.errors import ContentRefused, InvalidInput
from deployments.roles.text_to_image import GenerateRequest, Image, Preview, Step
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from testing.fakes import FakeTriton

FOX = GenerateRequest("a fox 🦊")


def outputs(*, truncated: bool = False, flagged: bool = False) -> Tensors:
    return {
        "IMAGE": np.frombuffer(b"\x89PNG\0encoded\0\0", dtype=np.uint8),
        "IMAGE_SIZE": np.array([128, 64], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([truncated], dtype=np.uint8),
        "FLAGGED": np.array([flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([2.5], dtype=np.float32),
        "STEPS_TAKEN": np.array([8], dtype=np.int32),
        "COMPUTE_S": np.array([0.5, 0.25], dtype=np.float32),
        "BATCH_SIZE": np.array([3.5], dtype=np.float32),
    }


def step(step: int, steps: int, preview: bytes | None = None) -> Tensors:
    tensors = {"STEP": np.array([step, steps], dtype=np.int32), "ETA_MS": np.array([(steps - step) * 20.0], dtype=np.float32)}
    if preview is None:
        return tensors
    return tensors | {"PREVIEW": np.frombuffer(preview, dtype=np.uint8), "PREVIEW_SIZE": np.array([32, 16], dtype=np.int32)}


def deployment(triton: FakeTriton, **settings: object) -> Diffusion:
    return Diffusion(DiffusionSettings.model_validate({"model": "/models/painter", **settings}), triton)


async def inputs_of(request: GenerateRequest, **settings: object) -> dict[str, list[object]]:
    """The model's inputs, as Python's own values."""
    triton = FakeTriton(outputs())
    await deployment(triton, **settings).run(request, TimeLeft(10))
    return {name: tensor.tolist() for name, tensor in triton.inputs[0].items()}


async def test_outputs_become_an_image() -> None:
    image = await deployment(FakeTriton(outputs(truncated=True))).run(FOX, TimeLeft(10))
    assert image == Image(
        b"\x89PNG\0encoded\0\0",
        128,
        64,
        prompt_truncated=True,
        encode_ms=2.5,
        model="painter",
        compute_time=ComputeTime(0.5, 0.25, 8, 3.5),
    )
    assert type(image.prompt_truncated) is bool


async def test_a_requests_options_reach_the_model() -> None:
    request = GenerateRequest(
        "a fox 🦊",
        "blurry",
        steps=7,
        guidance_scale=5.5,
        width=128,
        height=64,
        seed=4294967295,
        format="webp",
        previews=2,
    )
    assert await inputs_of(request) == {
        "PROMPT": ["a fox 🦊".encode()],
        "NEGATIVE_PROMPT": [b"blurry"],
        "STEPS": [7],
        "GUIDANCE_SCALE": [5.5],
        "SIZE": [128, 64],
        "SEED": [4294967295],
        "FORMAT": [b"webp"],
        "PROGRESS": [0],
        "PREVIEWS": [2],
    }


async def test_a_stream_has_each_step_and_then_the_image() -> None:
    triton = FakeTriton(step(1, 3), step(2, 3, b"jpeg\0"), step(3, 3), outputs())
    *steps, image = [item async for item in deployment(triton).stream(GenerateRequest("a fox", previews=1), TimeLeft(10))]
    assert steps == [Step(1, 3, 40.0), Step(2, 3, 20.0, Preview(b"jpeg\0", 32, 16)), Step(3, 3, 0.0)]
    assert isinstance(image, Image)
    assert (triton.inputs[0]["PROGRESS"].tolist(), triton.inputs[0]["PREVIEWS"].tolist()) == ([1], [1])


async def test_a_streams_image_equals_the_single_results() -> None:
    image = await deployment(FakeTriton(outputs())).run(FOX, TimeLeft(10))
    assert [item async for item in deployment(FakeTriton(outputs())).stream(FOX, TimeLeft(10))] == [image]


async def test_the_settings_fill_in_options_that_the_request_leaves_open() -> None:
    inputs = await inputs_of(FOX, steps=31, guidance_scale=8.5)
    assert (inputs["STEPS"], inputs["GUIDANCE_SCALE"]) == ([31], [8.5])
    assert inputs["SIZE"] == [0, 0], "the model's own size"
    assert inputs["FORMAT"] == [b"png"]


async def test_no_guidance_is_an_option_that_the_settings_leave_alone() -> None:
    assert (await inputs_of(GenerateRequest("a fox", guidance_scale=0.0), guidance_scale=8.5))["GUIDANCE_SCALE"] == [0.0]


async def test_a_flagged_image_is_refused_and_the_next_one_is_generated() -> None:
    diffusion = deployment(FakeTriton(outputs(flagged=True), outputs()))
    with pytest.raises(ContentRefused, match="safety checker"):
        await diffusion.run(FOX, TimeLeft(10))
    assert (await diffusion.run(FOX, TimeLeft(10))).encoded


async def test_tritons_errors_reach_the_caller() -> None:
    error = InvalidInput("width and height must be multiples of 64 for this model")
    with pytest.raises(InvalidInput) as raised:
        await deployment(FakeTriton(error)).run(FOX, TimeLeft(10))
    assert raised.value is error


async def test_the_request_id_and_the_deadline_reach_triton() -> None:
    triton, time_left = FakeTriton(outputs()), TimeLeft(10)
    await deployment(triton).run(FOX, time_left, "id-1")
    assert triton.request_ids == ["id-1"]
    assert triton.times_left == [time_left]
