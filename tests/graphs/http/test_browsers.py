"""Requests of other sites' pages are refused, and nobody else's."""

from typing import Any

import httpx
import pytest

from graphs.http.settings import HttpSettings
from testing.fakes import FakeService

ORIGIN = "https://example.org"
HERE = "127.0.0.1"


async def post(
    headers: dict[str, str], server: str = HERE, method: str = "POST", path: str = "/graph", **settings: Any
) -> httpx.Response:
    service = FakeService(HttpSettings(**settings))
    app = service.app()

    async def at(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": (server, 8000)}, receive, send)

    transport = httpx.ASGITransport(at)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        body = {"files": {"file": b"a recording"}} if method == "POST" else {}
        return await client.request(method, path, headers=headers, **body)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "sonograph.localhost:8000"},
        {"Host": "LOCALHOST"},
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
    ],
)
async def test_the_page_and_programs_notice_nothing(headers: dict[str, str]) -> None:
    assert (await post(headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9000", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:8000.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
async def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    answer = await post(headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_link_from_another_site_is_followed_and_nothing_is_embedded(method: str) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await post(link, method=method, path="/")).status_code == 200
    assert (await post({**link, "Sec-Fetch-Mode": "no-cors"}, method=method, path="/")).status_code == 403


@pytest.mark.parametrize("origins", [[ORIGIN], ["*"], [f"{ORIGIN}/"]])
async def test_an_origin_of_the_settings_is_allowed(origins: list[str]) -> None:
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    assert (await post(headers, cors_origins=origins)).status_code == 200
    if "*" not in origins:
        assert (await post({**headers, "Origin": "https://other.example"}, cors_origins=origins)).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.1.7:8000"])
async def test_on_loopback_another_hosts_name_is_refused(host: str) -> None:
    """Also where the browser takes the page for one of the same origin, since its name points here."""
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    for path in ("/graph", "/healthz"):
        answer = await post(headers, method="GET" if path == "/healthz" else "POST", path=path)
        assert (answer.status_code, answer.json()["code"]) == (403, "unknown_host")
    for trusted in (host.split(":")[0], "*"):
        assert (await post(headers, trusted_hosts=[trusted])).status_code == 200
    assert (await post(headers, server="10.0.0.7")).status_code == 200, "elsewhere the network decides"


async def test_openais_errors_have_openais_form() -> None:
    answer = await post({"Origin": "https://evil.example"}, path="/v1/audio/transcriptions")
    assert answer.json()["error"]["code"] == "cross_site_request"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/docs", "/", "/openapi.json", "/page/limits.json"])
async def test_head_is_answered_wherever_get_is_without_a_body(path: str) -> None:
    got, head = [await post({}, method=method, path=path) for method in ("GET", "HEAD")]
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["content-type"] == got.headers["content-type"]


async def test_head_where_there_is_no_get_is_refused_and_get_is_named_with_head() -> None:
    assert (await post({}, method="HEAD", path="/listen")).status_code == 405
    answer = await post({}, method="DELETE", path="/healthz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/graph/"), ("GET", "/healthz/"), ("GET", "/v1/models/"), ("GET", "/docs//")]
)
async def test_a_trailing_slash_changes_nothing(method: str, path: str) -> None:
    assert (await post({}, method=method, path=path)).status_code == 200
