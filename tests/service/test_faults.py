"""Faults that the service survives: overload, mass disconnects, killed processes, an update, its own shutdown."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from graphs.core.metrics import RETRIES
from testing import media, speech
from testing.client import Call
from testing.collector import Collector, wait_for
from testing.jaeger import Jaeger
from testing.service import Service, config, environment, running, sonograph

pytestmark = pytest.mark.serve
BIN = Path(sys.prefix) / "bin"
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
MINUTE = media.minute()
MEDIUM = {"steps": "16", "width": "256", "height": "256"}
"""Some seconds of denoising."""
OPTIONS = {
    "ingress": {"max_surge_percent": 100},
    "whisper": {"max_surge_percent": 100, "ray_actor_options": {"num_cpus": 0.5}, "health_check_period_s": 1},
    "diffusion": {"max_surge_percent": 100, "ray_actor_options": {"num_cpus": 0.5}, "health_check_period_s": 1},
}
"""Half a CPU each, so that two CPUs suffice for an update's second replicas."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("death")


@pytest.fixture(scope="module")
def settings(collector: Collector) -> dict[str, Any]:
    """A deadline that outlasts the start of a replica, and few concurrent requests, so that the service is soon full."""
    tracing = {"endpoint": collector.url, "sample_ratio": 1}
    return {"http": {"max_concurrent_requests": 8, "deadline_s": 120}, "tracing": tracing}


@pytest.fixture(scope="module")
def service(folder: Path, settings: dict[str, Any]) -> Iterator[Service]:
    with sonograph(folder, OPTIONS, **settings) as service:
        yield service


async def serves_as_before(service: Service) -> None:
    call = await Call(service, CAT, streaming=False).finished()
    assert call.outcome == (200, "")


async def in_flight(service: Service, recording: bytes, event_type: str, **more: str) -> list[Call]:
    """Start three streams and one plain request, the first with the fields `more`, and wait for its first event of this type."""
    first = await Call(service, recording, **MEDIUM | more).wait_for(event_type)
    return [first, *(Call(service, CAT, streaming, **MEDIUM) for streaming in (True, True, False))]


async def outcomes_of(calls: list[Call]) -> list[tuple[int, str]]:
    return [(await call.finished()).outcome for call in calls]


async def wait_for_replacement(service: Service, deployment: str, old: psutil.Process) -> None:
    await asyncio.to_thread(service.wait_until_replaced, deployment, old)
    await serves_as_before(service)


@pytest.mark.parametrize(
    ("deployment", "victim"), [("diffusion", "stub"), ("diffusion", "replica"), ("whisper", "stub"), ("whisper", "replica")]
)
async def test_a_request_survives_the_death_of_its_model(service: Service, deployment: str, victim: str) -> None:
    replica, stub = service.replica(deployment), service.stub(deployment)
    retried = service.metric(RETRIES.exported, stage=deployment)
    if deployment == "diffusion":
        calls = await in_flight(service, CAT, "image.step")
    else:
        calls = await in_flight(service, MINUTE, "transcript.delta")
    (replica if victim == "replica" else stub).send_signal(signal.SIGKILL)
    outcomes = await outcomes_of(calls)
    assert set(outcomes) <= {(200, ""), (503, "model_unavailable")}
    assert outcomes[0] == (200, "")
    assert calls[0].event_types.count("retry") == 1
    (retry,) = (event for event in calls[0].events if event["type"] == "retry")
    assert retry["stage"] == deployment
    assert service.metric(RETRIES.exported, stage=deployment) > retried
    trace = service.client.get(f"/graph/traces/{calls[0].events[0]['request_id']}").json()
    attempts = [span for span in trace["spans"] if span["name"] == f"call {deployment}"]
    assert [bool(span["error"]) for span in attempts] == [True, False]
    assert len({span["parent_id"] for span in attempts}) == 1
    await wait_for_replacement(service, deployment, replica)
    psutil.wait_procs([replica, stub], timeout=30)  # a replica exits without its stub, and a stub without its replica
    assert not replica.is_running()
    assert not stub.is_running()


async def test_jaeger_shows_both_attempts_of_a_request_whose_model_died(service: Service, jaeger: Jaeger) -> None:
    replica = service.replica("whisper")
    call = await Call(service, MINUTE, steps="1").wait_for("transcript.delta")
    service.stub("whisper").kill()
    assert (await call.finished()).outcome == (200, "")
    trace = service.client.get(f"/graph/traces/{call.events[0]['request_id']}").json()
    received = await asyncio.to_thread(wait_for, jaeger.received, trace["trace_id"], len(trace["spans"]))
    assert received.as_kept() == {span["id"]: span for span in trace["spans"]}
    attempts = [span for span in received.as_kept().values() if span["name"] == "call whisper"]
    assert sorted(bool(span["error"]) for span in attempts) == [False, True]
    assert len({span["parent_id"] for span in attempts}) == 1
    assert jaeger.orphans(trace["trace_id"]) == []
    await wait_for_replacement(service, "whisper", replica)


async def test_a_hung_model_is_replaced_and_its_request_is_answered(service: Service) -> None:
    replica, stub = service.replica("diffusion"), service.stub("diffusion")
    stub.suspend()
    call = await Call(service, CAT).finished()
    assert call.outcome == (200, "")
    assert "retry" in call.event_types
    await wait_for_replacement(service, "diffusion", replica)
    assert service.stub("diffusion").pid != stub.pid


async def test_the_death_of_the_ingress_cuts_streams_and_answers_plain_requests_with_503(service: Service) -> None:
    ingress = service.replica("ingress")
    first = await Call(service, CAT, **MEDIUM).wait_for("image.step")
    plain = [Call(service, CAT, streaming=False, **MEDIUM) for _ in range(2)]
    streamed = await Call(service, CAT, **MEDIUM).wait_for("accepted")
    ingress.send_signal(signal.SIGKILL)
    assert await outcomes_of([first, streamed]) == [(0, "cut"), (0, "cut")]
    assert await outcomes_of(plain) == [(503, "model_unavailable")] * 2
    for call in plain:
        assert call.headers["content-type"] == "application/problem+json"
        assert call.problem["request_id"] == call.headers["x-request-id"]
        assert call.headers["retry-after"].isdecimal()
    await wait_for_replacement(service, "ingress", ingress)


async def request_duration_s(service: Service) -> float:
    """Measure a lone request on this machine at this time."""
    start_s = time.monotonic()
    await serves_as_before(service)
    return time.monotonic() - start_s


async def open_loop(service: Service, number: int, every_s: float) -> list[Call]:
    calls = []
    for _ in range(number):
        calls.append(Call(service, CAT, streaming=random.random() < 0.5))
        await asyncio.sleep(every_s)
    return calls


async def test_at_several_times_the_capacity_every_request_is_served_or_refused(service: Service) -> None:
    calls = await open_loop(service, number=60, every_s=await request_duration_s(service) / 12)
    outcomes = await outcomes_of(calls)
    assert set(outcomes) <= {(200, ""), (503, "overloaded"), (504, "deadline_exceeded"), (504, "deadline_unreachable")}
    assert (200, "") in outcomes
    assert (503, "overloaded") in outcomes
    for call in calls:
        if call.outcome == (503, "overloaded"):
            assert 1 <= int(call.headers["retry-after"]) <= 60
    await serves_as_before(service)


async def serve_cli(service: Service, *words: str) -> None:
    """Run Serve's own command on this service's cluster. Its dashboard requires the token that Ray keeps for local clusters."""
    command = [str(BIN / "serve"), words[0], "--address", service.dashboard, *words[1:]]
    environ = {**environment(), "RAY_AUTH_MODE": "token"}
    await asyncio.to_thread(subprocess.run, command, env=environ, check=True, timeout=120)


async def test_an_update_under_load_loses_no_request(service: Service, folder: Path, settings: dict[str, Any]) -> None:
    """Whisper's settings do not change, so its replica stays."""
    whisper = service.replica("whisper").pid
    renewed = ("ingress", "diffusion")
    old = {one.pid for name in renewed for one in service.replicas(name)}
    port = int(service.url.rsplit(":", 1)[1])
    changed = folder / "changed.yaml"
    changed.write_text(config(port, OPTIONS, **settings, diffusion={"steps": 11}))
    calls: list[Call] = []
    updated = asyncio.Event()

    async def client(streaming: bool) -> None:
        while not updated.is_set():
            calls.append(await Call(service, CAT, streaming).finished())

    def update_finished() -> bool:
        replicas = [one.pid for name in renewed for one in service.replicas(name)]
        return len(replicas) == len(renewed) and not old & set(replicas)

    clients = [asyncio.create_task(client(streaming)) for streaming in (True, False)]
    try:
        await serve_cli(service, "deploy", str(changed))
        await asyncio.to_thread(service.wait_until, update_finished, "only new replicas run", 240)
    finally:
        updated.set()
        await asyncio.gather(*clients)
    assert [call.problem for call in calls if call.outcome != (200, "")] == []
    call = await Call(service, CAT).finished()
    assert call.events[-3]["steps"] == 11
    assert service.replica("whisper").pid == whisper


async def test_150_clients_that_disconnect_at_random_times_leave_no_request_running(service: Service) -> None:
    rng, longest_s = random.Random(0), 2 * await request_duration_s(service)
    slots = asyncio.Semaphore(8)
    disconnected = 0

    async def client() -> None:
        nonlocal disconnected
        async with slots:
            call = Call(service, CAT, streaming=rng.random() < 0.5, steps=str(rng.randint(1, 12)))
            await asyncio.sleep(rng.uniform(0, longest_s))
            disconnected += call.status is None or call.outcome == (0, "cut")
            await call.disconnect()
            assert call.outcome in ((0, "cut"), (200, ""), (503, "overloaded")), call.problem

    await asyncio.gather(*(client() for _ in range(150)))
    assert disconnected > 50
    await serves_as_before(service)

    def idle() -> bool:
        names = "ray_serve_replica_processing_queries", "ray_serve_num_ongoing_requests_at_replicas"
        return all(service.metric(name) == 0 for name in names)

    await asyncio.to_thread(service.wait_until, idle, "no request is in flight anywhere")


async def test_on_sigterm_the_service_stops_in_order_after_the_requests_in_flight(service: Service) -> None:
    logs = service.session / "logs" / "serve"
    calls = await in_flight(service, CAT, "image.step")
    service.process.send_signal(signal.SIGTERM)
    outcomes = await outcomes_of(calls)
    assert await asyncio.to_thread(service.process.wait, 90) == 0
    logged = "".join(file.read_text() for file in logs.glob("replica_*.log"))
    assert "replica" in logged
    assert "did not stop in order" not in logged
    assert set(outcomes) == {(200, "")}


@pytest.fixture(scope="module")
def of_serve_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with the default settings, on Serve's default port."""
    command = [str(BIN / "serve"), "run", "--address", "local", "--name", "sonograph", "graphs.voice_to_image:app"]
    with running(tmp_path_factory.mktemp("serve-run"), command, port=8000) as service:
        yield service


def test_serve_run_works_from_the_root_without_activation(of_serve_run: Service) -> None:
    assert "cat" in of_serve_run.draw(CAT)["transcript"].lower()


async def test_serve_shutdown_waits_for_requests_in_flight_and_refuses_new_ones(of_serve_run: Service) -> None:
    service = of_serve_run
    # The second model's stage has not started, and takes longer than the command.
    calls = await in_flight(service, MINUTE, "transcript.delta", steps="100")
    shutdown = asyncio.create_task(serve_cli(service, "shutdown", "-y"))
    await asyncio.to_thread(service.wait_until, lambda: service.client.get("/healthz").status_code != 200, "the shutdown starts")
    late = await Call(service, CAT, streaming=False).finished()
    assert late.outcome == (503, "model_unavailable")
    assert not calls[0].done
    await outcomes_of(calls)
    assert [call.problem for call in calls if call.outcome != (200, "")] == []
    await shutdown
    for name in OPTIONS:
        assert "did not stop in order" not in service.logs(name)
