"""API keys, rate limits and CORS, over stages that answer at once."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from graphs.http.auth import CHECK_S, Access, read
from graphs.http.errors import InvalidApiKey, RateLimitExceeded
from graphs.http.settings import HttpSettings
from testing.fakes import FakeService, access_log

ALICE, BOB = "alice-has-a-long-key", "bob#has=another/key+1"
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/graph", {"files": {"file": b"sound"}}),
    ("POST", "/listen", {"files": {"file": b"sound"}}),
    ("POST", "/v1/audio/transcriptions", {"files": {"file": b"sound"}}),
    ("POST", "/v1/audio/translations", {"files": {"file": b"sound"}}),
    ("POST", "/v1/images/generations", {"json": {"prompt": "x"}}),
    ("GET", "/v1/models", {}),
    ("GET", "/v1/models/tiny.en", {}),
]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# clients\n\nalice {ALICE}\n  bob\t{BOB}  \n")
    return file


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FakeService]]:
    service = FakeService(HttpSettings.model_validate(settings))
    async with service.client() as client:
        yield client, service


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=[path for _, path, _ in REQUESTS])
async def test_a_route_that_computes_or_names_models_needs_a_key_if_the_service_has_keys(
    keys: Path, method: str, path: str, body: dict[str, Any]
) -> None:
    async with serving(api_keys_file=keys) as (client, service):
        for headers in ({}, bearer(ALICE[:-1]), bearer("alice"), {"Authorization": ALICE}, {"Authorization": f"Basic {ALICE}"}):
            answer = await client.request(method, path, headers=headers, **body)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            problem = answer.json().get("error", answer.json())
            assert problem["code"] == "invalid_api_key"
            assert ALICE not in answer.text
        assert service.recordings == service.whisper.calls == service.diffusion.calls == []
        for key in (ALICE, BOB):
            assert (await client.request(method, path, headers=bearer(key), **body)).status_code == 200


async def test_two_keys_in_one_request_are_refused(keys: Path) -> None:
    async with serving(api_keys_file=keys) as (client, _):
        headers = [("Authorization", f"Bearer {ALICE}"), ("Authorization", f"Bearer {BOB}")]
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


async def test_routes_without_data_need_no_key(keys: Path) -> None:
    async with serving(api_keys_file=keys) as (client, _):
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


async def test_without_keys_every_client_is_served_whatever_it_sends() -> None:
    async with serving() as (client, _):
        assert (await client.get("/v1/models", headers=bearer("none"))).status_code == 200


async def test_the_log_has_the_keys_name_and_never_the_key(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ray.serve"):
        async with serving(api_keys_file=keys) as (client, _):
            await client.post("/graph", files={"file": b"sound"}, headers=bearer(BOB))
            await client.post("/graph", files={"file": b"sound"}, headers=bearer("wrong-but-long-enough"))
    lines = access_log(caplog.records)
    assert [(line["key"], line["status"], line["code"]) for line in lines] == [
        ("bob", 200, None),
        (None, 401, "invalid_api_key"),
    ]
    assert BOB not in caplog.text
    assert "wrong" not in caplog.text


async def test_a_key_above_its_rate_is_refused_and_the_others_are_not(keys: Path) -> None:
    async with serving(api_keys_file=keys, key_requests_per_minute=2) as (client, _):
        body = {"files": {"file": b"sound"}}
        answers = [await client.post("/v1/audio/transcriptions", headers=bearer(ALICE), **body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "30"
        error = answers[2].json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert (await client.post("/graph", headers=bearer(ALICE), **body)).json()["code"] == "rate_limit_exceeded"
        assert (await client.post("/graph", headers=bearer(BOB), **body)).status_code == 200
        assert (await client.get("/v1/models", headers=bearer(ALICE))).status_code == 200


def test_a_minutes_requests_may_arrive_at_once_and_the_bucket_refills_evenly(keys: Path) -> None:
    now_s = 0.0
    access = Access(keys, 60, lambda: now_s)
    for _ in range(60):
        access.count("alice")
    with pytest.raises(RateLimitExceeded):
        access.count("alice")
    now_s = 2.0
    access.count("alice")
    access.count("alice")
    with pytest.raises(RateLimitExceeded) as refused:
        access.count("alice")
    assert refused.value.retry_after_s == 1
    now_s = 1e6
    for _ in range(60):
        access.count("alice")
    with pytest.raises(RateLimitExceeded):
        access.count("alice")


def test_without_a_rate_or_without_keys_nothing_is_counted(keys: Path) -> None:
    for access, name in ((Access(keys, None), "alice"), (Access(None, 1), None)):
        for _ in range(100):
            access.count(name)


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer  ", "bearer", "", "Bearer é\x80", "Bearer " + "x" * 5000])
def test_any_malformed_header_is_refused_without_a_defect(keys: Path, sent: str) -> None:
    headers = [(b"authorization", sent.encode("latin-1"))]
    with pytest.raises(InvalidApiKey):
        Access(keys, None).require(Request({"type": "http", "headers": headers}))


def test_the_schemes_case_does_not_matter(keys: Path) -> None:
    request = Request({"type": "http", "headers": [(b"authorization", f"bearer {ALICE}".encode())]})
    assert Access(keys, None).require(request) == "alice"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no key"),
        ("# nobody\n", "has no key"),
        ("alice", "line 1"),
        ("alice short", "line 1"),
        (f"alice {ALICE}\nalice {BOB}", "line 2"),
        (f"alice {ALICE}\nbob {ALICE}", "line 2"),
        (f"al/ice {ALICE}", "line 1"),
        (f"alice {ALICE} x", "line 1"),
        (f"alice {ALICE}é", "line 1"),
    ],
)
def test_a_malformed_file_is_refused_without_showing_a_key(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match=sentence) as refused:
        read(tmp_path / "keys")
    assert ALICE not in str(refused.value)
    assert BOB not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"http\.api_keys_file is .*none.*cannot be read"):
        Access(tmp_path / "none", None)


ORIGIN = "https://pages.example"


async def test_pages_of_the_listed_origins_may_use_the_service_from_a_browser(keys: Path) -> None:
    async with serving(api_keys_file=keys, cors_origins=[ORIGIN]) as (client, _):
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-timeout-ms"}
        allowed = await client.options("/graph", headers={"Origin": ORIGIN, **preflight})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert allowed.headers["access-control-allow-headers"] == "authorization,x-timeout-ms"
        answer = await client.post("/graph", headers={"Origin": ORIGIN}, files={"file": b"x"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Transcript", "X-Seed", "X-Degraded", "X-Request-ID", "Server-Timing", "Retry-After"} <= set(exposed)
        assert len(exposed) == len(set(exposed))
        other = await client.options("/graph", headers={"Origin": "https://other.example", **preflight})
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers


async def test_without_a_list_no_origin_is_allowed() -> None:
    async with serving() as (client, _):
        answer = await client.post("/graph", headers={"Origin": ORIGIN}, files={"file": b"x"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


def sends(access: Access, key: str) -> str | None:
    """The name of the key, or None where it is refused."""
    try:
        return access.require(Request({"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]}))
    except InvalidApiKey:
        return None


CAROL = "carol-came-a-little-later"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_keys_are_read_again_when_their_file_changes(keys: Path) -> None:
    clock = Clock()
    access = Access(keys, None, clock)
    keys.write_text(f"alice {ALICE}\ncarol {CAROL}\n")
    assert [sends(access, key) for key in (ALICE, BOB, CAROL)] == ["alice", "bob", None], "not on each request"
    clock.now_s += CHECK_S
    assert [sends(access, key) for key in (ALICE, BOB, CAROL)] == ["alice", None, "carol"]


def test_keys_are_read_again_when_a_link_points_elsewhere(tmp_path: Path) -> None:
    """A Secret of Kubernetes changes in this way, to files of the same size and time."""
    for version, key in (("1", ALICE), ("2", CAROL[: len(ALICE)])):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"alice {key}\n")
        os.utime(tmp_path / version / "keys", (0, 0))
    link, clock = tmp_path / "data", Clock()
    link.symlink_to("1")
    access = Access(link / "keys", None, clock)
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    clock.now_s += CHECK_S
    assert [sends(access, key) for key in (ALICE, CAROL[: len(ALICE)])] == [None, "alice"]


@pytest.mark.parametrize("text", ["", f"alice {ALICE}\nbroken\x1b[31m {CAROL} {CAROL}\n", f"alice {CAROL}\nbob {CAROL}\n", None])
def test_a_file_that_cannot_be_used_leaves_the_old_keys_and_is_logged_once(
    keys: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    access = Access(keys, None, clock)
    keys.unlink() if text is None else keys.write_text(text)
    for _ in range(5):
        clock.now_s += CHECK_S
        assert [sends(access, key) for key in (ALICE, BOB, CAROL)] == ["alice", "bob", None]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
    assert not [key for key in (ALICE, BOB, CAROL) if key in caplog.text]
    keys.write_text(f"carol {CAROL}\n")
    clock.now_s += CHECK_S
    assert [sends(access, key) for key in (ALICE, CAROL)] == [None, "carol"]


def test_a_key_that_stays_keeps_its_rate_when_the_file_is_read_again(keys: Path) -> None:
    clock = Clock()
    access = Access(keys, 1, clock)
    access.count("alice")
    keys.write_text(f"alice {ALICE}\ncarol {CAROL}\n")
    clock.now_s += CHECK_S
    assert sends(access, CAROL) == "carol"
    access.count("carol")
    for name in ("alice", "carol"):
        with pytest.raises(RateLimitExceeded):
            access.count(name)
    access.count("bob")
