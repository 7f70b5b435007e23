"""The pool of processes that decode recordings (`graphs.audio.worker`).

FFmpeg reads bytes that anybody may have sent. In a process of its own it can be ended at any moment, its memory and CPU have bounds,
and a crash costs one request. Python's multiprocessing would import the main module, which is Ray's, in each process.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np

from deployments.errors import DeploymentError, ModelUnavailable
from graphs.audio.errors import REFUSALS, AudioUndecodable
from graphs.audio.job import MESSAGE_BYTES, DecodedAudio, Job, Reply, capacity
from graphs.audio.settings import AudioSettings
from graphs.tracing.trace import Trace, span

WORKER = "graphs.audio.worker"
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
"""Signals by which a recording can end FFmpeg."""


class DecodePool:
    """The workers of one ingress replica. A new one takes the place of one that ended."""

    def __init__(self, settings: AudioSettings) -> None:
        """Start loading what the workers need; the first recording waits for it."""
        self._job = Job(settings.max_duration_s, settings.decode_cpu_s, settings.decode_cpu_s_per_s)
        self._free = asyncio.Semaphore(settings.decode_workers)  # those who wait take turns
        self._idle: list[_Worker] = []
        self._template = _Template()

    async def decode(self, recording: bytes, trace: Trace | None = None) -> DecodedAudio:
        """Decode a recording with speech in it. Cancelling this ends the work, at once. `trace`: gets the span of the wait.

        Ends, in whatever way, only once no process works on the recording. Raises a DeploymentError.
        """
        async with contextlib.AsyncExitStack() as stack:
            with span(trace, "queue"):
                await stack.enter_async_context(self._free)
            with _memory(recording) as file, _memory(2 * capacity(self._job.max_duration_s)) as samples:
                reply = await self._run(file, samples)
                if not reply.error:
                    return DecodedAudio(_read(samples, reply.samples), tuple(reply.warnings))
        if reply.error in REFUSALS:
            raise REFUSALS[reply.error](reply.message)
        raise DeploymentError(f"decoding failed: {reply.message}")

    async def _run(self, *files: int) -> Reply:
        reply, number = await self._try(*files)
        if reply is None and number not in (signal.SIGPROF, *CRASHES):
            reply, number = await self._try(*files)  # the worker was ended from outside, perhaps before it took the job
        if reply is None:
            raise self._ended_by(number)
        return reply

    async def _try(self, *files: int) -> tuple[Reply | None, int]:
        """A worker's reply, or the signal that ended it."""
        worker = self._worker()
        try:
            reply = await worker.do(self._job, files)
        except BaseException:
            await worker.end()
            raise
        if reply is not None and not reply.last:
            self._idle.append(worker)
            return reply, 0
        worker.close()
        return reply, 0 if reply is not None else await worker.ended

    def _worker(self) -> "_Worker":
        """An idle worker, or a new one."""
        if self._template.ended:
            self._template = _Template()
        while self._idle:
            worker = self._idle.pop()
            if not worker.ended.done():
                return worker
            worker.close()
        return self._template.fork()

    def _ended_by(self, number: int) -> DeploymentError:
        if number == signal.SIGPROF:
            job = self._job
            return AudioUndecodable(
                f"reading the recording takes more CPU than {job.cpu_s:g} s and {job.cpu_s_per_s:g} s for each second of sound "
                "(settings audio.decode_cpu_s and audio.decode_cpu_s_per_s): send its sound alone, as wav, flac or mp3"
            )
        if number in CRASHES:
            name = signal.Signals(number).name
            return AudioUndecodable(
                f"the recording ended the process that read it ({name}): send its sound alone, as wav or flac"
            )
        return ModelUnavailable("the process that read the recording was ended: try again shortly")

    def close(self) -> None:
        """End every process of the pool."""
        self._template.close()


class _Worker:
    """One process. Its number is the template's name for it."""

    def __init__(self, template: "_Template", number: int, jobs: socket.socket) -> None:
        self._template = template
        self._number = number
        self._jobs = jobs
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The signal that ended it, 0 for none."""

    async def do(self, job: Job, files: tuple[int, ...]) -> Reply | None:
        """The reply to a job; None if the process ended before it."""
        try:
            socket.send_fds(self._jobs, [json.dumps(asdict(job)).encode()], files)
            message = await asyncio.get_running_loop().sock_recv(self._jobs, MESSAGE_BYTES)
        except ConnectionError:
            return None
        return Reply(**json.loads(message)) if message else None

    async def end(self) -> None:
        """Kill it, and wait until it has ended, even while this is cancelled again."""
        self._template.kill(self._number)
        while not self.ended.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self.ended})
        self.close()

    def has_ended(self, by_signal: int) -> None:
        if not self.ended.done():
            self.ended.set_result(by_signal)

    def close(self) -> None:
        """Close its socket, which nobody reads any more."""
        self._jobs.close()


class _Template:
    """The process that has loaded FFmpeg and the detector, and forks the workers. When it ends, they do."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),  # of a Python that is built as a shared library
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_THREAD_LIMIT": "1",  # the detector asks for 4 threads, and they take 4 times the CPU
            "MALLOC_ARENA_MAX": "1",
            # A recording's memory is kept for the next one, instead of faulted in again page by page.
            "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
            "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
        }
        with theirs:
            command = [sys.executable, "-m", WORKER, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._numbers = count()
        self._workers: dict[int, _Worker] = {}
        self._listening = False
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self) -> _Worker:
        """A new worker, which takes jobs at once: they wait in its socket until it runs."""
        if not self._listening:
            asyncio.get_running_loop().add_reader(self._control, self._listen)
            self._listening = True
        number = next(self._numbers)
        jobs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        jobs.setblocking(False)
        worker = self._workers[number] = _Worker(self, number, jobs)
        with theirs, contextlib.suppress(OSError):  # where it has just ended, so has the worker: `_listen` tells
            socket.send_fds(self._control, [_message(fork=number)], [theirs.fileno()])
        return worker

    def kill(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._control.send(_message(kill=number))

    def close(self) -> None:
        """End the process and its workers, and wait for it."""
        if self._listening:
            asyncio.get_running_loop().remove_reader(self._control)
        self.ended = True
        self._control.close()
        self._process.wait()
        for worker in self._workers.values():
            worker.has_ended(signal.SIGKILL)
        self._workers.clear()

    def _listen(self) -> None:
        """Take the message that a worker has ended, or the end of the template."""
        try:
            message = self._control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.close()
            return
        ended = json.loads(message)
        self._workers.pop(ended["ended"]).has_ended(ended["signal"])


def _message(**command: Any) -> bytes:
    return json.dumps(command).encode()


@contextlib.contextmanager
def _memory(content: bytes | int) -> Iterator[int]:
    """A file in memory with this content, or of this many zero bytes, for as long as the block lasts and a process has it open."""
    file = os.memfd_create("sonograph")
    try:
        if isinstance(content, int):
            os.truncate(file, content)
        else:
            with open(file, "wb", closefd=False) as whole:
                whole.write(content)
        yield file
    finally:
        os.close(file)


def _read(file: int, samples: int) -> Any:
    """Copy samples from a file: a process that was taken over could shorten it while it is mapped here."""
    audio = np.empty(samples, np.int16)
    if os.preadv(file, [audio], 0) != audio.nbytes:
        raise DeploymentError("decoding failed: it returned fewer samples than it says")
    return audio
