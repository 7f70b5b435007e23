"""The graph that transcribes a recording: speech to text alone."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.roles.speech_to_text import Segment, TranscribeRequest, Transcript
from graphs.core.context import RequestContext
from graphs.core.graph import Graph
from graphs.core.parameters import GraphAnswer, GraphParameters, common
from graphs.core.stage import Stage


class ListenParameters(GraphParameters):
    language: str = Field(default="", max_length=32)
    """The language that is spoken: a code such as `de`, or its English name; without it the model detects it."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """`translate` gives the English translation."""


class ListenAnswer(GraphAnswer):
    transcript: str
    language: str
    """ISO 639-1 code."""
    segments: list[Segment]


class VoiceToText(Graph[ListenParameters, Transcript]):
    path = "/listen"
    summary = "Transcribe a recording"
    parameters = ListenParameters
    answer = ListenAnswer

    transcribe = Stage[TranscribeRequest, Transcript].of("speech_to_text")

    async def run(self, audio: NDArray[np.int16], parameters: ListenParameters, context: RequestContext) -> Transcript:
        transcript = await self.transcribe(TranscribeRequest(audio, parameters.language.strip(), parameters.task), context)
        context.notes["transcript"] = transcript.text
        context.report(transcript)
        return transcript

    def to_answer(self, result: Transcript, parameters: ListenParameters, context: RequestContext) -> ListenAnswer:
        segments = list(result.segments)
        return ListenAnswer(**common(context), transcript=result.text, language=result.language, segments=segments)
