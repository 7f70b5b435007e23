"""How every route that calls a room takes a request in: its line in the log, its admission, its time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from deployments.errors import DeadlineExceeded
from deployments.time_left import TimeLeft
from graphs.core.context import Given
from graphs.http import access_log, problems
from graphs.http.access_log import Line
from graphs.http.admission import Admission, Ticket, declared_bytes
from graphs.http.auth import Access
from graphs.http.deadline import deadline_s
from graphs.http.settings import HttpSettings


@dataclass(frozen=True)
class Visit:
    """One admitted request."""

    line: Line
    ticket: Ticket
    setting_s: float
    """The longest that a request may take, from its receipt."""
    x_timeout_ms: list[str]
    received_s: float = field(default_factory=time.monotonic)

    def allowed_s(self, timeout_ms: int | None = None) -> float:
        """`timeout_ms`: the request's own parameter. Raises InvalidInput for a header that cannot be read."""
        return deadline_s(self.setting_s, timeout_ms, self.x_timeout_ms)

    def given(self, timeout_ms: int | None = None) -> Given:
        return Given(TimeLeft(self.allowed_s(timeout_ms) - (time.monotonic() - self.received_s)), self.line)

    async def read[Body](self, receive: Callable[[], Awaitable[Body]]) -> Body:
        """What `receive` gives. Raises DeadlineExceeded where it does not arrive in time."""
        try:
            async with asyncio.timeout(self.allowed_s()):
                return await receive()
        except TimeoutError as error:
            raise DeadlineExceeded("the request did not arrive within its time: send a smaller one") from error


class Reception:
    """One for each ingress replica; its methods are FastAPI's dependencies.

    FastAPI leaves them once the answer has been sent, a stream's last event too, or its client has gone.
    """

    def __init__(self, settings: HttpSettings, ended: Callable[[Line], None], retry_after_s: Callable[[int], float]) -> None:
        """`ended` is told each request's line, `retry_after_s` how long so many requests will take."""
        self._settings = settings
        self._ended = ended
        self._retry_after_s = retry_after_s
        self._access = Access(settings.keys, settings.key_requests_per_minute)
        self._admission = Admission(settings.max_requests, settings.max_bytes)

    @property
    def requests(self) -> int:
        """That are in the ingress now."""
        return self._admission.requests

    async def identify(self, request: Request) -> None:
        """For what costs nothing: a key suffices. Raises InvalidApiKey."""
        self._access.require(request)

    async def admit(self, request: Request) -> AsyncIterator[Visit]:
        """Raises InvalidApiKey, RateLimitExceeded, Overloaded."""
        declared = declared_bytes(request.headers.get("content-length"), self._settings.max_upload_bytes)
        id, route = problems.request_id(request), request.scope["route"].path
        with access_log.line(id, self._settings.log_transcripts, self._ended, route) as line:
            line.key = self._access.require(request)
            self._access.count(line.key)
            with self._admission.admit(declared, lambda: self._retry_after_s(self.requests)) as ticket:
                yield Visit(line, ticket, self._settings.deadline_s, request.headers.getlist("x-timeout-ms"))
