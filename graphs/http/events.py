"""A graph's answer as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from deployments.errors import DeploymentError
from graphs.core.graph import Graph
from graphs.core.progress import Progress, Queued, Retry
from graphs.http import problems
from graphs.http.dependencies import AdmittedRequest


def event_types(graph: Graph[Any, Any], progress: tuple[str, ...]) -> tuple[str, ...]:
    """All types that a stream of the graph can carry; `progress`: those of its models."""
    return ("accepted", *Queued.EVENTS, *progress, *graph.events, *Retry.EVENTS, "done", "error")


class GraphEvents:
    """The events of one request: each has a type, the request's id, and a sequence number."""

    def __init__(self, graph: Graph[Any, Any], parameters: Any, admitted: AdmittedRequest) -> None:
        self._graph = graph
        self._parameters = parameters
        self._admitted = admitted
        self._sequence = 0

    def started(self) -> Iterator[str]:
        yield self._event("accepted", {"deadline_ms": round(self._admitted.deadline_s * 1000)})

    def progress(self, progress: Progress) -> Iterator[str]:
        for type, data in progress.events():
            yield self._event(type, data)

    def done(self, result: Any) -> Iterator[str]:
        answer = self._graph.to_answer(result, self._parameters, self._admitted.context)
        for type, data in self._graph.result_events(answer):
            yield self._event(type, data)
        degraded = {"degraded": answer.degraded} if answer.degraded else {}
        warnings = {"decode_warnings": answer.decode_warnings} if answer.decode_warnings else {}
        yield self._event("done", {"timings_ms": answer.timings_ms, **degraded, **warnings})

    def failed(self, error: DeploymentError) -> Iterator[str]:
        yield self._event("error", {"problem": problems.content(error, self._admitted.context.id)})

    def _event(self, type: str, data: dict[str, Any]) -> str:
        content = {"type": type, "request_id": self._admitted.context.id, "sequence": self._sequence} | data
        self._sequence += 1
        return sse(type, content, self._sequence - 1)


def sse(type: str, data: dict[str, Any], id: int | None = None) -> str:
    """One event on the wire."""
    number = "" if id is None else f"id: {id}\n"
    return f"event: {type}\n{number}data: {json.dumps(data, separators=(',', ':'))}\n\n"
