"""What a service outlives: more than it can do, clients that leave in crowds, processes that are killed, an update, its own end."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from graphs.core.metrics import RETRIES
from testing import media, speech
from testing.client import Call
from testing.service import Service, config, environment, sonograph

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
MINUTE = media.minute()
MEDIUM = {"steps": "16", "width": "256", "height": "256"}
"""Some seconds of denoising."""
SETTINGS = {"http": {"max_concurrent_requests": 8, "deadline_s": 120}}
OPTIONS = {
    "ingress": {"max_surge_percent": 100},
    "whisper": {"max_surge_percent": 100, "ray_actor_options": {"num_cpus": 0.5}, "health_check_period_s": 1},
    "diffusion": {"max_surge_percent": 100, "ray_actor_options": {"num_cpus": 0.5}, "health_check_period_s": 1},
}
"""Half a CPU each, so that an update's second replicas fit on two."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("death")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """Time enough to wait for a new replica, and few places, so that they are soon taken."""
    with sonograph(folder, OPTIONS, **SETTINGS) as service:
        yield service


async def serves_as_before(service: Service) -> None:
    call = await Call(service, CAT, streaming=False).end()
    assert call.outcome == (200, "")


async def in_flight(service: Service, recording: bytes, kind: str, **more: str) -> list[Call]:
    """Three streams and one without, of which the first, which is asked for `more`, has told an event of this kind."""
    first = await Call(service, recording, **MEDIUM | more).until(kind)
    return [first, *(Call(service, CAT, streaming, **MEDIUM) for streaming in (True, True, False))]


async def ended(calls: list[Call]) -> list[tuple[int, str]]:
    return [(await call.end()).outcome for call in calls]


async def replaced(service: Service, deployment: str, old: psutil.Process) -> None:
    await asyncio.to_thread(service.wait_until_replaced, deployment, old)
    await serves_as_before(service)


@pytest.mark.parametrize(
    ("deployment", "victim"), [("diffusion", "stub"), ("diffusion", "replica"), ("whisper", "stub"), ("whisper", "replica")]
)
async def test_a_request_outlives_the_death_of_its_model(service: Service, deployment: str, victim: str) -> None:
    replica, stub = service.replica(deployment), service.stub(deployment)
    retried = service.metric(RETRIES.exported, stage=deployment)
    if deployment == "diffusion":
        calls = await in_flight(service, CAT, "image.step")
    else:
        calls = await in_flight(service, MINUTE, "transcript.delta")
    (replica if victim == "replica" else stub).send_signal(signal.SIGKILL)
    outcomes = await ended(calls)
    assert set(outcomes) <= {(200, ""), (503, "model_unavailable")}
    assert outcomes[0] == (200, "")
    assert calls[0].kinds.count("retry") == 1
    (retry,) = (event for event in calls[0].told if event["type"] == "retry")
    assert retry["stage"] == deployment
    assert service.metric(RETRIES.exported, stage=deployment) > retried
    await replaced(service, deployment, replica)
    psutil.wait_procs([replica, stub], timeout=30)  # a replica whose stub is gone ends itself, and the other way round
    assert not replica.is_running()
    assert not stub.is_running()


async def test_a_frozen_model_is_replaced_and_its_request_answered(service: Service) -> None:
    replica, stub = service.replica("diffusion"), service.stub("diffusion")
    stub.suspend()
    call = await Call(service, CAT).end()
    assert call.outcome == (200, "")
    assert "retry" in call.kinds
    await replaced(service, "diffusion", replica)
    assert service.stub("diffusion").pid != stub.pid


async def test_the_death_of_the_ingress_cuts_streams_and_is_a_503_for_the_others(service: Service) -> None:
    ingress = service.replica("ingress")
    first = await Call(service, CAT, **MEDIUM).until("image.step")
    plain = [Call(service, CAT, streaming=False, **MEDIUM) for _ in range(2)]
    streamed = await Call(service, CAT, **MEDIUM).until("accepted")
    ingress.send_signal(signal.SIGKILL)
    assert await ended([first, streamed]) == [(0, "cut"), (0, "cut")]
    assert await ended(plain) == [(503, "model_unavailable")] * 2
    for call in plain:
        assert call.headers["content-type"] == "application/problem+json"
        assert call.problem["request_id"] == call.headers["x-request-id"]
        assert call.headers["retry-after"].isdecimal()
    await replaced(service, "ingress", ingress)


async def takes_s(service: Service) -> float:
    """A lone request, on this machine and now."""
    began_s = time.monotonic()
    await serves_as_before(service)
    return time.monotonic() - began_s


async def open_loop(service: Service, number: int, every_s: float) -> list[Call]:
    calls = []
    for _ in range(number):
        calls.append(Call(service, CAT, streaming=random.random() < 0.5))
        await asyncio.sleep(every_s)
    return calls


async def test_several_times_what_it_can_do_is_served_or_refused_and_never_hangs(service: Service) -> None:
    calls = await open_loop(service, number=60, every_s=await takes_s(service) / 12)
    outcomes = await ended(calls)
    assert set(outcomes) <= {(200, ""), (503, "overloaded"), (504, "deadline_exceeded"), (504, "deadline_unreachable")}
    assert (200, "") in outcomes
    assert (503, "overloaded") in outcomes
    for call in calls:
        if call.outcome == (503, "overloaded"):
            assert 1 <= int(call.headers["retry-after"]) <= 60
    await serves_as_before(service)


async def serve_cli(service: Service, *words: str) -> None:
    """Serve's own command, towards this service's cluster: its dashboard asks for the token that Ray keeps for local clusters."""
    command = [str(Path(sys.prefix) / "bin" / "serve"), words[0], "--address", service.dashboard, *words[1:]]
    environ = {**environment(), "RAY_AUTH_MODE": "token"}
    await asyncio.to_thread(subprocess.run, command, env=environ, check=True, timeout=120)


async def test_an_update_under_load_loses_no_request(service: Service, folder: Path) -> None:
    old = {one.pid for name in OPTIONS for one in service.replicas(name)}
    port = int(service.url.rsplit(":", 1)[1])
    changed = folder / "changed.yaml"
    changed.write_text(config(port, OPTIONS, **SETTINGS, diffusion={"steps": 11}))
    calls: list[Call] = []
    updated = asyncio.Event()

    async def client(streaming: bool) -> None:
        while not updated.is_set():
            calls.append(await Call(service, CAT, streaming).end())

    def through() -> bool:
        replicas = [one.pid for name in OPTIONS for one in service.replicas(name)]
        return len(replicas) == len(OPTIONS) and not old & set(replicas)

    clients = [asyncio.create_task(client(streaming)) for streaming in (True, False)]
    try:
        await serve_cli(service, "deploy", str(changed))
        await asyncio.to_thread(service.wait_until, through, "new replicas alone", 240)
    finally:
        updated.set()
        await asyncio.gather(*clients)
    assert [call.problem for call in calls if call.outcome != (200, "")] == []
    call = await Call(service, CAT).end()
    assert call.told[-3]["steps"] == 11


async def test_300_clients_that_leave_at_random_moments_leave_nothing_behind(service: Service) -> None:
    moments, longest_s = random.Random(0), 2 * await takes_s(service)
    places = asyncio.Semaphore(8)
    left = 0

    async def client() -> None:
        nonlocal left
        async with places:
            call = Call(service, CAT, streaming=moments.random() < 0.5, steps=str(moments.randint(1, 12)))
            await asyncio.sleep(moments.uniform(0, longest_s))
            left += call.status is None or call.outcome == (0, "cut")
            await call.leave()
            assert call.outcome in ((0, "cut"), (200, ""), (503, "overloaded")), call.problem

    await asyncio.gather(*(client() for _ in range(300)))
    assert left > 100
    await serves_as_before(service)

    def idle() -> bool:
        names = "ray_serve_replica_processing_queries", "ray_serve_num_ongoing_requests_at_replicas"
        return all(service.metric(name) == 0 for name in names)

    await asyncio.to_thread(service.wait_until, idle, "no request is left anywhere")


async def test_serve_shutdown_waits_for_what_is_in_flight_and_refuses_the_rest(tmp_path: Path) -> None:
    with sonograph(tmp_path, OPTIONS, **SETTINGS) as service:
        # The second model's stage is still to come, and takes longer than the command.
        calls = await in_flight(service, MINUTE, "transcript.delta", steps="100")
        ending = asyncio.create_task(serve_cli(service, "shutdown", "-y"))
        await asyncio.to_thread(service.wait_until, lambda: service.client.get("/healthz").status_code != 200, "it ends")
        late = await Call(service, CAT, streaming=False).end()
        assert late.outcome == (503, "model_unavailable")
        assert not calls[0].done
        await ended(calls)
        assert [call.problem for call in calls if call.outcome != (200, "")] == []
        await ending
        for name in OPTIONS:
            assert "did not stop in order" not in service.logs(name)


async def test_its_end_is_in_order_and_waits_for_what_is_in_flight(service: Service) -> None:
    logs = service.session / "logs" / "serve"
    calls = await in_flight(service, CAT, "image.step")
    service.process.send_signal(signal.SIGTERM)
    outcomes = await ended(calls)
    assert await asyncio.to_thread(service.process.wait, 90) == 0
    said = "".join(file.read_text() for file in logs.glob("replica_*.log"))
    assert "replica" in said
    assert "did not stop in order" not in said
    assert set(outcomes) == {(200, "")}
