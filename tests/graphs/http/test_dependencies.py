"""The ingress's own metrics: every request is counted, and the time of those that were answered."""

import asyncio

import pytest

from deployments.errors import DeadlineExceeded, DeploymentError, ModelUnavailable, Overloaded
from testing.fakes import FakeService
from testing.metrics import Recorder

TIMES, REQUESTS = ("sonograph_request_observations", "ingress"), ("sonograph_requests", "ingress")
SOUND = {"file": b"sound"}


async def test_the_time_of_an_answered_request_is_observed() -> None:
    recorder = Recorder()
    async with FakeService(metrics=recorder.metrics(), decode_s=0.05).client() as client:
        assert (await client.post("/graph", files=SOUND)).status_code == 200
    assert recorder.seen[TIMES] == recorder.seen[REQUESTS] == [1]
    (took_s,) = recorder.seen["sonograph_request_duration_seconds", "ingress"]
    assert took_s >= 0.05


@pytest.mark.parametrize(
    ("error", "observed"),
    [(DeadlineExceeded("late"), [1]), (Overloaded("full"), []), (ModelUnavailable("gone"), []), (DeploymentError("defect"), [])],
    ids=lambda one: getattr(one, "code", None),
)
async def test_of_failed_requests_only_a_missed_deadline_counts_by_its_time(
    error: DeploymentError, observed: list[float]
) -> None:
    recorder = Recorder()
    service = FakeService(metrics=recorder.metrics())
    service.whisper.result = error
    async with service.client() as client:
        assert (await client.post("/graph", files=SOUND)).status_code == error.status
    assert recorder.seen[REQUESTS] == [1]
    assert recorder.seen[TIMES] == observed


async def test_a_client_that_leaves_is_counted_and_its_time_is_not() -> None:
    recorder = Recorder()
    service = FakeService(metrics=recorder.metrics())
    service.whisper.endless = True
    async with service.client() as client:
        request = asyncio.create_task(client.post("/graph", files=SOUND))
        await service.whisper.started.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    assert recorder.seen["sonograph_cancellations", "ingress"] == [1]
    assert recorder.seen[TIMES] == []
