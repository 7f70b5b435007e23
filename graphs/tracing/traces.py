"""The traces of one ingress replica: begun with a request, and kept or sent once it has ended."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Mapping

from deployments.span import TraceContext, Value
from graphs.tracing.export import Exporter
from graphs.tracing.settings import TracingSettings
from graphs.tracing.trace import REQUEST_ID, Trace

ENDS_S = 1.0
"""Longest wait for the end of a request: its client may have the last byte and ask for the trace before the request has ended here."""


class Traces:
    def __init__(self, settings: TracingSettings, exporter: Exporter | None = None) -> None:
        """`exporter`: to the collector; None where there is none."""
        self._settings = settings
        self._exporter = exporter
        self._kept: deque[Trace] = deque()
        self._size = 0
        """Spans and events of those that are kept, mirrored calls' included."""
        self.keeps = settings.max_traces > 0
        self.since_ns = time.time_ns()
        """Unix time since which every request that ended is kept."""
        self._running: dict[str, asyncio.Event] = {}
        """Set at the end of each request that runs, by its trace's id."""

    def begin(self, client: TraceContext | None, request_id: str, request: Mapping[str, Value]) -> Trace | None:
        """The request's trace; None where nothing would be done with it.

        `client`: its client's context. `request`: the root's attributes, with at least the method and the route.
        """
        if self._exporter is None and not self._settings.max_traces:
            return None
        name = f"{request['http.request.method']} {request['http.route']}"
        trace = Trace(name, client, None, self._ended, self._settings.message_content, **request, **{REQUEST_ID: request_id})
        self._running[trace.id] = asyncio.Event()
        return trace

    def _ended(self, trace: Trace) -> None:
        """Keep the trace, a mirrored call's with its request's, and send it where it is sampled."""
        self._keep(trace)
        if self._exporter is not None and self.sampled(trace):
            trace.sent = True
            self._exporter.send(trace)
        if trace.origin is None and (ended := self._running.pop(trace.id, None)) is not None:
            ended.set()

    def _keep(self, trace: Trace) -> None:
        """Keep the trace, and forget the oldest ones beyond the bounds."""
        if trace.origin is not None:
            trace.origin.mirrors.append(trace)
            if trace.origin in self._kept:
                self._size += trace.size
        elif self.keeps:
            self._kept.append(trace)
            self._size += _size(trace)
        while len(self._kept) > self._settings.max_traces or (self._size > self._settings.max_spans and len(self._kept) > 1):
            oldest = self._kept.popleft()
            self._size -= _size(oldest)
            self.since_ns = oldest.root.ended_ns

    def close(self) -> None:
        """Send what waits for the collector. Takes some seconds at most."""
        if self._exporter is not None:
            self._exporter.close()

    def sampled(self, trace: Trace) -> bool:
        """Whether the trace is sent: as its client decided, by the ratio else; always where the request failed or was slow.

        A mirrored call's is sent where its request's was.
        """
        if trace.origin is not None:
            return trace.origin.sent
        if trace.root.error is not None or trace.root.duration_ms >= self._settings.slow_s * 1000:
            return True
        if trace.client is not None:
            return trace.client.sampled
        return random.random() < self._settings.sample_ratio

    @property
    def count(self) -> int:
        """Requests that are kept."""
        return len(self._kept)

    async def find_soon(self, id: str) -> Trace | None:
        """As `find`, and a trace by its id also where its request ends within ENDS_S."""
        if (ended := self._running.get(id)) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), ENDS_S)
        return self.find(id)

    def find(self, id: str) -> Trace | None:
        """A kept trace by its id, its request's id, `last` or `slowest`; a mirrored call's by its own id."""
        if not self._kept:
            return None
        if id == "last":
            return self._kept[-1]
        if id == "slowest":
            return max(self._kept, key=lambda trace: trace.root.duration_ms)
        everything = (one for kept in reversed(self._kept) for one in (kept, *kept.mirrors))
        return next((one for one in everything if id in (one.id, one.root.attributes[REQUEST_ID])), None)


def _size(trace: Trace) -> int:
    """Spans and events of an ended request, its mirrored calls' included."""
    return trace.size + sum(mirror.size for mirror in trace.mirrors)
