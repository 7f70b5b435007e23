"""The service over models of known cost, and its candidates: `serve run testing.known_cost.app:app`, from the repository's root."""

from dataclasses import replace
from typing import Any

from ray.serve import Application

from deployments import base
from deployments.whisper.spec import SPEC as WHISPER
from graphs.ingress import deployed, mounted
from graphs.settings import Settings
from testing.known_cost.fault import Fault
from testing.known_cost.whisper.deployment import FaultySettings

CLASSES = {
    "whisper": "testing.known_cost.whisper.deployment:KnownCostWhisper",
    "diffusion": "testing.known_cost.diffusion.deployment:KnownCostDiffusion",
}
FAULTY_WHISPER = replace(WHISPER, deployment="testing.known_cost.whisper.deployment:FaultyWhisper")


SLOWER = 20.0


class SlowSettings(Settings):
    slower: float = SLOWER
    """Multiple of Whisper's known cost."""


def app(settings: Settings) -> Application:
    specs = [replace(spec, deployment=CLASSES[spec.name]) for spec in deployed(settings)]
    return mounted(settings, {spec.name: base.bind(spec, settings.section(spec)) for spec in specs})


def slow(settings: SlowSettings) -> Application:
    """The service with a Whisper that takes a multiple of its known cost: the stack's own time hardly counts in a ratio of times."""
    whisper = FaultySettings.model_validate({**settings.whisper.model_dump(), "fault": Fault(slower=settings.slower)})
    others = [replace(spec, deployment=CLASSES[spec.name]) for spec in deployed(settings) if spec.name != WHISPER.name]
    models = {spec.name: base.bind(spec, settings.section(spec)) for spec in others}
    return mounted(settings, {WHISPER.name: base.bind(FAULTY_WHISPER, whisper), **models})


def candidate(args: dict[str, Any]) -> Application:
    """A candidate of Whisper. `args`: those of `deployments.candidate:app`, and `fault`, the fields of a Fault."""
    return base.bind(FAULTY_WHISPER, FaultySettings.model_validate({**args.get("settings", {}), "fault": args.get("fault", {})}))
