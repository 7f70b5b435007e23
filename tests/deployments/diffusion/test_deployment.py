"""The diffusion room over a scripted Triton: options in, an encoded picture out."""

import numpy as np
import pytest

from deployments.compute_time import ComputeTime
from deployments.diffusion import Diffusion, DiffusionSettings, GenerateOptions, Image, Preview, Step
from deployments.errors import ContentRefused, InvalidInput
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from testing.fakes import FakeTriton


def outputs(*, truncated: bool = False, flagged: bool = False) -> Tensors:
    return {
        "IMAGE": np.frombuffer(b"\x89PNG\0encoded\0\0", dtype=np.uint8),
        "IMAGE_SIZE": np.array([128, 64], dtype=np.int32),
        "PROMPT_TRUNCATED": np.array([truncated], dtype=np.uint8),
        "FLAGGED": np.array([flagged], dtype=np.uint8),
        "ENCODE_MS": np.array([2.5], dtype=np.float32),
        "STEPS_TAKEN": np.array([8], dtype=np.int32),
        "COST_S": np.array([2.5, 2.0], dtype=np.float32),
        "ROWS": np.array([3.5], dtype=np.float32),
    }


def step(done: int, of: int, preview: bytes | None = None) -> Tensors:
    said = {"STEP": np.array([done, of], dtype=np.int32), "ETA_MS": np.array([(of - done) * 20.0], dtype=np.float32)}
    if preview is None:
        return said
    return said | {"PREVIEW": np.frombuffer(preview, dtype=np.uint8), "PREVIEW_SIZE": np.array([32, 16], dtype=np.int32)}


def room(triton: FakeTriton, **settings: object) -> Diffusion:
    return Diffusion(DiffusionSettings.model_validate({"model": "/models/painter", **settings}), triton)


async def inputs_of(options: GenerateOptions, **settings: object) -> dict[str, list[object]]:
    """What the model gets, as Python's own values."""
    triton = FakeTriton(outputs())
    await room(triton, **settings).generate("a fox 🦊", options, TimeLeft(10))
    return {name: tensor.tolist() for name, tensor in triton.inputs[0].items()}


async def test_outputs_become_a_picture() -> None:
    image = await room(FakeTriton(outputs(truncated=True))).generate("a fox", GenerateOptions(), TimeLeft(10))
    assert image == Image(
        b"\x89PNG\0encoded\0\0",
        128,
        64,
        prompt_truncated=True,
        encode_ms=2.5,
        model="painter",
        cost=ComputeTime(0.5, 0.25, 8, 3.5),
    )
    assert type(image.prompt_truncated) is bool


async def test_options_reach_the_model() -> None:
    options = GenerateOptions("blurry", steps=7, guidance_scale=5.5, width=128, height=64, seed=4294967295, format="webp")
    assert await inputs_of(options) == {
        "PROMPT": ["a fox 🦊".encode()],
        "NEGATIVE_PROMPT": [b"blurry"],
        "STEPS": [7],
        "GUIDANCE_SCALE": [5.5],
        "SIZE": [128, 64],
        "SEED": [4294967295],
        "FORMAT": [b"webp"],
        "PROGRESS": [0],
        "PREVIEWS": [0],
    }


async def test_a_stream_tells_each_step_and_then_the_picture() -> None:
    triton = FakeTriton(step(1, 3), step(2, 3, b"jpeg\0"), step(3, 3), outputs())
    said = [item async for item in room(triton).generate_stream("a fox", GenerateOptions(), TimeLeft(10), previews=1)]
    *steps, image = said
    assert all(isinstance(one, Step) for one in steps)
    assert [(one.done, one.of, one.preview) for one in steps] == [
        (1, 3, None),
        (2, 3, Preview(b"jpeg\0", 32, 16)),
        (3, 3, None),
    ]
    assert [one.eta_ms for one in steps] == [40.0, 20.0, 0.0]
    assert isinstance(image, Image)
    assert (triton.inputs[0]["PROGRESS"].tolist(), triton.inputs[0]["PREVIEWS"].tolist()) == ([1], [1])


async def test_a_streams_picture_is_the_one_of_the_single_answer() -> None:
    whole = await room(FakeTriton(outputs())).generate("a fox", GenerateOptions(), TimeLeft(10))
    streamed = [item async for item in room(FakeTriton(outputs())).generate_stream("a fox", GenerateOptions(), TimeLeft(10))]
    assert streamed == [whole]


async def test_what_a_request_leaves_open_the_settings_decide() -> None:
    inputs = await inputs_of(GenerateOptions(), steps=31, guidance_scale=8.5)
    assert (inputs["STEPS"], inputs["GUIDANCE_SCALE"]) == ([31], [8.5])
    assert inputs["SIZE"] == [0, 0], "the model's own size"
    assert inputs["FORMAT"] == [b"png"]


async def test_no_guidance_is_a_choice_and_not_a_gap() -> None:
    assert (await inputs_of(GenerateOptions(guidance_scale=0.0), guidance_scale=8.5))["GUIDANCE_SCALE"] == [0.0]


async def test_a_flagged_picture_is_refused_and_the_next_one_is_drawn() -> None:
    served = room(FakeTriton(outputs(flagged=True), outputs()))
    with pytest.raises(ContentRefused, match="safety checker"):
        await served.generate("a fox", GenerateOptions(), TimeLeft(10))
    assert (await served.generate("a fox", GenerateOptions(), TimeLeft(10))).encoded


async def test_what_triton_raises_comes_through() -> None:
    error = InvalidInput("width and height must be multiples of 64 for this model")
    with pytest.raises(InvalidInput) as raised:
        await room(FakeTriton(error)).generate("a fox", GenerateOptions(), TimeLeft(10))
    assert raised.value is error


async def test_the_request_id_and_the_deadline_travel_along() -> None:
    triton, time_left = FakeTriton(outputs()), TimeLeft(10)
    await room(triton).generate("a fox", GenerateOptions(), time_left, "id-1")
    assert triton.request_ids == ["id-1"]
    assert triton.times_left == [time_left]
