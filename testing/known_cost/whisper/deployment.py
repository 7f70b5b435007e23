"""Whisper's own Serve class over the repository beside this module."""

from deployments.whisper.deployment import Whisper


class KnownCostWhisper(Whisper):
    pass
