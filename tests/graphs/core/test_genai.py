"""A model's call as attributes by OpenTelemetry's conventions for generative AI."""

import json
from typing import Any

import pytest

from deployments.diffusion.spec import SPEC as DIFFUSION
from deployments.model_spec import ModelSpec, Role
from deployments.roles.text_to_image import GenerateRequest
from deployments.whisper.spec import SPEC as WHISPER
from graphs.core import genai
from testing.fakes import image, transcript


@pytest.mark.parametrize(("spec", "output"), [(WHISPER, "text"), (DIFFUSION, "image")])
def test_a_call_names_its_operation_and_model(spec: ModelSpec, output: str) -> None:
    settings = spec.settings(model="/models/a-checkpoint")
    assert genai.requested(spec, settings, GenerateRequest("a red apple"), words=False) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "sonograph",
        "gen_ai.request.model": "a-checkpoint",
        "gen_ai.output.type": output,
    }


def test_every_role_has_its_output() -> None:
    assert set(genai.OUTPUTS) == set(Role.__args__)


def messages(attributes: dict[str, Any]) -> list[Any]:
    return [json.loads(value) for name, value in attributes.items() if name.endswith("messages")]


def test_words_are_messages_where_they_are_wanted() -> None:
    (prompt,) = messages(genai.requested(DIFFUSION, DIFFUSION.settings(), GenerateRequest("a red apple"), words=True))
    assert prompt == [{"role": "user", "parts": [{"type": "text", "content": "a red apple"}]}]
    (said,) = messages(genai.responded(transcript("ein Apfel"), words=True))
    assert said == [{"role": "assistant", "parts": [{"type": "text", "content": "ein Apfel"}], "finish_reason": "stop"}]
    assert messages(genai.responded(transcript("ein Apfel"), words=False)) == []
    assert messages(genai.responded(image(), words=True)) == []


@pytest.mark.parametrize("text", ["ü" * 5000, "a\x00\r\n\x1b[2J" + "b" * 5000, "\ud800" * 5000])
def test_words_are_escaped_and_cut(text: str) -> None:
    attribute = genai.requested(DIFFUSION, DIFFUSION.settings(), GenerateRequest(text), words=True)["gen_ai.input.messages"]
    assert isinstance(attribute, str)
    assert attribute.isascii()
    assert attribute.isprintable()
    assert json.loads(attribute)[0]["parts"][0]["content"] == text[: genai.MOST_CHARACTERS]
