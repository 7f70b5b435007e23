"""A request in flight beside others, which a test can watch, disconnect and await."""

import asyncio
import contextlib
from typing import Any, Self

import httpx
import httpx_sse

from testing.service import Service

EVENTS = "text/event-stream"
LONGEST_S = 200.0
"""Longest duration of any request; a longer one hangs."""


class Call:
    """A request that starts at once. `events` holds the data of each event so far; a plain answer has none."""

    def __init__(
        self, service: Service, recording: bytes, streaming: bool = True, headers: dict[str, str] | None = None, **fields: str
    ) -> None:
        self.streaming = streaming
        self.events: list[dict[str, Any]] = []
        self.status: int | None = None
        """HTTP status; None before the answer, or if the connection ended without one."""
        self.problem: dict[str, Any] = {}
        """Problem details of a plain answer or of the event `error`."""
        self.headers = httpx.Headers()
        self.type = EVENTS if streaming else "application/json"
        headers = {"Accept": self.type, **(headers or {})}
        self._request: dict[str, Any] = {"files": {"file": recording}, "data": fields, "headers": headers}
        self._url = f"{service.url}/graph"
        self._event_received = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def step(self) -> int:
        """Number of the last step reported."""
        return max((event["step"] for event in self.events if event["type"] == "image.step"), default=0)

    @property
    def outcome(self) -> tuple[int, str]:
        """Final status and code, streamed or not: (200, "") for a picture, (0, "cut") for a connection that was cut."""
        if self.problem:
            return self.problem["status"], self.problem["code"]
        drawn = self.status == 200 and (not self.streaming or self.event_types[-1:] == ["done"])
        return (200, "") if drawn else (0, "cut")

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def event_types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def wait_for(self, event_type: str) -> Self:
        """Wait for an event of this type; fail if the request ends before."""
        async with asyncio.timeout(LONGEST_S):
            while event_type not in self.event_types:
                assert not self._task.done(), f"ended without {event_type}: {self.outcome} {self.events} {self.problem}"
                self._event_received.clear()
                await self._event_received.wait()
        return self

    async def disconnect(self) -> None:
        """Close the connection at any point of the request."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def finished(self) -> Self:
        """Wait until the request has ended by itself."""
        async with asyncio.timeout(LONGEST_S):
            await asyncio.shield(self._task)
        return self

    async def _run(self) -> None:
        try:
            async with (
                httpx.AsyncClient(timeout=LONGEST_S) as client,
                client.stream("POST", self._url, **self._request) as answer,
            ):
                self.status, self.headers = answer.status_code, answer.headers
                if not answer.headers["content-type"].startswith(EVENTS):
                    await answer.aread()
                    self.problem = answer.json() if answer.status_code != 200 else {}
                    return
                async for event in httpx_sse.EventSource(answer).aiter_sse():
                    if event.data:
                        self.events.append({"event": event.event, "id": event.id, **event.json()})
                        self.problem = self.events[-1].get("problem", {})
                        self._event_received.set()
        except httpx.TransportError:
            pass  # the connection was cut, which `outcome` reports
        finally:
            self._event_received.set()
