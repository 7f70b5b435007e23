"""Commands, control groups, network namespaces and mounts of this machine, all under names of the cluster's own."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

NAME = "sonograph"
"""Name of the control group, and the first part of each network namespace's name."""
STATE = Path("/var/tmp/sonograph-kubernetes")
"""Folder of all files of the cluster; containerd mounts below it."""
FILES = Path(__file__).with_name("files")
CGROUPS = Path("/sys/fs/cgroup")
PIDS = CGROUPS / "pids" / NAME
"""The control group that every process of the cluster is in, also after the death of the one that started it."""
TOOLS = ("go", "runc", "debootstrap", "iptables", "nft", "ipset", "conntrack", "nsenter", "ip", "openssl")
START_S = 120


def lacks() -> str:
    """Return the reason why this machine can run no cluster; empty if it can."""
    if os.geteuid() != 0:
        return "only root can start the nodes of a cluster"
    if not (CGROUPS / "pids" / "cgroup.procs").exists():
        return "the nodes need cgroups of version 1"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"{', '.join(missing)} is not on this machine (.ci/run installs all but Go on Debian)" if missing else ""


def run(*words: str | Path, timeout_s: float = 120, text: str | None = None) -> str:
    """Return the command's standard output. The message of a failure contains all its output."""
    ran = subprocess.run(words, capture_output=True, text=True, input=text, timeout=timeout_s, check=False)
    assert ran.returncode == 0, f"{' '.join(map(str, words))}: {ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stdout


def inside(namespace: str) -> tuple[str, ...]:
    """Return the words before a command that runs in this network namespace. `ip netns exec` would hide the control groups."""
    return "nsenter", f"--net=/run/netns/{NAME}-{namespace}"


def start(program: Path, *options: str | Path, enter: Sequence[str], cgroup: str) -> None:
    """Start a program that outlives this process, by the words of `enter`, in a control group; its output is in STATE/logs."""
    log = STATE / "logs" / f"{cgroup.replace('/', '-')}-{program.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    group = PIDS / cgroup
    group.mkdir(parents=True, exist_ok=True)
    detach = ("setsid", "--fork", "sh", "-c", 'echo 0 >"$0" && exec "$@"', str(group / "cgroup.procs"))
    path = f"{program.parent}:{os.environ['PATH']}"
    with log.open("ab") as file:
        command = (*detach, *enter, program, *options)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, "PATH": path}, check=True)


def write(path: Path, template: str, **values: object) -> None:
    """Write a file of `files`, with its $names replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template((FILES / template).read_text()).substitute(values))


def make_state() -> None:
    """Make the folder of the cluster's files, a mount that no other namespace sees: a file in it can hold a mount namespace."""
    STATE.mkdir(parents=True)
    run("mount", "--bind", STATE, STATE)
    run("mount", "--make-private", STATE)


def add_cgroup(name: str) -> None:
    """Add a control group below NAME in every hierarchy; in cpuset it has every CPU."""
    for controller in (path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and path.name != "unified"):
        group = controller
        for part in (NAME, name):
            group /= part
            group.mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((group.parent / file).read_text())


def names(group: Path) -> set[str]:
    """Return the names of the programs in a control group, their first 15 characters."""
    return {_read(Path("/proc") / pid / "comm").strip() for pid in _read(group / "cgroup.procs").split()}


def kill(group: Path = PIDS) -> None:
    """Kill all processes of a control group and of those below it."""

    def empty() -> bool:
        pids = {int(pid) for file in group.rglob("cgroup.procs") for pid in _read(file).split()}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_until(empty, f"the processes in {group} have ended")


def clear() -> None:
    """End every process of a cluster, and remove its mounts, network namespaces, control groups and files."""
    kill()
    unmount(STATE)
    for namespace in Path("/run/netns").glob(f"{NAME}-*"):
        run("ip", "netns", "delete", namespace.name)
    if not any(Path("/run/netns").glob("*")):
        unmount(Path("/run/netns"))
        shutil.rmtree("/run/netns", ignore_errors=True)
    wait_until(_remove_cgroups, "the control groups are gone")
    shutil.rmtree(STATE, ignore_errors=True)


def _remove_cgroups() -> bool:
    """Return whether all are gone: one is busy for a moment after its last process has ended."""
    for group in CGROUPS.glob(f"*/{NAME}"):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    return not list(CGROUPS.glob(f"*/{NAME}"))


def unmount(folder: Path) -> None:
    """Unmount all that is mounted below the folder."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in points if Path(point).is_relative_to(folder)]):
        run("umount", "--lazy", point)


def wait_until(condition: Callable[[], bool], description: str, wait_s: float = START_S, pause_s: float = 0.5) -> None:
    """Wait until the condition holds. Raises AssertionError, with its description."""
    deadline_s = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {wait_s:.0f} s: {description}"
        time.sleep(pause_s)


def _read(file: Path) -> str:
    with contextlib.suppress(OSError):  # its group may end meanwhile
        return file.read_text()
    return ""
