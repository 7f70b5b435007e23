"""Amounts to ask for, by what is used: the rule of `sonograph rightsize` and of the doctor, stated in docs/rightsize.md.

CPUs: what 95 % of the samples under load stay below, with the CPUs that threads waited for, rounded up to a tenth of a CPU, and above one
CPU to a half; the threads that run at once are the least where they follow the CPUs asked for. Memory: the most that was used, with a
margin, rounded up to 64 MiB. Too little is asked for where a process uses more, or runs more threads at once; too much where it asks for
more than twice what it uses.
"""

import math

MIB = 2**20
FINE_STEP, COARSE_STEP = 0.1, 0.5
"""Steps of CPUs: below one, and above."""
TOLERANCE = 0.1
"""Part of the CPUs asked for, and at most of one CPU, by which the use may exceed them: a thread that never waits measures up to 1.05."""
MEMORY_MARGIN = 1.2
MEMORY_STEP_BYTES = 64 * MIB
WASTE = 2.0
"""Multiple of the use above which an amount is waste."""


def cpus_to_ask(p95: float, threads: float = 0) -> float:
    """CPUs to ask for. `threads`: those that run at once and follow the CPUs asked for; a single one runs on a part of a CPU too."""
    if p95 <= 1:
        cpus = max(1, math.ceil(round(p95 / FINE_STEP, 6))) * FINE_STEP
    else:
        cpus = max(1.0, math.ceil(round((p95 - TOLERANCE) / COARSE_STEP, 6)) * COARSE_STEP)
    return round(max(cpus, math.ceil(threads) if threads > 1 else 0), 1)


def memory_to_ask(most_bytes: float) -> int:
    """Bytes to ask for."""
    return max(1, math.ceil(most_bytes * MEMORY_MARGIN / MEMORY_STEP_BYTES)) * MEMORY_STEP_BYTES


def threads_of(cpus: float) -> int:
    """Threads that run at once on so many CPUs: whole ones, and at least one."""
    return max(1, math.ceil(cpus))


def has_too_many_threads(threads: float, cpus: float) -> bool:
    """Return whether so many threads at once are more than the CPUs that are asked for."""
    return threads > threads_of(cpus)


def has_too_few_cpus(p95: float, cpus: float) -> bool:
    return p95 > cpus + TOLERANCE * min(1, cpus)


def is_waste(used: float, asked: float) -> bool:
    return asked > used * WASTE


def crowding(threads: float, cpus: float) -> str:
    """Say what follows where each process runs so many threads on the CPUs that it asks for."""
    if not cpus:
        return "a node takes any number of them"
    return f"a node that is full by what is asked for runs {threads / threads_of(cpus):.3g} threads on each CPU, and all of them wait"
