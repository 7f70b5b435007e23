"""The ingress: the Serve deployment that mounts the graphs on one HTTP edge, over one deployment for each model."""

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from ray.serve.metrics import Counter, Gauge, Histogram

from deployments import base
from deployments.model_spec import ModelSpec
from graphs.audio.pool import DecodePool
from graphs.core.graph import Graph
from graphs.core.metrics import INGRESS, Metrics
from graphs.core.readiness import Readiness
from graphs.core.stage import Stage
from graphs.http.app import create_app
from graphs.http.dependencies import DECODE
from graphs.http.errors import RateLimitExceeded
from graphs.http.middleware import proxy
from graphs.http.services import Services
from graphs.rollouts.manager import Rollouts
from graphs.rollouts.samples import Samples
from graphs.rollouts.store import Store
from graphs.rollouts.tracked import Candidate
from graphs.serve import bodies, logs
from graphs.serve.handles import Broadcast, handle
from graphs.serve.key_values import RayKeyValues
from graphs.serve.status import application_args, dashboard_url
from graphs.serve.status import status as serve_status
from graphs.serve.topology import Topology
from graphs.settings import BaseSettings, Settings
from graphs.tracing.export import exporter
from graphs.tracing.traces import Traces
from graphs.tracing.view import view

SPARE_PLACES = 96
"""Places for refusals, probes and pages. Serve queues requests beyond `max_ongoing_requests` where nothing can refuse them."""


class Ingress:
    """Deployment without a model of its own. Serve's HTTP proxy calls the app that `__serve_build_asgi_app__` returns."""

    def __init__(self, settings: BaseSettings, **handles: DeploymentHandle[Any]) -> None:
        """`handles`: by the model's name."""
        self._settings = settings
        self._handles = handles

    def __serve_build_asgi_app__(self) -> FastAPI:
        logs.install(self._settings.logging)
        bodies.patch()
        proxy.warn_if_absent()
        application = serve.get_replica_context().app_name
        readiness = Readiness(application, tuple(self._handles), serve_status)
        metrics = Metrics(Counter, Histogram, Gauge)
        stages = {
            spec.name: Stage[Any, Any](spec, self._settings.section(spec), self._handles[spec.name], readiness, metrics)
            for spec in deployed(self._settings)
        }
        metrics.begin(INGRESS, RateLimitExceeded.code)
        for stage in (DECODE, *stages):
            metrics.begin(stage)
        graphs = tuple(
            graph(**{attribute: stages.get(self._settings.spec(target).name) for attribute, target in graph.stages.items()})
            for graph in map(load, self._settings.graphs)
        )
        rollouts = self._rollouts(application, stages, metrics)
        topology = Topology(application, tuple(stages.values()), rollouts=rollouts.summaries)
        audio = self._settings.audio
        decode = DecodePool(audio).decode
        self._traces = traces = Traces(self._settings.tracing, exporter(self._settings.tracing))
        services = Services(
            self._settings.http,
            audio,
            graphs,
            stages,
            readiness,
            metrics,
            decode,
            traces,
            topology,
            rollouts,
            Broadcast(application, serve.get_replica_context().deployment, "trace"),
            dashboard_url(),
            self._settings.may_keep_content,
            self._settings.logging.transcripts,
        )
        return create_app(services)

    async def trace(self, id: str) -> dict[str, Any] | None:
        """A trace that this replica keeps, for the replica that was asked for it."""
        found = await self._traces.find_soon(id)
        return None if found is None else view(found, self._traces, serve.get_replica_context().replica_id.unique_id)

    def _rollouts(self, application: str, stages: dict[str, Stage[Any, Any]], metrics: Metrics) -> Rollouts:
        async def candidate(stage: Stage[Any, Any], name: str) -> Candidate | None:
            arguments = await asyncio.to_thread(application_args, name)
            if arguments is None:
                return None
            settings = stage.spec.settings.model_validate(arguments.get("settings") or {})
            readiness = Readiness(name, (stage.name,), serve_status)
            label = f"{stage.name}-candidate"
            metrics.begin(label)
            return Candidate(Stage(stage.spec, settings, handle(stage.name, name), readiness, metrics, label), readiness)

        return Rollouts(
            application,
            Store(RayKeyValues(), application),
            stages,
            candidate,
            metrics,
            serve.get_replica_context().replica_id.unique_id,
            self._settings.http.deadline_s,
            Samples(self._settings.rollouts) if self._settings.rollouts.samples_folder else None,
        )


def load(name: str) -> type[Graph[Any, Any]]:
    """The graph of the module `graphs.NAME`. `name` comes from the settings, which take only modules that exist."""
    module = importlib.import_module(f"graphs.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Graph) and value.__module__ == module.__name__
    )
    return found


def deployed(settings: BaseSettings) -> list[ModelSpec]:
    """The models of the mounted graphs, in the order of their stages, without optional ones that are switched off."""
    found = [settings.spec(target) for name in settings.graphs for target in load(name).stages.values()]
    return [spec for spec in {spec.name: spec for spec in found}.values() if settings.section(spec).deployed]


def app(settings: Settings) -> Application:
    """`serve run graphs.voice_to_image:app`; the settings are the application's `args`."""
    return mounted(settings, {spec.name: base.bind(spec, settings.section(spec)) for spec in deployed(settings)})


def mounted(settings: Settings, models: Mapping[str, Application]) -> Application:
    """The ingress over these models, by name."""
    ingress = serve.deployment(
        name=INGRESS,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=settings.http.max_concurrent_requests + settings.http.max_concurrent_uploads + SPARE_PLACES,
        max_surge_percent=100,  # without CPUs of its own a new replica fits beside the old one
        health_check_period_s=4,
        graceful_shutdown_timeout_s=60,
        logging_config=logs.config(settings.logging),
    )(serve.ingress()(Ingress))
    return ingress.bind(settings, **models)
