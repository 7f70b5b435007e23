"""The processes that decode recordings and find speech in them: `python -m graphs.audio.worker SOCKET`, started by `graphs.audio.pool`.

The template loads FFmpeg and the detector once, and forks a worker when the pool asks for one. These processes hold nothing else: no
Ray, no torch, no API key, no other request. A worker takes one recording at a time, over a socket of its own; recording and samples
are in shared memory. They end when the pool's process does, since their sockets then do.
"""

import ctypes
import json
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import asdict, replace
from typing import NoReturn

import numpy as np

from deployments.errors import DeploymentError
from graphs.audio import decode, vad
from graphs.audio.errors import REFUSALS, AudioUndecodable
from graphs.audio.job import MESSAGE_BYTES, Job, Reply

MEMORY_BYTES = 96 * 1024 * 1024
"""Memory that one recording may take, besides its own bytes and samples."""
PR_SET_PDEATHSIG = 1


class Template:
    """The process that forks the workers, by the pool's commands: `{"fork": N}`, with the worker's socket, and `{"kill": N}`.

    Sends `{"ended": N, "signal": S}` once worker N has ended; S is 0 if no signal ended it.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ready = selectors.DefaultSelector()
        self._ready.register(control, selectors.EVENT_READ)
        self._workers: dict[int, int] = {}
        """Process ids by the pool's numbers. An id is free for another process only once this one has waited for it."""

    def run(self) -> None:
        """Return when the pool's process has ended. All workers have then ended too."""
        while True:
            for key, _ in self._ready.select():
                if key.data is not None:
                    self._wait_for(key.data, key.fd)
                elif not self._obey():
                    self._kill(*self._workers)
                    return

    def _obey(self) -> bool:
        message, files, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        if not message:
            return False
        command = json.loads(message)
        if "fork" in command:
            self._fork(command["fork"], files[0])
        else:
            self._kill(command["kill"])
        return True

    def _fork(self, number: int, jobs: int) -> None:
        pid = os.fork()
        if pid == 0:
            os.closerange(3, jobs)
            os.closerange(jobs + 1, 4096)
            work(socket.socket(fileno=jobs))
        os.close(jobs)
        self._workers[number] = pid
        self._ready.register(os.pidfd_open(pid), selectors.EVENT_READ, number)

    def _wait_for(self, number: int, pidfd: int) -> None:
        status = os.waitpid(self._workers.pop(number), 0)[1]
        self._ready.unregister(pidfd)
        os.close(pidfd)
        self._control.send(json.dumps({"ended": number, "signal": status & 0x7F}).encode())

    def _kill(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._workers:
                os.kill(self._workers[number], signal.SIGKILL)


def work(jobs: socket.socket) -> NoReturn:
    """Do one job after the other, until the socket ends or a job has taken much memory; then end the process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # with the template
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    idle_bytes = _process_bytes(1)
    last = False
    while not last:
        message, files, _, _ = socket.recv_fds(jobs, MESSAGE_BYTES, 2)
        if not message:
            break
        reply = _reply(Job(**json.loads(message)), *files)
        last = _process_bytes(1) > idle_bytes + MEMORY_BYTES // 4
        jobs.send(json.dumps(asdict(replace(reply, last=last))).encode())
        for file in files:
            os.close(file)
    os._exit(0)


def _reply(job: Job, recording: int, samples: int) -> Reply:
    """Do one job within its memory and CPU. The signal SIGPROF ends the process at the end of its CPU, also within FFmpeg."""
    ends_s = time.process_time() + job.cpu_s
    signal.setitimer(signal.ITIMER_PROF, job.cpu_s)
    size_bytes, samples_bytes = (os.fstat(file).st_size for file in (recording, samples))
    most_bytes = _process_bytes(0) + 3 * size_bytes + samples_bytes + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)  # which only root may raise
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard), hard))

    def allow_a_second() -> None:
        nonlocal ends_s
        ends_s += job.cpu_s_per_s
        # By what has been used, not by what the timer has left: Linux adds a tick each time, 4 ms, and 0 would switch it off.
        signal.setitimer(signal.ITIMER_PROF, max(1e-6, ends_s - time.process_time()))

    try:
        content = os.pread(recording, size_bytes, 0)
        buffer = np.frombuffer(mmap.mmap(samples, samples_bytes), np.int16)
        sound = decode.decode_sound(content, job.max_duration_s, buffer, allow_a_second)
        vad.require_speech(sound.samples)
        return Reply(sound.samples.size, sound.warnings)
    except tuple(REFUSALS.values()) as error:
        return Reply(error=error.code, message=str(error))
    except MemoryError:
        most_mib = MEMORY_BYTES >> 20
        message = f"reading the recording takes more than {most_mib} MiB of memory: send its sound alone, as wav, flac or mp3"
        return Reply(error=AudioUndecodable.code, message=message)
    except Exception as error:
        traceback.print_exc()
        return Reply(error=DeploymentError.code, message=f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _process_bytes(field: int) -> int:
    """Bytes of this process: of its address space (field 0), or resident (1)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[field]) * mmap.PAGESIZE


if __name__ == "__main__":
    vad.detector()
    Template(socket.socket(fileno=int(sys.argv[1]))).run()
