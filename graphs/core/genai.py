"""A call of a model as a span's attributes, by OpenTelemetry's conventions for generative AI, and Sonograph's own beside them."""

import json
from typing import Any

from deployments.model_spec import ModelSettings, ModelSpec
from deployments.span import Value

OPERATION = "generate_content"
"""The conventions' operation of models that take or give other things than text."""
PROVIDER = "sonograph"
OUTPUTS = {"speech_to_text": "text", "text_to_image": "image", "image_to_image": "image"}
"""The kind of result by the model's role."""
MOST_CHARACTERS = 1024
"""Of a prompt or a transcript, where the setting `tracing.message_content` has them written."""


def requested(spec: ModelSpec, settings: ModelSettings, request: Any, words: bool) -> dict[str, Value]:
    """Attributes at the call's begin. `words`: the request's prompt too."""
    return {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": settings.model_name,
        "gen_ai.output.type": OUTPUTS[spec.role],
        **({"gen_ai.input.messages": _message("user", prompt)} if words and (prompt := getattr(request, "prompt", "")) else {}),
    }


def responded(result: Any, words: bool) -> dict[str, Value]:
    """Attributes at the call's end. `words`: the transcript too."""
    time = result.compute_time
    return {
        "gen_ai.response.model": result.model,
        "sonograph.compute_ms": time.total_s * 1000,
        "sonograph.units": time.units,
        "sonograph.batch_size": float(time.batch_size),
        **({"gen_ai.output.messages": _message("assistant", text)} if words and (text := getattr(result, "text", "")) else {}),
    }


def _message(role: str, text: str) -> str:
    """The conventions' list of messages, as JSON in ASCII."""
    finished = {"finish_reason": "stop"} if role == "assistant" else {}
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text[:MOST_CHARACTERS]}], **finished}])
