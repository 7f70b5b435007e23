"""Errors of a recording."""

from deployments.errors import DeploymentError, InvalidInput


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
