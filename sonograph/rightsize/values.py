"""Advice as values of an installation: the file that `sonograph render --values` takes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from sonograph.errors import Failed
from sonograph.files import replace_file
from sonograph.rightsize.advice import Advice
from sonograph.rightsize.amounts import GIB
from sonograph.rightsize.used import Subject
from sonograph.terminal import printable

POD_BYTES = int(0.4 * GIB)
"""Memory of the other processes in a pod: Serve's proxy 0.2, raylet and agents 0.2 GiB (kuberay/profiles/cpu.yaml)."""
REPLICA_BYTES = int(0.2 * GIB)
"""Memory of a replica beside the process of its model, which a compared task has not."""
STORE_SHARE = 0.3
"""Part of a pod's memory that Ray's object store may take."""
MARK = "# By `sonograph rightsize`,"
SHARED = "all"
"""Group of several models, in profiles whose models share a pod."""


def content(advices: Iterable[Advice], shares_pod: bool = False) -> dict[str, Any]:
    """Values of the groups. `shares_pod`: whether the models share a pod, as in the profile one-gpu."""
    groups: dict[str, Any] = {}
    for advice in advices:
        name = advice.subject.deployment
        if name is None or (
            advice.subject.kind != "task" and advice.subject.name != name
        ):  # a rollout's candidate is not in the values
            continue
        size = _size(advice)
        if shares_pod and advice.subject.threads_follow:
            part = {key: value for key, value in size.items() if key in ("cpus", "memory_gib")}
            groups.setdefault(SHARED, {"models": {}})["models"][name] = part
        elif size:
            groups[name] = size
    return {"groups": groups} if groups else {}


def _size(advice: Advice) -> dict[str, Any]:
    """Values of one group: whole CPUs for Ray, which are also the model's threads, and the rest in what Kubernetes keeps."""
    from kuberay.worker_groups import POD_CPU

    subject, size = advice.subject, dict[str, Any]()
    if advice.cpus is not None:
        pod_cpus = advice.cpus if subject.of_pod else advice.cpus + POD_CPU
        size["cpus"] = max(1, math.ceil(pod_cpus - POD_CPU - 0.5))
        if pod_cpus > size["cpus"] + POD_CPU:
            size["cpu_request"] = round(pod_cpus, 2)
    if advice.memory_bytes is not None:
        size["memory_gib"] = math.ceil(round(_pod_bytes(subject, advice.memory_bytes) / GIB, 6))
    return size


def _pod_bytes(subject: Subject, of_replica: int) -> float:
    if subject.of_pod:
        return of_replica
    beside = POD_BYTES + (REPLICA_BYTES if subject.kind == "task" else 0)
    return (of_replica + beside) / (1 - STORE_SHARE)


def chosen(advices: Sequence[Advice], candidate: str | None, stated: Mapping[str, Any]) -> list[Advice]:
    """The advice for each deployment. Of several candidates it is the one of this name, or the one that the values' settings name.

    Raises Failed where neither says which.
    """
    found = []
    for deployment in dict.fromkeys(one.subject.deployment for one in advices if one.subject.deployment):
        own = [one for one in advices if one.subject.deployment == deployment]
        if own[0].subject.kind == "task" and len(own) > 1:
            named = [one for one in own if one.subject.name == candidate]
            own = named or [one for one in own if _is_of(one.subject, stated)]
            if len(own) != 1:
                names = "; ".join(one.subject.name for one in advices if one.subject.deployment == deployment)
                raise Failed(f"a values file has one model of {deployment}: name it by --candidate, of: {names}")
        found += own
    return found


def _is_of(subject: Subject, stated: Mapping[str, Any]) -> bool:
    """Whether the settings of a values file name this model and engine."""
    settings = stated.get("settings")
    section = settings.get(subject.deployment) if isinstance(settings, dict) else None
    if not isinstance(section, dict) or section.get("model") != subject.model:
        return False
    return not subject.engine or section.get("engine", "openai-whisper") == subject.engine


def write(path: Path, values: Mapping[str, Any], advices: Sequence[Advice], profile: str) -> None:
    """Write the values, or add them to a file of values, whose others stay. Raises Failed."""
    from kuberay import values_file
    from kuberay.profiles import PROFILES, merged

    before = stated(path)
    try:
        values_file.applied(merged(before, values), PROFILES[profile])
    except ValueError as error:
        raise Failed(f"these values do not fit the profile {profile}, and are not written: {error}") from error
    comments = "".join(
        f"# {printable(one.subject.name)}: {printable(reason.sentence)}.\n"
        for one in advices
        for reason in one.reasons
        if one.subject.deployment in _groups(values)
    )
    head = f"{MARK} for `sonograph render {profile} --values {printable(path.name)}`.\n{comments}"
    if before and "groups" not in before:  # what the file says stays as it is
        text, kept = path.read_text(encoding="utf-8").rstrip("\n") + "\n", values
    else:
        text, kept = _first_comments(path), merged(before, values)
    try:
        replace_file(path, (text + head + yaml.safe_dump(dict(kept), sort_keys=False)).encode())
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from error


def _first_comments(path: Path) -> str:
    """Comments before the first value, by which other commands know their files, without those of this one."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return "".join(takewhile(lambda line: line.startswith("#") and not line.startswith(MARK), lines))


def stated(path: Path) -> dict[str, Any]:
    """The values of a file; none where there is none. Raises Failed."""
    from kuberay import values_file

    if not path.exists():
        return {}
    try:
        return values_file.read(path)
    except ValueError as error:
        raise Failed(f"{error}: name another file by --write, or fix this one") from error


def _groups(values: Mapping[str, Any]) -> set[str]:
    groups = values.get("groups", {})
    return {*groups, *groups.get(SHARED, {}).get("models", {})}
