"""FastAPI's dependencies of every inference route: authentication, admission, deadline, access log, and the decoded recording."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from fastapi import Depends
from numpy.typing import NDArray
from starlette.requests import Request

from deployments.errors import DeadlineExceeded, InvalidInput
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from deployments.time_left import TimeLeft
from graphs.audio.job import DecodedAudio
from graphs.core.context import RequestContext
from graphs.core.errors import translated
from graphs.core.metrics import INGRESS, Metrics
from graphs.core.policies.deadline import within
from graphs.core.readiness import Readiness
from graphs.core.stage import Stage
from graphs.http.access_log import Entry, logged
from graphs.http.admission import Admission, Reservation, retry_after_s
from graphs.http.auth import Access
from graphs.http.body_timeout import BodyTimeout
from graphs.http.deadline import deadline_s
from graphs.http.middleware.body import declared_bytes
from graphs.http.request_id import request_id
from graphs.http.settings import HttpSettings
from graphs.http.tracing import attributes, client_context
from graphs.http.upload import Upload
from graphs.tracing.trace import Trace, span
from graphs.tracing.traces import Traces

Decode = Callable[[bytes, Trace | None], Awaitable[DecodedAudio]]
"""Decoding of a recording, as `graphs.audio.pool.DecodePool.decode` does it."""
DECODE = "decode"
"""The stage of the decoding, in times, errors and metrics."""


VARIANT = "x-rollout"
"""Header by which an operator chooses the model of a stage with a rollout: `whisper=candidate`, or `whisper=stable`."""


def variants(values: list[str], stages: Mapping[str, Any]) -> dict[str, str]:
    """The chosen model by stage. Raises InvalidInput."""
    found = dict[str, str]()
    for one in ",".join(values).split(","):
        stage, _, variant = one.strip().partition("=")
        if stage not in stages or variant not in ("stable", "candidate"):
            raise InvalidInput(f"X-Rollout is STAGE=stable or STAGE=candidate, and a stage is {' or '.join(stages)}")
        found[stage] = variant
    return found


@dataclass
class AdmittedRequest:
    context: RequestContext
    entry: Entry
    reservation: Reservation
    setting_s: float
    """The longest time of a request, from its receipt."""
    x_timeout_ms: list[str]
    received_s: float = field(default_factory=time.monotonic)
    deadline_s: float = 0.0
    """Seconds from its receipt, once `limit` has been called."""

    def limit(self, timeout_ms: int | None = None) -> None:
        """Set the deadline; `timeout_ms`: the request's own parameter. Raises InvalidInput for a malformed header."""
        self.deadline_s = deadline_s(self.setting_s, timeout_ms, self.x_timeout_ms)
        self.context.time_left = TimeLeft(self.deadline_s - (time.monotonic() - self.received_s))

    async def read[Body](self, request: Request, receive: Callable[[Request], Awaitable[Body]]) -> Body:
        """The body, from `receive`. The request then has one of the places of `http.max_concurrent_requests`.

        Raises DeadlineExceeded where it does not arrive in time, BodyTooSlow, Overloaded.
        """
        self.limit()
        try:
            with span(self.context.trace, "receive"):
                async with asyncio.timeout(self.context.time_left.seconds):
                    body = await receive(Request(request.scope, self.reservation.receiving(request.receive)))
        except TimeoutError as error:
            raise DeadlineExceeded("the request did not arrive within its time: send a smaller one") from error
        self.reservation.begin()
        return body


@dataclass(frozen=True)
class Recording[Parameters]:
    """A decoded recording and the parameters that came with it."""

    audio: NDArray[np.int16]
    """[samples], mono, 16 kHz, with speech in it."""
    parameters: Parameters
    media_type: str
    """Of the answer."""
    admitted: AdmittedRequest


class Dependencies:
    """One for each ingress replica.

    FastAPI ends them once the response has been sent, a stream's last event included, or its client has disconnected.
    """

    def __init__(
        self,
        settings: HttpSettings,
        stages: Mapping[str, Stage[Any, Any]],
        readiness: Readiness,
        metrics: Metrics,
        decode: Decode,
        traces: Traces,
        logs_transcripts: bool = False,
    ) -> None:
        """`logs_transcripts`: the setting `logging.transcripts`."""
        self._settings = settings
        self._stages = stages
        self._readiness = readiness
        self._metrics = metrics
        self._decode = decode
        self._traces = traces
        self._logs_transcripts = logs_transcripts
        self._access = Access(settings.api_keys_file, settings.key_requests_per_minute)
        self._admission = Admission(
            settings.max_concurrent_requests,
            settings.max_concurrent_uploads,
            settings.max_buffered_bytes,
            lambda: BodyTimeout(settings.body_idle_timeout_s, settings.min_body_bytes_per_s),
            settings.key_max_concurrent_requests,
        )

    @property
    def requests(self) -> int:
        """Requests in the ingress now."""
        return self._admission.requests

    async def authenticate(self, request: Request) -> None:
        """For routes that compute nothing: a key suffices. Raises InvalidApiKey."""
        self._access.require(request)

    async def operator(self, request: Request) -> str:
        """The name of the operator's key. Raises InvalidApiKey, OperatorKeyNeeded."""
        return self._access.require_operator(request)

    async def admit(self, request: Request) -> AsyncIterator[AdmittedRequest]:
        """Reserve the request's place and bytes until it ends, and log it. Raises InvalidApiKey, RateLimitExceeded, Overloaded.

        With X-Rollout also OperatorKeyNeeded and InvalidInput.
        """
        settings = self._settings
        context = RequestContext(request_id(request), TimeLeft(settings.deadline_s), ended=(ended := asyncio.Event()))
        declared = declared_bytes(request.headers.get("content-length"), settings.max_upload_bytes)
        request.state.trace = context.trace = self._traces.begin(client_context(request), context.id, attributes(request))
        with logged(context, request.scope["route"].path, self._logs_transcripts, self._ended) as entry:
            context.key = self._access.require(request)
            context.may_read_trace = self._traces.keeps and self._access.is_operator(request, context.key)
            if VARIANT in request.headers:
                self._access.require_operator(request)
                context.variants = variants(request.headers.getlist(VARIANT), self._stages)
            self._access.count(context.key)
            with self._admission.admit(context.key, declared, self._retry_after_s) as reservation:
                x_timeout_ms = request.headers.getlist("x-timeout-ms")
                try:
                    yield AdmittedRequest(context, entry, reservation, settings.deadline_s, x_timeout_ms)
                finally:
                    ended.set()

    def recording[Parameters](
        self, receive: Callable[[Request, int], Awaitable[Upload]], parse: Callable[[Request, Upload], tuple[Parameters, str]]
    ) -> Callable[..., Awaitable[Recording[Parameters]]]:
        """The dependency of a route that takes a recording: read within the bounds, parsed, decoded.

        `receive` reads the body; `parse` returns the parameters, which can have `timeout_ms` and `n`, and the media type of the answer.
        It refuses, before anything is decoded, every request that could not be answered.
        """

        async def read(request: Request, admitted: Annotated[AdmittedRequest, Depends(self.admit)]) -> Recording[Parameters]:
            upload = await admitted.read(request, lambda metered: receive(metered, self._settings.max_upload_bytes))
            admitted.reservation.resize(len(upload.recording))
            parameters, media_type = parse(request, upload)
            admitted.reservation.count(getattr(parameters, "n", 1))
            admitted.limit(getattr(parameters, "timeout_ms", None))
            audio = await self._decoded(upload.recording, admitted.context)
            admitted.reservation.resize(audio.nbytes)
            return Recording(audio, parameters, media_type, admitted)

        return read

    async def _decoded(self, recording: bytes, context: RequestContext) -> NDArray[np.int16]:
        """Decode within the request's time. Raises a DeploymentError whose stage is `decode`."""
        started_s = time.perf_counter()
        with span(context.trace, DECODE) as own, self._metrics.stage(DECODE), translated(DECODE):
            sound = await within(DECODE, self._decode(recording, context.trace), context.time_left)
            if own is not None:
                own.attributes |= {
                    "sonograph.recording.bytes": len(recording),
                    "sonograph.audio_s": sound.samples.size / SAMPLE_RATE_HZ,
                }
        took_s = time.perf_counter() - started_s
        context.decode_warnings = sound.warnings
        context.notes["audio_s"] = sound.samples.size / SAMPLE_RATE_HZ
        context.took(decode=took_s * 1000)
        self._metrics.finished(DECODE, took_s, audio_s=context.notes["audio_s"])
        return sound.samples

    def _ended(self, entry: Entry) -> None:
        """Count a request of the ingress, its time or its end by its client, and its error where no stage has counted it; end its trace."""
        self._metrics.started(INGRESS)
        if entry.cancelled:
            self._metrics.cancelled(INGRESS)
        elif entry.code is None or entry.status == DeadlineExceeded.status:
            self._metrics.answered(entry.took_s)
        if entry.code is not None and entry.stage is None:
            self._metrics.failed(INGRESS, entry.code)
        if (trace := entry.context.trace) is not None:
            trace.end(entry.status, "cancelled" if entry.cancelled else entry.code)

    def _retry_after_s(self) -> float:
        stages = [(stage.latency, self._readiness.replicas(stage.name)) for stage in self._stages.values()]
        return retry_after_s(self._admission.concurrent_requests, stages)
