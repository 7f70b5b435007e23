"""The parameters of a drawing request, from its query and its form: one model says names, bounds and meaning."""

import secrets
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.diffusion import GenerateOptions
from deployments.errors import InvalidInput
from deployments.whisper import TranscribeOptions
from graphs.http.deadline import LARGEST_TIMEOUT_MS

Side = Annotated[int | None, Field(ge=8, multiple_of=8)]


class DrawParameters(BaseModel):
    """What a client may ask for, besides the recording."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    language: str = Field(default="", max_length=32)
    """The language that is spoken: a code such as `de`, or its English name; without it Whisper listens for it."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """`transcribe` draws what was said; `translate` draws it translated into English."""
    prompt_prefix: str = Field(default="", max_length=1000)
    """Words to draw before what was said, such as `a watercolour of`."""
    negative_prompt: str = Field(default="", max_length=1000)
    """What the picture should not show."""
    steps: int | None = Field(default=None, ge=1, le=150)
    """Denoising steps; without it the service's setting."""
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    """How strictly the picture follows the words; without it the service's setting."""
    width: Side = None
    """Pixels, a multiple of 8 up to the service's setting; without it the model's own size."""
    height: Side = None
    """Pixels, a multiple of 8 up to the service's setting; without it the model's own size."""
    seed: int | None = Field(default=None, ge=0, le=4_294_967_295)
    """The same recording, parameters and seed give the same picture; without it one is drawn and returned."""
    output_format: Literal["png", "jpeg", "webp"] | None = None
    """The picture's format; without it the Accept header decides."""
    timeout_ms: int | None = Field(default=None, ge=1, le=LARGEST_TIMEOUT_MS)
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""
    previews: int = Field(default=0, ge=0, le=50)
    """At most so many pictures of the estimate so far, in an event stream."""

    def transcribe_options(self) -> TranscribeOptions:
        return TranscribeOptions(self.language.strip(), self.task)

    def generate_options(self, format: str) -> GenerateOptions:
        """A seed is drawn here where none was given."""
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed
        return GenerateOptions(
            negative_prompt=self.negative_prompt,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            seed=seed,
            format=format,
        )


def parse(query: Iterable[tuple[str, str]], form: Iterable[tuple[str, str]], max_side_px: int) -> DrawParameters:
    """Raises InvalidInput that names parameter and bound."""
    parameters = validate((*query, *form), DrawParameters)
    for name in ("width", "height"):
        if (getattr(parameters, name) or 0) > max_side_px:
            raise InvalidInput(f"{name} must be at most {max_side_px} (this service's setting diffusion.max_side_px)")
    return parameters


def validate[Parameters: BaseModel](fields: Iterable[tuple[str, str]], parameters: type[Parameters]) -> Parameters:
    """Fields without a value count as not given, as HTML forms send them.

    Raises InvalidInput that names parameter and bound.
    """
    given: dict[str, str] = {}
    for name, value in fields:
        if name in given:
            raise InvalidInput(f"{printable(name)} is given twice: once is enough")
        if value != "":
            given[name] = value
    try:
        return parameters.model_validate(given)
    except ValidationError as error:
        raise refusal(error, parameters) from error


def refusal(error: ValidationError, parameters: type[BaseModel]) -> InvalidInput:
    """What `error` says, in sentences that name parameter and bound. `parameters`: the class that refused."""
    refused = InvalidInput("; ".join(dict.fromkeys(_sentence(details, parameters) for details in error.errors())))
    refused.param = next((name for details in error.errors() if (name := _name(details)) in parameters.model_fields), None)
    return refused


def printable(name: str) -> str:
    """What a client sent, short and without controls, for a sentence about it."""
    return "".join(character if character.isprintable() else "?" for character in name[:64])


def _sentence(details: Any, parameters: type[BaseModel]) -> str:
    name = printable(_name(details))
    if details["type"] == "extra_forbidden":
        return f"{name} is no parameter; there are {', '.join(parameters.model_fields)}"
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    message = details["msg"].replace("Input should", "must").replace("String should", "must")
    return f"{name} {message}".strip()


def _name(details: Any) -> str:
    return str(details["loc"][0]) if details["loc"] else ""
