"""Short bodies in Serve's proxy: what goes into the scope, and what `receive` gives afterwards."""

import asyncio
from typing import Any

import pytest

from graphs.http.middleware import body
from graphs.http.middleware.body import MAX_BYTES, ProxyBodyMiddleware
from graphs.serve.bodies import BODY

PART = b"x" * 1000
DISCONNECT = {"type": "http.disconnect"}


def part(content: bytes = PART, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


class Client:
    """Client that sends these messages, each after its delay in seconds, and then stays."""

    def __init__(self, *messages: dict[str, Any], delay_s: float = 0.0) -> None:
        self._messages = list(messages)
        self._delay_s = delay_s
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self._messages:
            await asyncio.sleep(self._delay_s)
            return self._messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def through(
        self, *headers: tuple[bytes, bytes], type: str = "http"
    ) -> tuple[dict[str, Any], int, list[dict[str, Any]]]:
        """Return the scope that the app gets, how often the client was asked before, and what the app then receives."""
        found: list[Any] = []
        scope = {"type": type, "headers": list(headers)}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            messages = []
            found[:] = [scope, self.asked, messages]
            while not messages or messages[-1].get("more_body"):
                messages.append(await receive())

        await asyncio.wait_for(ProxyBodyMiddleware(app)(scope, self.receive, None), 5)
        assert BODY not in scope, "the middleware changes the caller's scope"
        return found[0], found[1], found[2]


async def test_a_body_in_parts_goes_with_its_request_and_is_received_as_well() -> None:
    messages = [part(b"a"), part(b""), part(b"b", more=False)]
    scope, asked, received = await Client(*messages).through((b"content-length", b"2"))
    assert (scope[BODY], asked, received) == (b"ab", 3, messages)


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    scope, _, received = await Client(part(b"", more=False)).through()
    assert (scope[BODY], received) == (b"", [part(b"", more=False)])


@pytest.mark.parametrize("size_bytes", [MAX_BYTES, MAX_BYTES + 1])
async def test_a_body_of_unknown_length_goes_up_to_the_bound(size_bytes: int) -> None:
    messages = [part(b"x" * (size_bytes - 1)), part(b"x", more=False)]
    scope, _, received = await Client(*messages).through()
    assert (BODY in scope) == (size_bytes <= MAX_BYTES)
    assert received == messages


async def test_a_body_without_end_is_kept_up_to_the_bound_alone() -> None:
    client = Client(*[part(b"x" * 65536)] * 40, part(b"", more=False))
    scope, asked, received = await client.through()
    assert BODY not in scope
    assert asked == MAX_BYTES // 65536 + 1
    assert len(received) == 41


@pytest.mark.parametrize(
    "header",
    [
        (b"content-length", b"%d" % (MAX_BYTES + 1)),
        (b"content-length", b"9" * 5000),
        (b"content-length", b"0" * 5000 + b"3"),
        (b"expect", b"100-continue"),
        (b"expect", b"100-Continue"),
    ],
)
async def test_what_is_too_long_or_waits_for_100_is_left_to_the_app(header: tuple[bytes, bytes]) -> None:
    scope, asked, received = await Client(part(more=False)).through(header)
    assert (BODY in scope, asked, received) == (False, 0, [part(more=False)])


@pytest.mark.parametrize("length", [b"1_0", b"\xff", b""])
async def test_a_length_that_is_no_number_is_unknown(length: bytes) -> None:
    """uvicorn answers 400 to such a request; should one come, the bound on what is collected holds it."""
    client = Client(*[part(b"x" * 65536)] * 40, part(b"", more=False))
    scope, asked, received = await client.through((b"content-length", length))
    assert (BODY in scope, asked, len(received)) == (False, MAX_BYTES // 65536 + 1, 41)


async def test_other_scopes_are_left_alone() -> None:
    _, asked, received = await Client({"type": "websocket.connect"}).through(type="websocket")
    assert (asked, received) == (0, [{"type": "websocket.connect"}])


async def test_a_slow_body_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "LONGEST_WAIT_S", 0.05)
    messages = [part(b"%d" % number) for number in range(4)] + [part(b"4", more=False)]
    scope, asked, received = await Client(*messages, delay_s=0.03).through()
    assert BODY not in scope
    assert asked < 5
    assert received == messages


async def test_a_client_that_leaves_has_no_body() -> None:
    scope, _, received = await Client(part(), DISCONNECT).through()
    assert BODY not in scope
    assert received == [part(), DISCONNECT]
