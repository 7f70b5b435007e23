"""The middleware of Serve's proxy: an X-Request-ID that is not well formed never reaches Serve, nor what would command it."""

from typing import Any

import pytest

from graphs.http.proxy import Headers, middlewares


async def passed_on(*headers: tuple[bytes, bytes], type: str = "http") -> list[tuple[bytes, bytes]]:
    """The headers that the app behind the middleware sees."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    given = {"type": type, "headers": list(headers)}
    await Headers(app)(given, None, None)
    assert given["headers"] == list(headers), "the caller's own scope is left alone"
    return list(seen[0]["headers"])


OTHER = (b"accept", b"*/*")


@pytest.mark.parametrize("id", [b"a", b"x" * 64, b"A-b_c.9"])
async def test_a_well_formed_request_id_passes(id: bytes) -> None:
    assert await passed_on(OTHER, (b"x-request-id", id)) == [OTHER, (b"x-request-id", id)]


@pytest.mark.parametrize("id", [b"", b"x" * 65, b"a b", b"a\n", b"\xff\xfe", b"{}", b"a\x1b[31m"])
@pytest.mark.parametrize("type", ["http", "websocket"])
async def test_another_request_id_is_dropped(id: bytes, type: str) -> None:
    assert await passed_on((b"x-request-id", id), OTHER, type=type) == [OTHER]


async def test_several_request_ids_are_all_dropped() -> None:
    assert await passed_on((b"x-request-id", b"a"), OTHER, (b"x-request-id", b"b")) == [OTHER]


@pytest.mark.parametrize("name", [b"x-request-timeout-seconds", b"x-request-disconnect-disabled"])
async def test_a_client_does_not_decide_how_long_serve_waits(name: bytes) -> None:
    assert await passed_on((name, b"0"), OTHER, (b"x-request-id", b"a")) == [OTHER, (b"x-request-id", b"a")]


async def test_other_headers_and_other_scopes_pass_untouched() -> None:
    assert await passed_on(OTHER, (b"x-other", b"\xff")) == [OTHER, (b"x-other", b"\xff")]
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    await Headers(app)({"type": "lifespan"}, None, None)
    assert seen == [{"type": "lifespan"}]


def test_serve_gets_this_middleware() -> None:
    (middleware,) = middlewares()
    assert middleware.cls is Headers
