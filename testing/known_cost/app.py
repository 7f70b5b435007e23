"""The service over models of known cost: `serve run testing.known_cost.app:app`, from the repository's root."""

from dataclasses import replace

from ray.serve import Application

from deployments import base
from graphs.ingress import deployed, mounted
from graphs.settings import Settings

CLASSES = {
    "whisper": "testing.known_cost.whisper.deployment:KnownCostWhisper",
    "diffusion": "testing.known_cost.diffusion.deployment:KnownCostDiffusion",
}


def app(settings: Settings) -> Application:
    specs = [replace(spec, deployment=CLASSES[spec.name]) for spec in deployed(settings)]
    return mounted(settings, {spec.name: base.bind(spec, settings.section(spec)) for spec in specs})
