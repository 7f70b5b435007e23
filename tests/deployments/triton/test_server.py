"""The in-process server against a real Triton: each pitfall of its Python API that this code can meet."""

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from deployments.call_spans import recorded
from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable
from deployments.span import Span
from deployments.time_left import TimeLeft
from deployments.triton.health import MAX_FAILURES, ModelBroken, StubDied
from deployments.triton.server import InProcessTriton, Tensors

pytestmark = pytest.mark.triton
MODELS = Path(__file__).parents[3] / "testing" / "models"
NO_NUMBERS = np.zeros((0, 0), np.int16)


def command(name: str, data: bytes = b"", numbers: NDArray[Any] = NO_NUMBERS) -> Tensors:
    return {
        "COMMAND": np.array([name.encode()], dtype=np.object_),
        "DATA": np.array([data], dtype=np.object_),
        "NUMBERS": numbers,
    }


def start_parrot(**parameters: str) -> InProcessTriton:
    return InProcessTriton(MODELS, parameters, warm_up=command("echo"), probe=command("echo"))


def stubs() -> list[psutil.Process]:
    children = [child for child in psutil.Process().children() if "triton_python" in child.name()]
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def triton() -> Iterator[InProcessTriton]:
    """One server for the tests that leave it as it was; its stop at the end proves that none leaked a request or a response."""
    server = start_parrot()
    yield server
    asyncio.run(server.close())
    assert stubs() == []


def test_every_thread_of_the_model_process_has_a_raised_niceness(triton: InProcessTriton) -> None:
    niceness = {os.getpriority(os.PRIO_PROCESS, thread.id) for stub in stubs() for thread in stub.threads()}
    assert niceness == {10}


async def test_no_shared_memory_remains_whatever_ends_the_processes() -> None:
    """Its name is removed at the start, so it is freed with the processes; it still grows with what is sent."""

    def named() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob("triton_python_backend_shm_region_*")}

    others = stubs()
    server = start_parrot()
    (stub,) = (stub for stub in stubs() if stub not in others)
    (region,) = (argument for argument in stub.cmdline() if "shm_region" in argument)
    assert region not in named()
    mapped = {one.path for one in stub.memory_maps() if region in one.path}
    assert mapped == {f"/dev/shm/{region}"}
    numbers = np.arange(4_000_000, dtype=np.int16).reshape(2, -1)
    response = await server.infer(command("echo", numbers=numbers), TimeLeft(30))
    np.testing.assert_array_equal(response["NUMBERS"], numbers)
    assert region not in named()
    await server.close()


async def test_trailing_nul_bytes_survive_both_ways(triton: InProcessTriton) -> None:
    response = await triton.infer(command("echo", b"RIFF\x00\x01\x00\x00"), TimeLeft(10))
    assert response["DATA"][0] == b"RIFF\x00\x01\x00\x00"


async def test_text_of_any_script_survives(triton: InProcessTriton) -> None:
    text = "нарисуй кота 描く 🍎"
    response = await triton.infer(command("echo", text.encode()), TimeLeft(10))
    assert response["DATA"][0].decode() == text


async def test_an_array_in_another_order_arrives_as_it_reads(triton: InProcessTriton) -> None:
    numbers = np.arange(12, dtype=np.int16).reshape(3, 4).T[:, ::-1]
    assert not numbers.flags["C_CONTIGUOUS"]
    response = await triton.infer(command("echo", numbers=numbers), TimeLeft(10))
    np.testing.assert_array_equal(response["NUMBERS"], numbers)


async def test_an_empty_array_comes_back_empty(triton: InProcessTriton) -> None:
    response = await triton.infer(command("echo"), TimeLeft(10))
    assert response["NUMBERS"].shape == (0, 0)


async def test_fifty_concurrent_requests_get_each_its_own_response(triton: InProcessTriton) -> None:
    responses = await asyncio.gather(*(triton.infer(command("echo", str(n).encode()), TimeLeft(30)) for n in range(50)))
    assert [response["DATA"][0] for response in responses] == [str(n).encode() for n in range(50)]


async def test_responses_and_errors_that_a_caller_keeps_do_not_keep_the_server_from_stopping() -> None:
    others = stubs()
    server = start_parrot()
    kept: list[Any] = [await server.infer(command("echo", b"kept", np.ones((2, 2), np.int16)), TimeLeft(10)) for _ in range(3)]
    for name in ("refuse", "unavailable", "fail"):
        try:
            await server.infer(command(name, b"kept too"), TimeLeft(10))
        except DeploymentError as error:
            kept.append(error)
    await server.close()
    assert stubs() == others
    assert kept[0]["DATA"][0] == b"kept"
    assert len(kept) == 6


@pytest.mark.parametrize(
    ("name", "expected"), [("refuse", InvalidInput), ("unavailable", ModelUnavailable), ("fail", DeploymentError)]
)
async def test_the_models_errors_come_back_as_ours_with_their_sentence(
    triton: InProcessTriton, name: str, expected: type[DeploymentError]
) -> None:
    with pytest.raises(DeploymentError, match="слишком много") as caught:
        await triton.infer(command(name, "слишком много".encode()), TimeLeft(10))
    assert type(caught.value) is expected
    assert "Traceback" not in str(caught.value)
    assert (await triton.infer(command("echo", b"next"), TimeLeft(10)))["DATA"][0] == b"next"


@pytest.mark.parametrize(
    "wrong",
    [
        {"COMMAND": np.array([b"echo"], dtype=np.object_)},
        {**command("echo"), "NUMBERS": np.zeros((1, 1), np.float32)},
        {**command("echo"), "NUMBERS": np.zeros(3, np.int16)},
        {**command("echo"), "EXTRA": np.zeros(3, np.int16)},
    ],
    ids=["missing input", "wrong type", "wrong shape", "unknown input"],
)
async def test_a_submit_that_triton_would_reject_is_refused_before_it_leaks(triton: InProcessTriton, wrong: Tensors) -> None:
    with pytest.raises(DeploymentError, match="parrot takes"):
        await triton.infer(wrong, TimeLeft(10))
    assert (await triton.infer(command("echo", b"next"), TimeLeft(10)))["DATA"][0] == b"next"


async def test_a_cancelled_await_frees_the_model_and_loses_nothing(triton: InProcessTriton) -> None:
    task = asyncio.create_task(triton.infer(command("work 1000"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    response = await triton.infer(command("echo", b"next"), TimeLeft(10))
    assert response["DATA"][0] == b"next"
    assert 0 < response["STEPS"][0] < 1000


async def test_a_request_cancelled_while_it_waits_never_starts(triton: InProcessTriton) -> None:
    running = asyncio.create_task(triton.infer(command("work 150"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    waiting = asyncio.create_task(triton.infer(command("work 1000"), TimeLeft(60)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert (await running)["STEPS"][0] == 150
    assert (await triton.infer(command("echo"), TimeLeft(10)))["STEPS"][0] == 150


async def test_the_wait_for_the_request_before_it_is_a_span_of_its_own(triton: InProcessTriton) -> None:
    async def work() -> dict[str, Span]:
        with recorded("Parrot", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") as found:
            await triton.infer(command("work 20"), TimeLeft(30))
        return {span.name: span for span in found.spans}

    first, second = await asyncio.gather(work(), work())
    if first["compute"].started_ns > second["compute"].started_ns:
        first, second = second, first
    queue, compute = second["queue"], second["compute"]
    assert queue.parent_id == compute.parent_id == second["triton parrot"].id
    assert queue.started_ns < first["compute"].ended_ns <= queue.ended_ns == compute.started_ns


async def test_a_deadline_that_passes_frees_the_model(triton: InProcessTriton) -> None:
    with pytest.raises(DeadlineExceeded):
        await triton.infer(command("work 1000"), TimeLeft(0.3))
    assert (await triton.infer(command("echo"), TimeLeft(10)))["STEPS"][0] < 1000


async def test_responses_stream_one_by_one_as_they_are_sent(triton: InProcessTriton) -> None:
    steps = []
    async for response in triton.stream(command("count 5", b"done"), TimeLeft(10)):
        steps.append((int(response["STEPS"][0]), "DATA" in response))
    assert steps == [(1, False), (2, False), (3, False), (4, False), (5, False), (5, True)]


async def test_a_stream_closed_in_the_middle_frees_the_model_within_a_step(triton: InProcessTriton) -> None:
    stream = triton.stream(command("count 1000"), TimeLeft(60))
    async for response in stream:
        if response["STEPS"][0] == 3:
            break
    await stream.aclose()
    assert (await triton.infer(command("echo"), TimeLeft(10)))["STEPS"][0] <= 3 + 2


async def test_a_streams_deadline_covers_all_of_its_responses(triton: InProcessTriton) -> None:
    seen: list[Tensors] = []

    async def read() -> None:
        async for response in triton.stream(command("count 1000"), TimeLeft(0.3)):
            seen.append(response)

    with pytest.raises(DeadlineExceeded):
        await read()
    assert 0 < len(seen) < 1000
    assert (await triton.infer(command("echo"), TimeLeft(10)))["STEPS"][0] < 1000


async def test_a_response_too_many_is_a_defect_where_one_is_due(triton: InProcessTriton) -> None:
    with pytest.raises(DeploymentError, match="sent 3 responses where one was due"):
        await triton.infer(command("count 2"), TimeLeft(10))


async def test_three_hundred_callers_that_disconnect_at_random_leak_nothing() -> None:
    """Stopping proves it: a leaked request or response would keep the server from stopping."""
    others = stubs()
    server, rng = start_parrot(), random.Random(0)

    async def disconnect(streaming: bool, after_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                if streaming:
                    async for _ in server.stream(command("count 20"), TimeLeft(60)):
                        pass
                else:
                    await server.infer(command("work 20"), TimeLeft(60))

    await asyncio.gather(*(disconnect(rng.random() < 0.5, rng.uniform(0, 2)) for _ in range(300)))
    assert (await server.infer(command("echo", b"next"), TimeLeft(30)))["DATA"][0] == b"next"
    assert all(reader.done() for reader in server._readers)
    await server.close()
    assert stubs() == others


async def test_a_request_without_time_left_does_not_start(triton: InProcessTriton) -> None:
    await triton.infer(command("work 1"), TimeLeft(10))
    with pytest.raises(DeadlineExceeded):
        await triton.infer(command("work 5"), TimeLeft(0))
    assert (await triton.infer(command("echo"), TimeLeft(10)))["STEPS"][0] == 1


async def test_a_killed_stub_is_unhealthy_and_its_request_ends() -> None:
    others = stubs()
    server = start_parrot()
    await server.check()
    (stub,) = set(stubs()) - set(others)
    running = asyncio.create_task(server.infer(command("work 3000"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    stub.send_signal(signal.SIGKILL)
    with pytest.raises(StubDied):
        await running
    with pytest.raises(StubDied):
        await server.check()
    with pytest.raises(ModelUnavailable):
        await server.infer(command("echo"), TimeLeft(10))
    await server.close()


async def test_busy_is_healthy_and_stalled_is_not() -> None:
    others = stubs()
    server = InProcessTriton(MODELS, {}, warm_up=command("echo"), probe=command("echo"), stall_s=0.5)
    server._health.last_response_s -= 3600  # idle for an hour
    running = asyncio.create_task(server.infer(command("work 200"), TimeLeft(60)))
    await asyncio.sleep(0.1)
    await server.check()
    await running
    server._health.last_response_s -= 3600
    await server.check()  # idle: a probe answers
    (stub,) = set(stubs()) - set(others)
    stub.suspend()
    running = asyncio.create_task(server.infer(command("echo"), TimeLeft(60)))
    await asyncio.sleep(0.1)
    server._health.last_response_s -= 3600
    with pytest.raises(ModelUnavailable, match="without an answer"):
        await server.check()
    stub.resume()
    await running
    await server.close()


@pytest.fixture
async def breakable() -> AsyncIterator[InProcessTriton]:
    """A model that responds to the probe whatever its state, as the real ones do."""
    server = InProcessTriton(MODELS, {}, warm_up=command("work 1"), probe=command("echo"))
    yield server
    await server.close()


async def fail(server: InProcessTriton, times: int, name: str = "work 1") -> None:
    for _ in range(times):
        with pytest.raises(DeploymentError):
            await server.infer(command(name, b"no"), TimeLeft(10))


async def test_a_model_that_fails_on_every_request_is_not_healthy(breakable: InProcessTriton) -> None:
    await breakable.infer(command("break"), TimeLeft(10))
    await fail(breakable, MAX_FAILURES - 1)
    await asyncio.sleep(0.1)  # the last request's reader has ended
    breakable._health.last_response_s -= 3600
    await breakable.check()  # asks the probe alone, which no failure resets
    await fail(breakable, 1)
    with pytest.raises(ModelBroken, match=r"failed 3 times in a row, and on a small request: .*as if its GPU were lost"):
        await breakable.check()
    assert issubclass(ModelBroken, StubDied), "the replica ends"
    await breakable.infer(command("mend"), TimeLeft(10))
    await breakable.check()


async def test_a_success_clears_the_failures(breakable: InProcessTriton) -> None:
    assert breakable._health.failures == 0
    await fail(breakable, 2, "fail")
    assert breakable._health.failures == 2
    await breakable.infer(command("work 1"), TimeLeft(10))
    assert breakable._health.failures == 0


async def test_requests_that_fail_by_themselves_do_not_end_a_model_that_works(breakable: InProcessTriton) -> None:
    await fail(breakable, MAX_FAILURES + 2, "fail")
    await breakable.check()
    assert breakable._health.failures == 0, "the real inference succeeded"
    for name in ("refuse", "unavailable"):
        await fail(breakable, MAX_FAILURES + 2, name)
    assert breakable._health.failures == 0


async def test_a_lost_gpu_ends_the_models_process(breakable: InProcessTriton) -> None:
    with pytest.raises(StubDied):
        await breakable.infer(command("fail", b"CUDA error: an illegal memory access was encountered"), TimeLeft(10))
    with pytest.raises(StubDied):
        await breakable.check()


def test_a_model_that_cannot_load_says_why_and_leaves_no_process() -> None:
    others = stubs()
    with pytest.raises(ModelUnavailable, match=r"parrot did not start: .*the weights are not where they should be$"):
        start_parrot(broken="yes")
    deadline_s = time.monotonic() + 10
    while stubs() != others and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert stubs() == others


async def test_nothing_is_left_on_the_disk_and_stopping_twice_is_fine() -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    server = start_parrot(note='with "quotes", a \\ and\na new line')
    assert [name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("sonograph-")] == []
    await server.close()
    await server.close()
    with pytest.raises(ModelUnavailable, match="is being stopped"):
        await server.infer(command("echo"), TimeLeft(10))
