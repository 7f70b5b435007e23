"""Whisper's description of itself."""

from deployments.model_spec import ModelSpec, Workload
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, Segment, TranscribeRequest, Transcript, window_count
from deployments.whisper.settings import WhisperSettings


def workload(request: TranscribeRequest, settings: WhisperSettings) -> Workload:
    """Units are windows of 30 s. Within one window the time does not scale with the length: the key has it, in steps of 10 s."""
    return Workload((request.task, request.audio.size // (10 * SAMPLE_RATE_HZ)), window_count(request.audio.size))


SPEC = ModelSpec(
    name="whisper",
    title="Whisper",
    role="speech_to_text",
    settings=WhisperSettings,
    result=Transcript,
    deployment="deployments.whisper.deployment:Whisper",
    workload=workload,
    progress=(Segment,),
)
