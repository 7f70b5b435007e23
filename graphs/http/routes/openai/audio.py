"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: OpenAI's Audio API over the speech-to-text model."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from deployments.errors import DeploymentError
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, Segment, TranscribeRequest, Transcript
from graphs.core.context import RequestContext
from graphs.core.parameters import TimeoutMs
from graphs.core.progress import Emit, Progress, Retry
from graphs.http import problems
from graphs.http.dependencies import Recording
from graphs.http.events import sse
from graphs.http.parameters import validate
from graphs.http.responses import EVENTS, JSON, recording_headers
from graphs.http.routes.openai import models, openai_router
from graphs.http.routes.openai.subtitles import srt, vtt
from graphs.http.schemas import openai
from graphs.http.schemas.openai import NumberedSegment, Transcription, Usage, VerboseTranscription
from graphs.http.services import Services
from graphs.http.sse import EventStream
from graphs.http.upload import Upload, receive_form


class TranslationParameters(BaseModel):
    """Parameters besides `file`: OpenAI's, and `timeout_ms`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    model: str | None = Field(default=None, max_length=256)
    """An id of `GET /v1/models`; without it the service's own."""
    prompt: str = Field(default="", max_length=1000)
    """Text taken as preceding the recording: names and spellings to expect. The last 223 tokens count."""
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    """The answer's form."""
    temperature: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """At 0 the model raises it only where the text would be too repetitive or improbable. With openai-whisper the result is
    deterministic at any value; with faster-whisper at 0."""
    timeout_ms: TimeoutMs = None
    """Milliseconds from receipt after which the answer is of no use; lowers the service's deadline, as X-Timeout-Ms does."""

    def request(self, recording: "Recording[Any]") -> TranscribeRequest:
        return TranscribeRequest(recording.audio, "", "translate", self.prompt, self.temperature)


class TranscriptionParameters(TranslationParameters):
    language: str = Field(default="", max_length=32)
    """The language that is spoken: a code such as `de`, or its English name; without it the model detects it."""
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
            raise ValueError("timestamp_granularities can only be segment: the model measures no times of single words")
        return value

    @model_validator(mode="after")
    def _streamed_as_text(self) -> "TranscriptionParameters":
        if self.stream and self.response_format not in ("json", "text"):
            raise ValueError("response_format must be json or text with stream: its events are the same for both")
        return self

    def request(self, recording: "Recording[Any]") -> TranscribeRequest:
        return TranscribeRequest(recording.audio, self.language.strip(), "transcribe", self.prompt, self.temperature)


def fields(form: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The form's fields, with lists joined by commas: OpenAI's clients send a list as `name[]`, once for each item."""
    lists: dict[str, list[str]] = {}
    alone = []
    for name, value in form:
        if name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            alone.append((name, value))
    return alone + [(name, ",".join(dict.fromkeys(values))) for name, values in lists.items()]


class TranscriptEvents:
    """A transcript's stream in the form of OpenAI's API: text as it is recognised, then all of it. The deltas add up to the text."""

    def __init__(self) -> None:
        self._sent = ""
        self._recognised = ""
        """Text of the replica at work: another one, which starts anew where the first has died, recognises the same."""

    def started(self) -> Iterator[str]:
        return iter(())

    def progress(self, progress: Progress) -> Iterator[str]:
        if isinstance(progress, Retry):
            self._recognised = ""
        if isinstance(progress, Segment):
            self._recognised += progress.text
            yield from self._delta(self._recognised.strip())

    def done(self, transcript: Transcript) -> Iterator[str]:
        yield from self._delta(transcript.text)
        yield sse("transcript.text.done", {"type": "transcript.text.done", "text": transcript.text})

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield sse("error", {"type": "error", "error": problems.openai_content(error)})

    def _delta(self, text: str) -> Iterator[str]:
        """The rest of `text`, of which the beginning has been sent."""
        if text.startswith(self._sent) and text != self._sent:
            delta, self._sent = text.removeprefix(self._sent), text
            yield sse("transcript.text.delta", {"type": "transcript.text.delta", "delta": delta})


def response(transcript: Transcript, format: str, task: str, audio_s: float, context: RequestContext) -> Response:
    headers = recording_headers(context)
    warnings = list(context.decode_warnings) or None
    usage = Usage(seconds=math.ceil(audio_s))
    match format:
        case "text":
            return PlainTextResponse(f"{transcript.text}\n", headers=headers)
        case "srt":
            return PlainTextResponse(srt(transcript.segments), headers=headers)
        case "vtt":
            return PlainTextResponse(vtt(transcript.segments), headers=headers)
        case "verbose_json":
            segments = [NumberedSegment(id=id, **asdict(segment)) for id, segment in enumerate(transcript.segments)]
            answer: BaseModel = VerboseTranscription(
                task=task,
                language=transcript.language,
                duration=round(audio_s, 3),
                text=transcript.text,
                segments=segments,
                usage=usage,
                decode_warnings=warnings,
            )
        case _:
            answer = Transcription(text=transcript.text, usage=usage, decode_warnings=warnings)
    return JSONResponse(answer.model_dump(exclude_none=True), headers=headers)


def router(services: Services) -> APIRouter:
    routes = openai_router()

    def parse[Parameters: TranslationParameters](upload: Upload, kind: type[Parameters]) -> tuple[Parameters, str]:
        stage = services.stage("speech_to_text")
        parameters = validate(fields(upload.fields), kind)
        models.require(parameters.model, stage)
        stage.require_ready()
        return parameters, JSON

    def transcription(request: Request, upload: Upload) -> tuple[TranscriptionParameters, str]:
        return parse(upload, TranscriptionParameters)

    def translation(request: Request, upload: Upload) -> tuple[TranslationParameters, str]:
        return parse(upload, TranslationParameters)

    async def run(recording: Recording[Any]) -> Transcript:
        context = recording.admitted.context
        transcript: Transcript = await services.stage("speech_to_text")(recording.parameters.request(recording), context)
        context.notes["transcript"] = transcript.text
        return transcript

    async def answered(recording: Recording[Any]) -> Response:
        transcript, parameters = await run(recording), recording.parameters
        audio_s, task = recording.audio.size / SAMPLE_RATE_HZ, parameters.request(recording).task
        return response(transcript, parameters.response_format, task, audio_s, recording.admitted.context)

    of_transcription = services.dependencies.recording(receive_form, transcription)
    of_translation = services.dependencies.recording(receive_form, translation)

    @routes.post("/audio/transcriptions", **openai.audio("/v1/audio/transcriptions", TranscriptionParameters, EVENTS))
    async def transcribe(recording: Annotated[Recording[TranscriptionParameters], Depends(of_transcription)]) -> Response:
        if not recording.parameters.stream:
            return await answered(recording)

        async def work(emit: Emit) -> Transcript:
            recording.admitted.context.emit = emit
            return await run(recording)

        return EventStream(work, TranscriptEvents(), recording.admitted.entry)

    @routes.post("/audio/translations", **openai.audio("/v1/audio/translations", TranslationParameters))
    async def translate(recording: Annotated[Recording[TranslationParameters], Depends(of_translation)]) -> Response:
        return await answered(recording)

    return routes
