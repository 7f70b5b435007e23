"""The real openai client against the real service: synchronous, asynchronous, streaming."""

import base64
import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image

from tests.service import Service

pytestmark = pytest.mark.serve


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def picture(b64_json: str | None) -> Image.Image:
    found = Image.open(io.BytesIO(base64.b64decode(b64_json or "", validate=True)))
    found.load()
    return found


def test_a_picture_is_drawn_with_the_seed_of_its_request(client: openai.OpenAI) -> None:
    asked = {"model": "stable-diffusion", "prompt": "a red apple", "n": 2, "extra_body": {"seed": 1, "steps": 4}}
    first, again = (client.images.generate(**asked) for _ in range(2))
    assert first.data is not None
    assert [one.b64_json for one in first.data] == [one.b64_json for one in again.data or ()]
    assert first.data[0].b64_json != first.data[1].b64_json
    assert [picture(one.b64_json).text["seed"] for one in first.data] == ["1", "2"]
    assert (first.size, first.output_format) == ("64x64", "png")


def test_a_picture_is_streamed_with_its_previews(client: openai.OpenAI) -> None:
    own = {"seed": 1, "steps": 6}
    plain = client.images.generate(prompt="a red apple", extra_body=own)
    *partial, done = client.images.generate(prompt="a red apple", stream=True, partial_images=3, extra_body=own)
    assert [event.type for event in partial] == 3 * ["image_generation.partial_image"]
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    assert {picture(event.b64_json).format for event in partial} == {"JPEG"}
    assert done.type == "image_generation.completed"
    assert plain.data is not None
    assert done.b64_json == plain.data[0].b64_json
