"""Fakes that tests inject in place of a Triton server, a stage, a service or Serve's controller."""

import asyncio
import copy
import json
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ServeStatus,
)

from deployments.compute_time import ComputeTime
from deployments.diffusion.spec import SPEC as DIFFUSION
from deployments.model_spec import ModelSpec, Workload
from deployments.roles.speech_to_text import Segment, Transcript
from deployments.roles.text_to_image import Image
from deployments.time_left import TimeLeft
from deployments.triton.server import Tensors
from deployments.whisper.spec import SPEC as WHISPER
from graphs.audio.job import DecodedAudio
from graphs.audio.settings import AudioSettings
from graphs.core.context import RequestContext
from graphs.core.graph import Graph
from graphs.core.latency import LatencyEstimator
from graphs.core.metrics import Metrics
from graphs.core.policies.policy import Call, Policy, chained
from graphs.core.policies.queue import FifoLimiter
from graphs.core.policies.rollout import Rollout
from graphs.core.readiness import Readiness
from graphs.http.app import create_app
from graphs.http.services import Services
from graphs.http.settings import HttpSettings
from graphs.rollouts.manager import Rollouts
from graphs.rollouts.store import Memory, Store
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import Trace
from graphs.tracing.traces import Traces
from graphs.voice_to_image import VoiceToImage
from graphs.voice_to_text import VoiceToText

CHARACTERS = "".join(map(chr, range(0x180))) + "語ひ🦊\u0301\u200d\u202e\u2028\ufeff١\U0010ffff"
"""Every Latin letter and control character, and other difficult ones. Hypothesis takes seconds to tabulate all of Unicode."""
PNG = b"\x89PNG\r\n\x1a\nnot really"


class Sent(list[Trace]):
    """Exporter that keeps the traces it was to send."""

    closed = False
    send = list.append

    def close(self) -> None:
        self.closed = True


class Trap:
    """Object that makes a folder when it is unpickled: code that a file of weights must not run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


class FakeTriton:
    """Server that answers each inference with the next item of `script`: tensors, or an error to raise. The last item repeats."""

    def __init__(self, *script: Tensors | Exception) -> None:
        self.script = list(script)
        self.inputs: list[Mapping[str, NDArray[Any]]] = []
        self.request_ids: list[str] = []
        self.times_left: list[TimeLeft] = []
        self.closed = 0

    async def infer(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> Tensors:
        self.inputs.append(inputs)
        self.times_left.append(time_left)
        self.request_ids.append(request_id)
        result = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def stream(
        self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = ""
    ) -> AsyncGenerator[Tensors]:
        """Yield all items of the script, one after another."""
        while len(self.script) > 1:
            yield await self.infer(inputs, time_left, request_id)
        yield await self.infer(inputs, time_left, request_id)

    async def check(self) -> None:
        if self.script and isinstance(self.script[0], Exception):
            raise self.script[0]

    def cpu_s(self) -> float:
        return 0.0

    def metrics(self) -> str:
        return ""

    async def close(self) -> None:
        self.closed += 1


def texts(*items: str) -> NDArray[Any]:
    """Return a BYTES tensor."""
    return np.array([item.encode() for item in items], dtype=np.object_)


def image(encoded: bytes = PNG) -> Image:
    return Image(encoded, 64, 64, prompt_truncated=False, encode_ms=2.0, model="tiny", compute_time=ComputeTime(0.01, 0.002, 12))


def transcript(text: str = "a red apple") -> Transcript:
    segment = Segment(0.0, 1.5, text, -0.25, 0.125)
    return Transcript(text, "en", (segment,), model="tiny.en", compute_time=ComputeTime(0.0, 0.02, 1))


class FakeStage:
    """Stage that answers at once: it reports `progress`, then returns or raises `result`. Its times are fixed."""

    def __init__(self, spec: ModelSpec, result: Any, progress: tuple[Any, ...] = (), took_ms: float = 20.0) -> None:
        self.spec = spec
        self.settings = spec.settings()
        self.result = result
        self.progress = progress
        self.took_ms = took_ms
        self.calls: list[tuple[Any, RequestContext]] = []
        self.latency = LatencyEstimator()
        self.limiter = FifoLimiter(lambda: 1)
        self.unready: Exception | None = None
        self.rollout = Rollout(self)
        self.is_busy = False
        self.endless = False
        """True if it runs until it is cancelled."""
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()
        self._proceed = self._run

    def with_policies(self, *policies: Policy) -> "FakeStage":
        """This stage, with further policies around each call."""
        extended = copy.copy(self)
        extended._proceed = chained(policies, self._run)
        return extended

    @property
    def name(self) -> str:
        return self.spec.name

    def require_ready(self) -> None:
        if self.unready is not None:
            raise self.unready

    def typical_s(self) -> float | None:
        return self.took_ms / 1000

    async def __call__(self, request: Any, context: RequestContext) -> Any:
        return await self.rollout(Call(self.name, request, Workload(None, 1), context), self._proceed)

    async def _run(self, call: Call) -> Any:
        request, context = call.request, call.context
        self.calls.append((request, context))
        for one in self.progress:
            context.report(one)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.endless:
            self.started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                self.cancelled.set()
        if isinstance(self.result, Exception):
            raise self.result
        context.took(**{self.name: self.took_ms, **getattr(self.result, "breakdown_ms", {})})
        context.models[self.name] = self.result.model
        return self.result


class NullMetric:
    """Metric with Ray's interface that counts nothing."""

    def __init__(self, *description: Any) -> None:
        pass

    def inc(self, value: float, labels: Mapping[str, str]) -> None:
        pass

    def _record(self, value: float, labels: Mapping[str, str]) -> None:
        pass

    observe = set = inc


async def nothing_runs() -> dict[str, Any]:
    """Answer of `GET /graph` of a service that Serve does not know."""
    return {"application": "sonograph", "status": "NOT_STARTED", "stages": []}


@dataclass
class FakeService:
    """The HTTP edge over stages that answer at once, and over a decoder that turns any bytes into a second of silence."""

    http: HttpSettings = field(default_factory=HttpSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    mounted: tuple[type[Graph[Any, Any]], ...] = (VoiceToImage, VoiceToText)
    """Graphs of the service. Only their models are deployed."""
    whisper: FakeStage = field(default_factory=lambda: FakeStage(WHISPER, transcript()))
    diffusion: FakeStage = field(default_factory=lambda: FakeStage(DIFFUSION, image(), took_ms=30.0))
    more: tuple[FakeStage, ...] = ()
    """Stages of further models."""
    undecodable: Exception | None = None
    decode_warnings: tuple[str, ...] = ()
    decode_s: float = 0.0
    """Time that decoding takes."""
    recordings: list[bytes] = field(default_factory=list)
    """Recordings that were decoded."""
    topology: Any = nothing_runs
    rollouts: Rollouts | None = None
    """Without one there is no candidate."""
    may_keep_content: bool = False
    logs_transcripts: bool = False
    traces: Traces = field(default_factory=lambda: Traces(TracingSettings(max_traces=0)))
    metrics: Metrics = field(default_factory=lambda: Metrics(NullMetric, NullMetric, NullMetric))
    status: ServeStatus = field(default_factory=lambda: serve_status(whisper=deployment_status(), diffusion=deployment_status()))

    async def decode(self, recording: bytes, trace: Trace | None = None) -> DecodedAudio:
        self.recordings.append(recording)
        await asyncio.sleep(self.decode_s)
        if self.undecodable is not None:
            raise self.undecodable
        return DecodedAudio(np.zeros(16_000, np.int16), self.decode_warnings)

    @property
    def stages(self) -> dict[str, Any]:
        """Stages of the mounted graphs, by name."""
        wanted = [target for graph in self.mounted for target in graph.stages.values()]
        available = (self.whisper, self.diffusion, *self.more)
        return {stage.name: stage for stage in available if stage.spec in wanted or stage.spec.role in wanted}

    def graphs(self) -> tuple[Graph[Any, Any], ...]:
        by_target: dict[Any, Any] = {key: stage for stage in self.stages.values() for key in (stage.spec, stage.spec.role)}
        return tuple(
            graph(**{attribute: by_target.get(target) for attribute, target in graph.stages.items()}) for graph in self.mounted
        )

    def services(self) -> Services:
        readiness = Readiness("sonograph", tuple(self.stages), lambda: self.status)
        if self.rollouts is None:
            store = Store(Memory(), "sonograph")

            async def nothing(stage: Any, application: str) -> None:
                return None

            self.rollouts = Rollouts("sonograph", store, self.stages, nothing, self.metrics, "ingress", mirror_s=5)
        return Services(
            self.http,
            self.audio,
            self.graphs(),
            self.stages,
            readiness,
            self.metrics,
            self.decode,
            self.traces,
            self.topology,
            self.rollouts,
            may_keep_content=self.may_keep_content,
            logs_transcripts=self.logs_transcripts,
        )

    def app(self) -> FastAPI:
        return create_app(self.services())

    def client(self) -> httpx.AsyncClient:
        """Return a client of a new app, which gets an answer for a defect too, as a real client does."""
        transport = httpx.ASGITransport(self.app(), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")


def access_log(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    """Return the entries of the access log among pytest's `caplog.records`."""
    return [json.loads(record.getMessage()) for record in records if record.getMessage().startswith('{"event": "request"')]


def serve_status(**deployments: DeploymentStatusOverview) -> ServeStatus:
    """Return the state of the application `sonograph`, as Serve's controller reports it."""
    overview = ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 0.0, deployments)
    return ServeStatus(applications={"sonograph": overview})


def deployment_status(status: str = "HEALTHY", message: str = "", **replicas: int) -> DeploymentStatusOverview:
    """Return a deployment's state. `replicas` holds the number in each state, by default one that is running."""
    # Ray declares members of an enumeration here, and sends plain strings.
    return DeploymentStatusOverview(status, DeploymentStatusTrigger.UNSPECIFIED, replicas or {"RUNNING": 1}, message)
