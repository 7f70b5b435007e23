"""Replicas and nodes of a running service, as its own topology, Serve's details and Ray's state API have them."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from sonograph import status
from sonograph.errors import Failed
from sonograph.rightsize.amounts import MOST_BYTES, MOST_CPUS, is_sane
from sonograph.rightsize.metrics import Node
from sonograph.rightsize.packing import NodeSize
from sonograph.rightsize.used import Requested
from sonograph.terminal import printable

MOST_REPLICAS = 1_000_000


@dataclass(frozen=True)
class Replica:
    stage: str
    """Of a rollout's candidate with `-candidate` behind it."""
    deployment: str
    id: str
    host: str
    address: str
    requested: Requested
    is_model: bool
    application: str
    is_a_pod: bool
    """Whether its node is a pod of a worker group that is made for its deployment, as its label `image` says."""
    pid: int | None = None


def replicas(topology: Mapping[str, Any], details: Mapping[str, Any]) -> tuple[list[Replica], dict[str, int], list[str]]:
    """The running replicas, the number that each stage wants, and a sentence on each that does not run.

    `topology`: the answer of `GET /graph`. `details`: Serve's, for the processes. Raises Failed for another form of the first.
    """
    pids = dict(_pids(details))
    found, wanted, missing = list[Replica](), dict[str, int](), list[str]()
    try:
        for stage, deployment in status.deployments(dict(topology)):
            name = str(deployment.get("deployment") or stage.removesuffix("-candidate"))
            asked = _asked(deployment["requested"]["resources"])
            wanted[stage] = min(int(deployment["target_replicas"]), MOST_REPLICAS)
            for one in deployment["replicas"]:
                application, pid = pids.get(str(one["id"]), (str(topology["application"]), None))
                if one["state"] != "RUNNING":
                    missing.append(
                        f"{stage}: the replica {printable(str(one['id']))} is {printable(str(one['state']))}, and not measured"
                    )
                    continue
                place = str(one["host"] or ""), str(one["address"] or "")
                model, pod = deployment.get("model") is not None, "image" in (one.get("labels") or {})
                found.append(Replica(stage, name, str(one["id"]), *place, asked, model, application, pod, pid))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Failed(
            f"its answer to GET /graph has another form ({type(error).__name__} {error}): is it a service of this version?"
        ) from error
    return found, wanted, missing


def _asked(resources: Mapping[str, Any]) -> Requested:
    """The amounts. Raises ValueError for one that cannot be true."""
    greatest = {"CPU": MOST_CPUS, "memory": MOST_BYTES, "GPU": MOST_CPUS}
    for name, most in greatest.items():
        if not is_sane(resources.get(name, 0), most):
            raise ValueError(f"{name}: {resources[name]}")
    return Requested(float(resources.get("CPU", 0)), resources.get("memory"), float(resources.get("GPU", 0)))


def _pids(details: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield each replica's id with its application and process; none of details of another form."""
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        for name, application in details["applications"].items():
            for deployment in application["deployments"].values():
                for one in deployment["replicas"]:
                    if isinstance(one["pid"], int):
                        yield str(one["replica_id"]), (str(name), one["pid"])


def places(rows: Sequence[Any], nodes: Mapping[str, Node], here: Collection[str] = ()) -> list[NodeSize]:
    """The living nodes of Ray's state API, with the CPUs that they have, by their metrics or where they are this machine; else Ray's count.

    `here`: addresses of this machine.
    """
    found = []
    for row in rows:
        total = row.get("resources_total") if isinstance(row, dict) else None
        if not isinstance(total, dict) or row.get("state") != "ALIVE":
            continue
        names = {"CPU": MOST_CPUS, "memory": MOST_BYTES, "object_store_memory": MOST_BYTES, "GPU": MOST_CPUS}
        cpus, memory, store, gpus = (
            float(total[name]) if is_sane(total.get(name), most) else 0.0 for name, most in names.items()
        )
        address = str(row.get("node_ip") or "")
        seen = nodes.get(address)
        if seen is None and address in here:
            cpus, memory, store = float(psutil.cpu_count() or 1), float(psutil.virtual_memory().total), 0.0
        of_memory = (seen.of_memory_bytes if seen else None) or memory + store or None
        found.append(NodeSize(address, seen.of_cpus if seen else cpus, of_memory, gpus))
    return found
