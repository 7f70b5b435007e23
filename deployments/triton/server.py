"""Ray side of the Triton seam: one in-process server with one model. The only importer of `tritonserver`.

The package is imported when a server starts, so that the ingress and the head, which have none, can import this module.
API: NVIDIA's in-process Python API, `tritonserver` 2.71.
"""

import asyncio
import gc
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable
from deployments.time_left import TimeLeft
from deployments.triton import processes
from deployments.triton.contract import Contract
from deployments.triton.repository import stage

log = logging.getLogger("ray.serve")

Tensors = dict[str, NDArray[Any]]
"""Tensors by name. BYTES are arrays of dtype object, whose items are `bytes`."""
Drained = asyncio.Queue[Tensors | DeploymentError | None]
"""A request's answers as they come; then what it failed with, if it did; then None."""

STOP_S = 8
"""Longest wait for the server to stop; below every deployment's `graceful_shutdown_timeout_s`."""
PROBE_S = 5.0
"""Longest wait for the probe inference of an idle model."""
RECENT_S = 10.0
"""A model that answered this recently needs no probe."""


class StubGone(ModelUnavailable):
    """The process that holds the model has died; only a new replica helps."""


class Triton(Protocol):
    """What a room needs of its server. Tests hand in a fake of it."""

    async def infer(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> Tensors:
        """One inference, one answer. Raises InvalidInput, ModelUnavailable, DeadlineExceeded, DeploymentError."""

    def stream(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[Tensors]:
        """One inference, each of its answers as it comes. Raises the same. Closing it, or cancelling the await, cancels the model."""

    async def check(self) -> None:
        """Returns when the model serves. Raises StubGone or ModelUnavailable, with the reason."""

    def metrics(self) -> str:
        """Triton's own, in Prometheus's text format; empty once it stops."""

    async def close(self) -> None:
        """Stops the server; safe to call twice."""


def home() -> Path:
    """Triton's libraries and backends: NVIDIA's image has them at /opt, elsewhere set-up lays them out in the environment."""
    image = Path("/opt/tritonserver")
    return image if image.is_dir() else Path(sys.prefix) / "opt" / "tritonserver"


class InProcessTriton:
    """Starts a server with the one model of `repository`, and runs one real inference before it returns.

    `parameters` reach the model as Triton's config parameters. `warm_up` is a small real inference;
    `probe` one that the model answers at once, for the health check. Blocks while it starts, with the GIL released.
    Of a model that takes batches each request is one row: Triton's first dimension, 1, is put before its tensors and taken off here.
    """

    def __init__(
        self,
        repository: Path,
        parameters: Mapping[str, str],
        warm_up: Mapping[str, NDArray[Any]],
        probe: Mapping[str, NDArray[Any]],
        stall_s: float = 300.0,
        max_batch: int | None = None,
    ) -> None:
        (self._name,) = (folder.name for folder in repository.iterdir() if folder.is_dir())
        self._probe = probe
        self._stall_s = stall_s
        self._gone = False
        self._pumps: dict[asyncio.Task[None], Any] = {}
        self._last_answer_s = time.monotonic()
        _put_our_python_first()
        staged = Path(tempfile.mkdtemp(prefix="sonograph-"))
        try:
            stage(repository / self._name, staged / self._name, parameters, max_batch)
            self._server = _start(staged)
            try:
                # A repository read once is not read again in EXPLICIT mode: nothing is left on the disk.
                self._model = self._server.load(self._name)
                batched = self._model.config()["max_batch_size"] > 0
                self._contract = Contract(self._name, self._model.metadata()["inputs"], batched)
                self._stubs = processes.started()
                self._warm(warm_up)
            except BaseException:
                self._stop()
                raise
        except DeploymentError:
            raise
        except Exception as error:
            raise ModelUnavailable(f"{self._name} did not start: {_sentence(str(error))}") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    async def infer(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> Tensors:
        responses = [response async for response in self.stream(inputs, time_left, request_id)]
        if len(responses) != 1:
            raise DeploymentError(f"{self._name} sent {len(responses)} responses where one was due")
        return responses[0]

    async def stream(
        self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = ""
    ) -> AsyncGenerator[Tensors]:
        """Arrays of fixed-size types are made contiguous; BYTES have to be of dtype object (others lose trailing NULs)."""
        if time_left.seconds <= 0:
            raise DeadlineExceeded(f"no time was left when {self._name} was to start")
        if not self._pumps:
            # What is idle has not stalled: the time since the last answer counts from here.
            self._last_answer_s = time.monotonic()
        iterator = self._submit(inputs, request_id)
        drained = Drained()
        # A cancelled `__anext__` would lose the response, so a pump always drains to the end.
        pump = asyncio.create_task(self._pump(iterator, drained))
        self._pumps[pump] = iterator
        pump.add_done_callback(self._settle)
        try:
            while True:
                async with asyncio.timeout(time_left.seconds):
                    item = await drained.get()
                if item is None:
                    return
                if isinstance(item, DeploymentError):
                    raise item
                yield item
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._name} did not answer in the time that was left") from error
        finally:
            if not pump.done():
                iterator.cancel()
            # A traceback that somebody keeps would keep it, and it the server from stopping.
            del iterator

    async def check(self) -> None:
        if self._gone or not self._stubs or any(not processes.alive(stub) for stub in self._stubs):
            raise StubGone(f"the process that holds {self._name} has died")
        quiet_s = time.monotonic() - self._last_answer_s
        if quiet_s < RECENT_S:
            return
        if self._pumps:
            if quiet_s > self._stall_s:
                raise ModelUnavailable(f"{self._name} has been working for {quiet_s:.0f} s without an answer")
            return
        try:
            await self.infer(self._probe, TimeLeft(PROBE_S))
        except DeadlineExceeded as error:
            raise ModelUnavailable(f"{self._name} is idle and did not answer a probe within {PROBE_S:.0f} s") from error

    def metrics(self) -> str:
        from tritonserver import MetricFormat

        return "" if self._server is None else str(self._server.metrics(MetricFormat.PROMETHEUS))

    async def close(self) -> None:
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=STOP_S / 2)
        for pump in self._pumps:  # the server would wait for them; nor may a name here keep an iterator
            self._pumps[pump].cancel()
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=STOP_S / 2)
        await asyncio.to_thread(self._stop)

    def _submit(self, inputs: Mapping[str, NDArray[Any]], request_id: str) -> Any:
        """Triton's iterator over the responses. It also keeps the inputs alive, which Triton reads where they are."""
        from tritonserver import TritonError

        if self._model is None:
            raise ModelUnavailable(f"{self._name} is being stopped")
        tensors = self._contract.tensors(inputs)
        try:
            request = self._model.create_request(request_id=request_id, inputs=tensors)
            return self._model.async_infer(request, raise_on_error=False)
        except TritonError as error:
            raise self._translate(error) from None

    async def _pump(self, iterator: Any, drained: Drained) -> None:
        """Drains to the end, and copies out of Triton's memory: one response that is kept would keep the server from stopping."""
        try:
            async for response in iterator:
                self._last_answer_s = time.monotonic()
                if response.error is not None:
                    drained.put_nowait(self._translate(response.error))
                elif response.outputs:
                    drained.put_nowait(_outputs(response, self._contract.batched))
        except Exception as error:
            drained.put_nowait(DeploymentError(f"{self._name} failed: {type(error).__name__}: {error}"))
        finally:
            drained.put_nowait(None)

    def _settle(self, pump: asyncio.Task[None]) -> None:
        self._pumps.pop(pump, None)
        self._last_answer_s = time.monotonic()
        if not pump.cancelled():
            pump.exception()  # retrieved, so that a pump whose caller left is not reported as forgotten

    def _warm(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        request = self._model.create_request(inputs=self._contract.tensors(inputs))
        for response in self._model.infer(request, raise_on_error=False):
            if response.error is not None:
                raise self._translate(response.error)

    def _translate(self, error: Exception) -> DeploymentError:
        """Triton's errors in our words. Its first argument is the message; the second is the response, which must not be kept."""
        from tritonserver import InvalidArgumentError, UnavailableError

        message = _sentence(str(error.args[0]) if error.args else type(error).__name__)
        if any(not processes.alive(stub) for stub in self._stubs) or message.endswith("is not healthy."):
            self._gone = True  # Triton has given a stub up that it finds dead or frozen, and never takes it back
            return StubGone(f"the process that holds {self._name} died during the request")
        if isinstance(error, InvalidArgumentError):
            return InvalidInput(message)
        if isinstance(error, UnavailableError):
            return ModelUnavailable(f"{self._name}: {message}")
        return DeploymentError(f"{self._name} failed: {message}")

    def _stop(self) -> None:
        """Bounded by STOP_S. What a cycle still holds of a response would make it wait so long; it is collected first."""
        from tritonserver import TritonError

        server, self._server, self._model = self._server, None, None
        if server is None:
            return
        gc.collect()
        try:
            server.stop()
        except TritonError as error:
            log.warning("the Triton server of %s did not stop in order: %s", self._name, error)


def _put_our_python_first() -> None:
    """The stub runs the `python3` that it finds on PATH; it has to be this environment's."""
    binaries = str(Path(sys.prefix) / "bin")
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != binaries:
        os.environ["PATH"] = os.pathsep.join((binaries, path))


def _start(repository: Path) -> Any:
    import tritonserver

    server = tritonserver.Server(
        model_repository=str(repository),
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        backend_directory=str(home() / "backends"),
        strict_model_config=True,  # else Triton starts the stub, with all its imports, once more to have the config completed
        exit_timeout=STOP_S,
        log_error=True,
        log_warn=True,
        gpu_metrics=False,
        cpu_metrics=False,
    )
    return server.start(wait_until_ready=True)


def _outputs(response: Any, batched: bool) -> Tensors:
    import tritonserver

    tensors = {
        name: tensor.to_bytes_array().copy()
        if tensor.data_type == tritonserver.DataType.BYTES
        else np.array(np.from_dlpack(tensor))
        for name, tensor in response.outputs.items()
    }
    return {name: array[0] for name, array in tensors.items()} if batched else tensors


def _sentence(message: str) -> str:
    """Without the stub's traceback, which Triton appends to its message after `At:`."""
    return message.split("\n\nAt:")[0].strip()
