"""The Triton seam against the real server: each trap of its Python API that this code can meet."""

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable
from deployments.time_left import TimeLeft
from deployments.triton.server import InProcessTriton, StubGone, Tensors

pytestmark = pytest.mark.triton
MODELS = Path(__file__).parents[3] / "testing" / "models"
NO_NUMBERS = np.zeros((0, 0), np.int16)


def say(command: str, data: bytes = b"", numbers: NDArray[Any] = NO_NUMBERS) -> Tensors:
    return {
        "COMMAND": np.array([command.encode()], dtype=np.object_),
        "DATA": np.array([data], dtype=np.object_),
        "NUMBERS": numbers,
    }


def parrot(**parameters: str) -> InProcessTriton:
    return InProcessTriton(MODELS, parameters, warm_up=say("echo"), probe=say("echo"))


def stubs() -> list[psutil.Process]:
    children = [child for child in psutil.Process().children() if "triton_python" in child.name()]
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def triton() -> Iterator[InProcessTriton]:
    """One server for what leaves it as it was; its stop at the end proves that no test leaked a request or a response."""
    server = parrot()
    yield server
    asyncio.run(server.close())
    assert stubs() == []


def test_every_thread_that_computes_steps_back(triton: InProcessTriton) -> None:
    niceness = {os.getpriority(os.PRIO_PROCESS, thread.id) for stub in stubs() for thread in stub.threads()}
    assert niceness == {10}


async def test_trailing_nul_bytes_survive_both_ways(triton: InProcessTriton) -> None:
    answer = await triton.infer(say("echo", b"RIFF\x00\x01\x00\x00"), TimeLeft(10))
    assert answer["DATA"][0] == b"RIFF\x00\x01\x00\x00"


async def test_text_of_any_script_survives(triton: InProcessTriton) -> None:
    text = "нарисуй кота 描く 🍎"
    answer = await triton.infer(say("echo", text.encode()), TimeLeft(10))
    assert answer["DATA"][0].decode() == text


async def test_an_array_in_another_order_arrives_as_it_reads(triton: InProcessTriton) -> None:
    numbers = np.arange(12, dtype=np.int16).reshape(3, 4).T[:, ::-1]
    assert not numbers.flags["C_CONTIGUOUS"]
    answer = await triton.infer(say("echo", numbers=numbers), TimeLeft(10))
    np.testing.assert_array_equal(answer["NUMBERS"], numbers)


async def test_an_empty_array_comes_back_empty(triton: InProcessTriton) -> None:
    answer = await triton.infer(say("echo"), TimeLeft(10))
    assert answer["NUMBERS"].shape == (0, 0)


async def test_fifty_requests_at_once_get_each_its_own_answer(triton: InProcessTriton) -> None:
    answers = await asyncio.gather(*(triton.infer(say("echo", str(n).encode()), TimeLeft(30)) for n in range(50)))
    assert [answer["DATA"][0] for answer in answers] == [str(n).encode() for n in range(50)]


async def test_what_is_kept_of_answers_and_errors_does_not_keep_the_server_from_stopping() -> None:
    others = stubs()
    server = parrot()
    kept: list[Any] = [await server.infer(say("echo", b"kept", np.ones((2, 2), np.int16)), TimeLeft(10)) for _ in range(3)]
    for command in ("refuse", "unavailable", "fail"):
        try:
            await server.infer(say(command, b"kept too"), TimeLeft(10))
        except DeploymentError as error:
            kept.append(error)
    await server.close()
    assert stubs() == others
    assert kept[0]["DATA"][0] == b"kept"
    assert len(kept) == 6


@pytest.mark.parametrize(
    ("command", "expected"), [("refuse", InvalidInput), ("unavailable", ModelUnavailable), ("fail", DeploymentError)]
)
async def test_the_models_errors_come_back_as_ours_with_their_sentence(
    triton: InProcessTriton, command: str, expected: type[DeploymentError]
) -> None:
    with pytest.raises(DeploymentError, match="слишком много") as caught:
        await triton.infer(say(command, "слишком много".encode()), TimeLeft(10))
    assert type(caught.value) is expected
    assert "Traceback" not in str(caught.value)
    assert (await triton.infer(say("echo", b"next"), TimeLeft(10)))["DATA"][0] == b"next"


@pytest.mark.parametrize(
    "wrong",
    [
        {"COMMAND": np.array([b"echo"], dtype=np.object_)},
        {**say("echo"), "NUMBERS": np.zeros((1, 1), np.float32)},
        {**say("echo"), "NUMBERS": np.zeros(3, np.int16)},
        {**say("echo"), "EXTRA": np.zeros(3, np.int16)},
    ],
    ids=["missing input", "wrong type", "wrong shape", "unknown input"],
)
async def test_a_submit_that_triton_would_reject_is_refused_before_it_leaks(triton: InProcessTriton, wrong: Tensors) -> None:
    with pytest.raises(DeploymentError, match="parrot takes"):
        await triton.infer(wrong, TimeLeft(10))
    assert (await triton.infer(say("echo", b"next"), TimeLeft(10)))["DATA"][0] == b"next"


async def test_a_cancelled_await_frees_the_model_and_loses_nothing(triton: InProcessTriton) -> None:
    task = asyncio.create_task(triton.infer(say("work 1000"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await triton.infer(say("echo", b"next"), TimeLeft(10))
    assert answer["DATA"][0] == b"next"
    assert 0 < answer["STEPS"][0] < 1000


async def test_a_request_cancelled_while_it_waits_never_starts(triton: InProcessTriton) -> None:
    running = asyncio.create_task(triton.infer(say("work 150"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    waiting = asyncio.create_task(triton.infer(say("work 1000"), TimeLeft(60)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert (await running)["STEPS"][0] == 150
    assert (await triton.infer(say("echo"), TimeLeft(10)))["STEPS"][0] == 150


async def test_time_that_runs_out_frees_the_model(triton: InProcessTriton) -> None:
    with pytest.raises(DeadlineExceeded):
        await triton.infer(say("work 1000"), TimeLeft(0.3))
    assert (await triton.infer(say("echo"), TimeLeft(10)))["STEPS"][0] < 1000


async def test_answers_stream_one_by_one_as_they_are_made(triton: InProcessTriton) -> None:
    steps = []
    async for answer in triton.stream(say("count 5", b"done"), TimeLeft(10)):
        steps.append((int(answer["STEPS"][0]), "DATA" in answer))
    assert steps == [(1, False), (2, False), (3, False), (4, False), (5, False), (5, True)]


async def test_a_stream_left_in_the_middle_frees_the_model_within_a_step(triton: InProcessTriton) -> None:
    stream = triton.stream(say("count 1000"), TimeLeft(60))
    async for answer in stream:
        if answer["STEPS"][0] == 3:
            break
    await stream.aclose()
    assert (await triton.infer(say("echo"), TimeLeft(10)))["STEPS"][0] <= 3 + 2


async def test_a_streams_time_counts_over_all_of_its_answers(triton: InProcessTriton) -> None:
    seen: list[Tensors] = []

    async def read() -> None:
        async for answer in triton.stream(say("count 1000"), TimeLeft(0.3)):
            seen.append(answer)

    with pytest.raises(DeadlineExceeded):
        await read()
    assert 0 < len(seen) < 1000
    assert (await triton.infer(say("echo"), TimeLeft(10)))["STEPS"][0] < 1000


async def test_an_answer_too_many_is_a_defect_where_one_is_due(triton: InProcessTriton) -> None:
    with pytest.raises(DeploymentError, match="sent 3 responses where one was due"):
        await triton.infer(say("count 2"), TimeLeft(10))


async def test_three_hundred_callers_that_leave_at_random_leak_nothing() -> None:
    """Stopping proves it: a request or a response that is left would keep the server from it."""
    others = stubs()
    server, lot = parrot(), random.Random(0)

    async def leave(streaming: bool, after_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                if streaming:
                    async for _ in server.stream(say("count 20"), TimeLeft(60)):
                        pass
                else:
                    await server.infer(say("work 20"), TimeLeft(60))

    await asyncio.gather(*(leave(lot.random() < 0.5, lot.uniform(0, 2)) for _ in range(300)))
    assert (await server.infer(say("echo", b"next"), TimeLeft(30)))["DATA"][0] == b"next"
    assert all(pump.done() for pump in server._pumps)
    await server.close()
    assert stubs() == others


async def test_no_time_left_means_not_started(triton: InProcessTriton) -> None:
    await triton.infer(say("work 1"), TimeLeft(10))
    with pytest.raises(DeadlineExceeded):
        await triton.infer(say("work 5"), TimeLeft(0))
    assert (await triton.infer(say("echo"), TimeLeft(10)))["STEPS"][0] == 1


async def test_a_killed_stub_is_unhealthy_and_its_request_ends() -> None:
    others = stubs()
    server = parrot()
    await server.check()
    (stub,) = set(stubs()) - set(others)
    running = asyncio.create_task(server.infer(say("work 3000"), TimeLeft(60)))
    await asyncio.sleep(0.3)
    stub.send_signal(signal.SIGKILL)
    with pytest.raises(StubGone):
        await running
    with pytest.raises(StubGone):
        await server.check()
    with pytest.raises(ModelUnavailable):
        await server.infer(say("echo"), TimeLeft(10))
    await server.close()


async def test_busy_is_healthy_and_stalled_is_not() -> None:
    others = stubs()
    server = InProcessTriton(MODELS, {}, warm_up=say("echo"), probe=say("echo"), stall_s=0.5)
    server._last_answer_s -= 3600  # idle for an hour
    running = asyncio.create_task(server.infer(say("work 200"), TimeLeft(60)))
    await asyncio.sleep(0.1)
    await server.check()
    await running
    server._last_answer_s -= 3600
    await server.check()  # idle: a probe answers
    (stub,) = set(stubs()) - set(others)
    stub.suspend()
    running = asyncio.create_task(server.infer(say("echo"), TimeLeft(60)))
    await asyncio.sleep(0.1)
    server._last_answer_s -= 3600
    with pytest.raises(ModelUnavailable, match="without an answer"):
        await server.check()
    stub.resume()
    await running
    await server.close()


def test_a_model_that_cannot_load_says_why_and_leaves_no_process() -> None:
    others = stubs()
    with pytest.raises(ModelUnavailable, match=r"parrot did not start: .*the weights are not where they should be$"):
        parrot(broken="yes")
    deadline_s = time.monotonic() + 10
    while stubs() != others and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert stubs() == others


async def test_nothing_is_left_on_the_disk_and_stopping_twice_is_fine() -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    server = parrot(note='with "quotes", a \\ and\na new line')
    assert [name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("sonograph-")] == []
    await server.close()
    await server.close()
    with pytest.raises(ModelUnavailable, match="is being stopped"):
        await server.infer(say("echo"), TimeLeft(10))
