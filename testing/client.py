"""A request in flight: it can be watched, left, and awaited, beside others."""

import asyncio
import contextlib
from typing import Any, Self

import httpx
import httpx_sse

from testing.service import Service

EVENTS = "text/event-stream"
LONGEST_S = 200.0
"""Whatever happens, a request ends before that: a longer one hangs."""


class Call:
    """Begins at once. `told`: the data of each event so far; of a plain answer, nothing."""

    def __init__(
        self, service: Service, recording: bytes, streaming: bool = True, headers: dict[str, str] | None = None, **fields: str
    ) -> None:
        self.streaming = streaming
        self.told: list[dict[str, Any]] = []
        self.status: int | None = None
        """HTTP's; None while there is none, or where the connection ended without an answer."""
        self.problem: dict[str, Any] = {}
        """Of a plain answer, or the event `error`."""
        self.headers = httpx.Headers()
        self.type = EVENTS if streaming else "application/json"
        headers = {"Accept": self.type, **(headers or {})}
        self._request: dict[str, Any] = {"files": {"file": recording}, "data": fields, "headers": headers}
        self._url = f"{service.url}/graph"
        self._told = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def step(self) -> int:
        """The last one that was told."""
        return max((event["step"] for event in self.told if event["type"] == "image.step"), default=0)

    @property
    def outcome(self) -> tuple[int, str]:
        """What came of it in the end, streamed or not: status and code, (200, "") for a picture; (0, "cut") for neither."""
        if self.problem:
            return self.problem["status"], self.problem["code"]
        drawn = self.status == 200 and (not self.streaming or self.kinds[-1:] == ["done"])
        return (200, "") if drawn else (0, "cut")

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]

    async def until(self, kind: str) -> Self:
        """Returns when an event of this kind has come; fails if the request ends before."""
        async with asyncio.timeout(LONGEST_S):
            while kind not in self.kinds:
                assert not self._task.done(), f"ended without {kind}: {self.outcome} {self.told} {self.problem}"
                self._told.clear()
                await self._told.wait()
        return self

    async def leave(self) -> None:
        """Closes the connection, wherever the request is."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def end(self) -> Self:
        """Returns when it has ended by itself."""
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
                        self.told.append({"event": event.event, "id": event.id, **event.json()})
                        self.problem = self.told[-1].get("problem", {})
                        self._told.set()
        except httpx.TransportError:
            pass  # a stream that is cut; what came of it tells `outcome`
        finally:
            self._told.set()
