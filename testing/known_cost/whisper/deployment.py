"""Whisper's own Serve class over the repository beside this module."""

from typing import Any

from deployments.whisper.deployment import Whisper
from deployments.whisper.settings import WhisperSettings
from testing.known_cost.fault import Fault


class KnownCostWhisper(Whisper):
    pass


class FaultySettings(WhisperSettings):
    fault: Fault = Fault()


class FaultyWhisper(Whisper):
    """A candidate with a fault: a multiple of the known cost, wrong words, failures."""

    settings: FaultySettings

    def engine_config(self, threads: int) -> Any:
        return self.settings.fault
