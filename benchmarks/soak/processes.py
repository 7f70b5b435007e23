"""Figures of every process of a service, by kind, and of the files that it leaves: found by a folder that is its TMPDIR alone."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.measure import DECODING, pss_mib
from deployments.triton.processes import NAME, SHARED_MEMORY

Sample = dict[str, dict[str, float]]
"""Figures by kind of process, summed, and by place of files: PSS and RSS in MiB, open files, threads, processes; entries, MiB."""
LOGS = re.compile(r"/ray/session_[^/]*/logs/")


class Processes:
    """The processes of the service, orphans included, and the files in its TMPDIR and in /dev/shm."""

    def __init__(self, tmp: Path) -> None:
        """`tmp`: the service's TMPDIR, before it starts."""
        self._tmp = tmp
        self._variable = f"TMPDIR={tmp}".encode()
        self._seen: set[psutil.Process] = set()
        self._before = {entry.name for entry in os.scandir(SHARED_MEMORY)}

    def all(self) -> list[psutil.Process]:
        """The running processes with this TMPDIR, their descendants, and those found earlier: a title can overwrite the variables."""
        running = [
            process for process in psutil.process_iter(["ppid", "status"]) if process.info["status"] != psutil.STATUS_ZOMBIE
        ]
        found = {one for one in running if one in self._seen or self._variable in _read(one.pid, "environ").split(b"\0")}
        while True:
            pids = {one.pid for one in found}
            more = {one for one in running if one.info["ppid"] in pids} - found
            if not more:
                break
            found |= more
        self._seen = found
        return sorted(found, key=lambda one: one.pid)

    def sample(self) -> Sample:
        found: Sample = {}
        for process in self.all():
            try:
                one = {
                    "pss_mib": pss_mib(process.pid),
                    "rss_mib": process.memory_info().rss / 2**20,
                    "files": process.num_fds(),
                    "threads": process.num_threads(),
                    "processes": 1,
                }
                kind = role(process)
            except (psutil.Error, OSError):  # it has just ended
                continue
            of_kind = found.setdefault(kind, dict.fromkeys(one, 0.0))
            for figure, value in one.items():
                of_kind[figure] += round(value, 1)
        logs, others = [], []
        for file in _files(self._tmp):
            (logs if LOGS.search(file.path) else others).append(file)
        return found | {"/tmp": _sizes(others), "/dev/shm": _sizes(self._shared()), "Ray's logs": _sizes(logs)}

    def _shared(self) -> list[os.DirEntry[str]]:
        """Entries of /dev/shm that are new, and that no process of another service has mapped."""
        new = [entry for entry in os.scandir(SHARED_MEMORY) if entry.name not in self._before]
        if not new:
            return []
        ours = {process.pid for process in self.all()}
        theirs = b"".join(_read(pid, "maps") for pid in psutil.pids() if pid not in ours)
        return [entry for entry in new if entry.name.encode() not in theirs]


def role(process: psutil.Process) -> str:
    """The kind of a process of the service."""
    name, command = process.name(), process.cmdline()
    title = " ".join(command).strip() or name
    if title.startswith("ray::"):
        return title.removeprefix("ray::").removeprefix("ServeReplica:sonograph:").split(".")[0]  # and the method that runs
    if title.startswith("ray-dashboard") or "from multiprocessing." in title:
        return "ray-dashboard"  # the dashboard's modules, their fork server and its resource tracker
    if name.startswith(NAME[:15]):
        return f"stub of {Path(command[1]).parts[-3]}"
    if DECODING in command:
        parent = process.parent()
        return "decode worker" if parent and DECODING in parent.cmdline() else "decode template"
    scripts = [Path(part).stem for part in command[1:3] if part.endswith(".py")]
    return scripts[0] if scripts else Path(command[1]).name if name.startswith("python") and len(command) > 1 else name


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:  # it has ended
        return b""


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it was just removed
        return
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))


def _sizes(entries: list[os.DirEntry[str]]) -> dict[str, float]:
    total = 0
    for entry in entries:
        try:
            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return {"entries": len(entries), "mib": round(total / 2**20, 1)}
