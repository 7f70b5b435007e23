"""Results of `sonograph compare`, read from its folder: each candidate's tasks, and the nodes that they ran on."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sonograph.compare.measured import Measured
from sonograph.compare.plan import ROLES
from sonograph.compare.store import read
from sonograph.errors import Failed
from sonograph.rightsize.amounts import MOST_BYTES, MOST_CPUS, counted, is_sane, plain
from sonograph.rightsize.used import Requested, Sample, Subject


def outcomes(folder: Path) -> list[Measured]:
    """The kept outcomes. Raises Failed."""
    try:
        found = read(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Failed(f"{folder} has no results of `sonograph compare`: name the folder that its --out named") from error
    except (OSError, UnicodeError, TypeError, ValueError) as error:
        raise Failed(f"{folder} cannot be read: {error}") from error
    if not found:
        raise Failed(f"{folder} has no result yet: `sonograph compare RECORDINGS --out {folder}` measures")
    return found


def subjects(found: Iterable[Measured]) -> tuple[list[Subject], list[str]]:
    """A subject for each candidate, and each amount that its tasks asked for; and sentences on what is not among them."""
    groups = defaultdict[tuple[str, float, Any], list[Measured]](list)
    failed, senseless = 0, 0
    for one in found:
        if not _is_sound(one):
            senseless += 1
        elif one.error is not None:
            failed += 1
        else:
            groups[(str(one.candidate), float(one.asked_cpus), one.asked_bytes)].append(one)
    if not groups:
        raise Failed("no task of these results succeeded, so there is nothing to measure by: their errors are in the results")
    names = [candidate for candidate, _, _ in groups]
    made = []
    for (candidate, asked_cpus, asked_bytes), tasks in groups.items():
        several = names.count(candidate) > 1
        name = f"{candidate} (asking for {plain(asked_cpus)})" if several else candidate
        made.append(
            Subject(
                name,
                "task",
                Requested(asked_cpus, asked_bytes),
                [Sample(one.cpu_s / one.wall_s, one.peak_bytes, (one.threads,)) for one in tasks],
                len(tasks),
                ROLES.get(tasks[0].role),
                threads_follow=True,
                model=tasks[0].model,
                engine=tasks[0].engine,
            )
        )
    sentences = [f"{counted(failed, 'task')} failed, and not among the figures"] if failed else []
    sentences += [f"{counted(senseless, 'result')} with figures that cannot be true, and not among them"] if senseless else []
    return made, sentences


def nodes(found: Iterable[Measured]) -> list[str]:
    """Names of the nodes that the tasks ran on."""
    return list(dict.fromkeys(str(one.node) for one in found))


def _is_sound(one: Measured) -> bool:
    """Whether the figures are numbers that can be true: the file is anyone's."""
    figures = (
        is_sane(one.asked_cpus, MOST_CPUS),
        one.asked_bytes is None or is_sane(one.asked_bytes, MOST_BYTES),
        is_sane(one.wall_s, 1e9, least=1e-6),
        is_sane(one.cpu_s, 1e9),
        is_sane(one.peak_bytes, MOST_BYTES),
        is_sane(one.threads, MOST_CPUS),
    )
    texts = all(isinstance(value, str) for value in (one.candidate, one.role, one.node, one.model, one.engine))
    return texts and (one.error is not None or all(figures))
