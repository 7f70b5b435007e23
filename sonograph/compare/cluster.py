"""Ray for a comparison: one of this machine that ends with the command, or a running cluster."""

import logging
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from sonograph.compare.measured import Node
from sonograph.compare.plan import Asked, Candidate, Checkpoint
from sonograph.compare.tasks import Outcome, Task, run, sentence
from sonograph.compare.works import Work, described
from sonograph.keys import RAY_TOKEN
from sonograph.state import make_private

OBJECT_STORE_BYTES = 512 << 20
PINNED = 0.001
"""Part of a custom resource that a task takes where a model's pods have one: it pins the task to them, and takes no replica's place."""
LONGEST_FOLDER = 40
"""Characters of the path that Ray puts its sockets below, whose own paths have at most 107."""


class NoCluster(Exception):
    """A sentence on why Ray cannot be used."""


class Died(Exception):
    """A sentence on how a task's process ended."""


class RayCluster:
    """Tasks on Ray's workers. Each candidate has processes of its own, so that one's memory and libraries are not another's."""

    def __init__(self, address: str | None, asked: Asked) -> None:
        """Start Ray on this machine, or connect to the one at `address`. Raises NoCluster."""
        import ray

        self.asked = asked
        self.is_local = address is None
        self._folder = None if address else _folder()
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, "_temp_dir": self._folder}
        try:
            # `local`: a cluster of its own, also where another one runs on this machine, whatever RAY_ADDRESS says.
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
            if not address:
                make_private(RAY_TOKEN.expanduser())
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            raise NoCluster(
                f"{f'the cluster at {address}' if address else 'Ray'} cannot be reached: {sentence(error)}"
            ) from error
        self._ray: Any = ray  # parts of it have no types
        self._task = ray.remote(_measure)

    def close(self) -> None:
        """End this machine's Ray with all its tasks, or leave the cluster, which ends them too.

        No task is cancelled by itself: in Ray 2.60 a cancelled task that has just been handed to a worker ends the driver ("Tried to
        complete task that was not pending"; 4 of 14 tries here).
        """
        import ray

        ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def nodes(self) -> dict[str, Node]:
        """The nodes by name, which is the host's, with a part of Ray's id where several have it."""
        names = self._names()
        return {
            names[one["NodeID"]]: Node(one["Resources"].get("CPU", 0.0), int(one["Resources"].get("memory", 0)) or None)
            for one in self._alive()
        }

    def slots(self, candidate: Candidate) -> int:
        """Tasks of a candidate that can run at once, if nothing else does."""
        wanted = self._wanted(candidate)
        return sum(
            math.floor(min(one["Resources"].get(name, 0.0) / amount for name, amount in wanted.items())) for one in self._alive()
        )

    def lacking(self, candidate: Candidate) -> str:
        """A sentence on what no node has of what a candidate's tasks ask for; empty where they fit."""
        if self.slots(candidate):
            return ""
        nodes = list(self._alive())
        for name, amount in self._wanted(candidate).items():
            most = max((one["Resources"].get(name, 0.0) for one in nodes), default=0.0)
            if most < amount:
                shown = [f"{value / 2**30:.1f} GiB" if name == "memory" else f"{value:g}" for value in (amount, most)]
                return f"a task asks for {shown[0]} of {name}, and the largest node has {shown[1]}"
        return "no node has all that a task asks for"

    def idle_cpus(self) -> tuple[float, float]:
        """CPUs that Ray has not given to any task or replica, and all of them."""
        return self._ray.available_resources().get("CPU", 0.0), self._ray.cluster_resources().get("CPU", 0.0)

    def call(self, function: Callable[..., Any], *arguments: Any, candidate: Candidate | None = None) -> Any:
        """Submit a function that measures nothing; its handle. `candidate`: whose node it needs."""
        return self._ray.remote(function).options(**self._options(candidate, "describe")).remote(*arguments)

    def describe(self, work: Work, candidate: Candidate) -> Any:
        return self.call(_described, work, self.asked.cpus, candidate=candidate)

    def submit(self, task: Task, content: bytes, candidate: Candidate) -> Any:
        """Start a task once its resources are free; its handle. The content goes to the node with it."""
        options = self._options(candidate, task.engine_key)
        return self._task.options(**options, name=f"compare: {candidate.label}").remote(task, self._ray.put(content))

    def wait(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        """Handles of those that have ended."""
        return list(self._ray.wait(list(handles), num_returns=len(handles), timeout=0)[0]) or list(
            self._ray.wait(list(handles), num_returns=1, timeout=timeout_s)[0]
        )

    def result(self, handle: Any) -> Any:
        """Result of a function. Raises Died where its process ended, NoCluster where Ray did, its own exception otherwise."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(handle)
        except errors.OutOfMemoryError as error:
            raise Died("Ray ended it since the node's memory was full: state --memory, or fewer tasks by more --cpus") from error
        except errors.NodeDiedError as error:
            raise Died("its node ended") from error
        except errors.WorkerCrashedError as error:
            raise Died("it was killed, perhaps since memory was full, or crashed") from error
        except errors.ObjectLostError as error:
            raise Died("the node that had its recording ended") from error
        except (errors.LocalRayletDiedError, errors.RaySystemError, ConnectionError) as error:
            raise NoCluster(f"the connection to Ray ended: {sentence(error)}") from error
        if isinstance(found, Outcome):
            names = self._names()
            return replace(found, measured=replace(found.measured, node=names.get(found.measured.node, found.measured.node)))
        return found

    def _options(self, candidate: Candidate | None, process: str) -> dict[str, Any]:
        """Ray's options of a task. Processes are shared by the tasks of one `process` alone."""
        variables = {"OMP_NUM_THREADS": str(self.asked.cpus), "SONOGRAPH_COMPARE": process}
        wanted = self._wanted(candidate)
        return {
            "num_cpus": wanted.pop("CPU"),
            "num_gpus": wanted.pop("GPU", 0),
            **({"memory": wanted.pop("memory")} if "memory" in wanted else {}),
            "resources": wanted,
            "max_retries": 0,
            "runtime_env": {"env_vars": variables},
        }

    def _wanted(self, candidate: Candidate | None) -> dict[str, float]:
        """Resources of a task by Ray's names."""
        wanted: dict[str, float] = {"CPU": self.asked.cpus}
        if self.asked.gpus:
            wanted["GPU"] = self.asked.gpus
        if self.asked.memory_bytes:
            wanted["memory"] = self.asked.memory_bytes
        if candidate and candidate.section in self._ray.cluster_resources():
            wanted[candidate.section] = PINNED
        return wanted

    def _alive(self) -> list[Mapping[str, Any]]:
        return [one for one in self._ray.nodes() if one["Alive"]]

    def _names(self) -> dict[str, str]:
        """Names of all nodes, ended ones too, by Ray's ids."""
        nodes = self._ray.nodes()
        hosts = Counter(one["NodeManagerHostname"] for one in nodes if one["Alive"])
        return {
            one["NodeID"]: host if hosts[host := one["NodeManagerHostname"]] <= 1 else f"{host}-{one['NodeID'][:6]}"
            for one in nodes
        }


def _measure(task: Task, content: bytes) -> Outcome:
    import ray

    return run(task, content, ray.get_runtime_context().get_node_id())


def _described(work: Work, threads: int) -> Checkpoint | str:
    """The checkpoint, or a sentence on why the model does not load."""
    try:
        return described(work, threads)
    except Exception as error:
        return f"the model does not load: {sentence(error)}"


def _folder() -> str:
    """A new folder for Ray's own files."""
    short = len(tempfile.gettempdir()) <= LONGEST_FOLDER
    return tempfile.mkdtemp(prefix="sonograph-", dir=None if short else "/tmp")
