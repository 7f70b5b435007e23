"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: OpenAI's Audio API over the Whisper room."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from deployments.errors import DeploymentError
from deployments.whisper import Segment, TranscribeOptions, Transcript
from graphs.audio.decode import SAMPLE_RATE_HZ
from graphs.core.context import Given
from graphs.core.graph import Graph
from graphs.http import problems
from graphs.http.deadline import LARGEST_TIMEOUT_MS
from graphs.http.dependencies import Reception, Visit
from graphs.http.events import Event, Retry, Tell, sse
from graphs.http.parameters import validate
from graphs.http.responses import EVENTS, server_timing
from graphs.http.routes.openai.models import Models
from graphs.http.routes.openai.subtitles import srt, vtt
from graphs.http.schemas import openai
from graphs.http.sse import EventStream
from graphs.http.upload import receive_form


class TranslationParameters(BaseModel):
    """What may be asked for besides `file`: OpenAI's parameters, and `timeout_ms`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    model: str | None = Field(default=None, max_length=256)
    """An id of `GET /v1/models`; without it the Whisper room's model."""
    prompt: str = Field(default="", max_length=1000)
    """Text that is taken to have been said before: names and spellings to expect. The last 223 tokens count."""
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    """The answer's form."""
    temperature: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """0 raises it only where the text would be too repetitive or improbable. The same request gives the same text at any."""
    timeout_ms: int | None = Field(default=None, ge=1, le=LARGEST_TIMEOUT_MS)
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""

    def options(self) -> TranscribeOptions:
        return TranscribeOptions("", "translate", self.prompt, self.temperature)


class TranscriptionParameters(TranslationParameters):
    language: str = Field(default="", max_length=32)
    """The language that is spoken: a code such as `de`, or its English name; without it Whisper listens for it."""
    stream: bool = False
    """Answer with server-sent events, segment by segment."""
    timestamp_granularities: Literal["segment"] | None = None
    """Only `segment`, which `verbose_json` always has."""
    chunking_strategy: Literal["auto"] | None = None
    """Ignored: Whisper's own windows of 30 s."""

    @field_validator("timestamp_granularities", mode="before")
    @classmethod
    def _no_words(cls, value: Any) -> Any:
        if value != "segment":
            raise ValueError("timestamp_granularities can only be segment: times of single words are not measured here")
        return value

    @model_validator(mode="after")
    def _streamed_as_text(self) -> "TranscriptionParameters":
        if self.stream and self.response_format not in ("json", "text"):
            raise ValueError("response_format must be json or text with stream: its events are the same for both")
        return self

    def options(self) -> TranscribeOptions:
        return TranscribeOptions(self.language.strip(), "transcribe", self.prompt, self.temperature)


def fields(form: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """OpenAI's clients send a list as `name[]`, once for each of it: here it becomes one field, with commas."""
    lists: dict[str, list[str]] = {}
    alone = []
    for name, value in form:
        if name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            alone.append((name, value))
    return alone + [(name, ",".join(dict.fromkeys(values))) for name, values in lists.items()]


class TranscriptEvents:
    """A transcript's stream as OpenAI's API has it: text as it is recognised, then all of it."""

    def __init__(self) -> None:
        self._told = 0
        self._again = 0
        """Segments that come a second time, since the replica died and another one began anew; they are the same."""

    def begun(self) -> Iterator[str]:
        return iter(())

    def told(self, event: Event) -> Iterator[str]:
        if isinstance(event, Retry):
            self._again = self._told
        if isinstance(event, Segment) and event.text:
            if self._again > 0:
                self._again -= 1
                return
            delta = f" {event.text}" if self._told else event.text
            self._told += 1
            yield sse("transcript.text.delta", {"type": "transcript.text.delta", "delta": delta})

    def done(self, transcript: Transcript) -> Iterator[str]:
        yield sse("transcript.text.done", {"type": "transcript.text.done", "text": transcript.text})

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield sse("error", {"type": "error", "error": problems.openai_content(error)})


def answer(transcript: Transcript, format: str, task: str, audio_s: float, timings_ms: dict[str, float]) -> Response:
    headers = {"Server-Timing": server_timing(timings_ms)}
    usage = {"type": "duration", "seconds": math.ceil(audio_s)}
    match format:
        case "text":
            return PlainTextResponse(f"{transcript.text}\n", headers=headers)
        case "srt":
            return PlainTextResponse(srt(transcript.segments), headers=headers)
        case "vtt":
            return PlainTextResponse(vtt(transcript.segments), headers=headers)
        case "verbose_json":
            content = {
                "task": task,
                "language": transcript.language,
                "duration": round(audio_s, 3),
                "text": transcript.text,
                "segments": [{"id": id, **asdict(segment)} for id, segment in enumerate(transcript.segments)],
                "usage": usage,
            }
            return JSONResponse(content, headers=headers)
    return JSONResponse({"text": transcript.text, "usage": usage}, headers=headers)


def install(routes: APIRouter, graph: Graph, reception: Reception, models: Models, max_upload_bytes: int) -> None:

    async def heard[Parameters: TranslationParameters](
        request: Request, visit: Visit, kind: type[Parameters]
    ) -> tuple[NDArray[np.int16], Parameters, Given]:
        upload = await visit.read(lambda: receive_form(request, max_upload_bytes))
        visit.ticket.resize(len(upload.recording))
        parameters = validate(fields(upload.fields), kind)
        models.require(parameters.model, "whisper")
        given = visit.given(parameters.timeout_ms)
        audio = await graph.listen(upload.recording, given)
        visit.ticket.resize(audio.nbytes)
        return audio, parameters, given

    async def answered(audio: NDArray[np.int16], parameters: TranslationParameters, given: Given) -> Response:
        transcript = await graph.transcribe(audio, parameters.options(), given)
        audio_s, task = audio.size / SAMPLE_RATE_HZ, parameters.options().task
        return answer(transcript, parameters.response_format, task, audio_s, given.line.timings_ms)

    @routes.post("/audio/transcriptions", **openai.audio("/v1/audio/transcriptions", TranscriptionParameters, EVENTS))
    async def transcribe(request: Request, visit: Annotated[Visit, Depends(reception.admit)]) -> Response:
        audio, parameters, given = await heard(request, visit, TranscriptionParameters)
        if not parameters.stream:
            return await answered(audio, parameters, given)

        async def transcribing(tell: Tell) -> Transcript:
            return await graph.transcribe(audio, parameters.options(), Given(given.time_left, given.line, tell))

        return EventStream(transcribing, TranscriptEvents(), visit.line)

    @routes.post("/audio/translations", **openai.audio("/v1/audio/translations", TranslationParameters))
    async def translate(request: Request, visit: Annotated[Visit, Depends(reception.admit)]) -> Response:
        return await answered(*await heard(request, visit, TranslationParameters))
