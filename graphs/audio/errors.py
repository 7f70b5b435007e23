"""Errors of a recording, and the sentences of `no_speech` before a model has read it (`deployments.errors.NoSpeech`)."""

from deployments.errors import DeploymentError, InvalidInput, NoSpeech

SILENT = "the recording is silent: check that the microphone is on"
NO_SPEECH = "no speech was found in the recording: speak closer to the microphone, or send another one"


class AudioTooLong(DeploymentError):
    status = 413
    code = "audio_too_long"
    title = "Recording too long"


class AudioEmpty(InvalidInput):
    code = "audio_empty"
    title = "Empty recording"


class AudioUndecodable(InvalidInput):
    code = "audio_undecodable"
    title = "Recording cannot be decoded"


REFUSALS: dict[str, type[DeploymentError]] = {
    error.code: error for error in (AudioEmpty, AudioTooLong, AudioUndecodable, NoSpeech)
}
"""The errors of decoding, by their codes."""
