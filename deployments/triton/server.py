"""One in-process Triton server with one model, in its replica. The only importer of `tritonserver`.

The package is imported when a server starts, so that the ingress and the head, where it is not installed, can import this module.
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

from numpy.typing import NDArray

from deployments import call_spans
from deployments.errors import DeadlineExceeded, DeploymentError, InvalidInput, ModelUnavailable
from deployments.time_left import TimeLeft
from deployments.triton import processes
from deployments.triton.contract import Contract
from deployments.triton.health import Health, StubDied
from deployments.triton.outputs import Tensors as Tensors
from deployments.triton.outputs import copied
from deployments.triton.repository import copy_with_parameters

log = logging.getLogger("ray.serve")

ResponseQueue = asyncio.Queue[Tensors | DeploymentError | None]
"""A request's responses as they arrive; then its error, if it failed; then None."""

STOP_S = 8
"""Longest wait for the server to stop; below every deployment's `graceful_shutdown_timeout_s`."""


class Triton(Protocol):
    """The server as a model's deployment uses it. Tests pass a fake."""

    async def infer(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> Tensors:
        """Run one inference with one response. Raises InvalidInput, ModelUnavailable, DeadlineExceeded, DeploymentError."""

    def stream(self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "") -> AsyncGenerator[Tensors]:
        """Run one inference, and yield each response as it arrives. Raises the same as `infer`.

        Closing the generator, or cancelling the await, cancels the work in the model.
        """

    async def check(self) -> None:
        """Return when the model serves. Raises StubDied or ModelUnavailable, with the reason."""

    def cpu_s(self) -> float:
        """CPU time so far, of this process and of those that hold the model."""

    def metrics(self) -> str:
        """Triton's own metrics, in Prometheus's text format; empty once the server has stopped."""

    async def close(self) -> None:
        """Stop the server; safe to call twice."""


def triton_home() -> Path:
    """The folder of Triton's libraries and backends: /opt in NVIDIA's image; elsewhere set-up places it in the environment."""
    image = Path("/opt/tritonserver")
    return image if image.is_dir() else Path(sys.prefix) / "opt" / "tritonserver"


class InProcessTriton:
    """A server with the one model of `repository`. The constructor returns after one real inference, and releases the GIL meanwhile.

    `parameters` become Triton's config parameters of the model. `warm_up` is a small real inference, and `probe` one to which the model
    responds at once, for the health check. A request to a model that batches is a batch of one: the first dimension, of length 1, is
    added to its tensors and removed from its responses here.
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
        self._probe, self._real = probe, warm_up
        self._health = Health(self._name, stall_s)
        self._stub_died = False
        self._readers: dict[asyncio.Task[None], Any] = {}
        _put_our_python_first()
        copy = Path(tempfile.mkdtemp(prefix="sonograph-"))
        try:
            copy_with_parameters(repository / self._name, copy / self._name, parameters, max_batch)
            self._server = _start(copy)
            try:
                # In EXPLICIT mode Triton reads the repository only once: the copy can be deleted.
                self._model = self._server.load(self._name)
                batched = self._model.config()["max_batch_size"] > 0
                self._contract = Contract(self._name, self._model.metadata()["inputs"], batched)
                self._stubs = processes.deprioritized_stubs()
                processes.unlink_shared_memory(self._stubs)
                self._warm_up(warm_up)
            except BaseException:
                self._stop()
                raise
        except DeploymentError:
            raise
        except Exception as error:
            raise ModelUnavailable(f"{self._name} did not start: {_sentence(str(error))}") from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    async def infer(
        self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "", counts: bool = True
    ) -> Tensors:
        responses = [response async for response in self.stream(inputs, time_left, request_id, counts)]
        if len(responses) != 1:
            raise DeploymentError(f"{self._name} sent {len(responses)} responses where one was due")
        return responses[0]

    async def stream(
        self, inputs: Mapping[str, NDArray[Any]], time_left: TimeLeft, request_id: str = "", counts: bool = True
    ) -> AsyncGenerator[Tensors]:
        """BYTES have to be arrays of dtype object: those of another dtype lose trailing NULs.

        `counts`: whether its outcome tells that the model works; the probe's does not, to which a broken model may respond.
        """
        if time_left.seconds <= 0:
            raise DeadlineExceeded(f"no time was left when {self._name} was to start")
        if not self._readers:
            # An idle model has not stalled: the time since the last response counts from here.
            self._health.responded()
        with call_spans.model_call(f"triton {self._name}") as call:
            iterator = self._submit(inputs, request_id, call.parameters)
            responses = ResponseQueue()
            # A cancelled `__anext__` would lose the response, so a task always reads to the end.
            reader = asyncio.create_task(self._read_responses(iterator, responses, counts))
            self._readers[reader] = iterator
            reader.add_done_callback(self._remove_reader)
            try:
                while True:
                    async with asyncio.timeout(time_left.seconds):
                        item = await responses.get()
                    if item is None:
                        return
                    if isinstance(item, DeploymentError):
                        raise item
                    call.take(item)
                    yield item
            except TimeoutError as error:
                raise DeadlineExceeded(f"{self._name} did not answer in the time that was left") from error
            finally:
                if not reader.done():
                    iterator.cancel()
                # A traceback that a caller keeps would keep the iterator, and the iterator would keep the server from stopping.
                del iterator

    async def check(self) -> None:
        if self._stub_died or not self._stubs or any(not processes.is_alive(stub) for stub in self._stubs):
            raise StubDied(f"the process that holds {self._name} has died")
        await self._health.check(
            bool(self._readers),
            probe=lambda seconds: self.infer(self._probe, TimeLeft(seconds), counts=False),
            real=lambda seconds: self.infer(self._real, TimeLeft(seconds)),
        )

    def cpu_s(self) -> float:
        return time.process_time() + sum(processes.cpu_s(stub.pid) for stub in self._stubs)

    def metrics(self) -> str:
        from tritonserver import MetricFormat

        return "" if self._server is None else str(self._server.metrics(MetricFormat.PROMETHEUS))

    async def close(self) -> None:
        if self._readers:
            await asyncio.wait(self._readers, timeout=STOP_S / 2)
        for reader in self._readers:  # the server would wait for their requests; a local name would keep an iterator
            self._readers[reader].cancel()
        if self._readers:
            await asyncio.wait(self._readers, timeout=STOP_S / 2)
        await asyncio.to_thread(self._stop)

    def _submit(self, inputs: Mapping[str, NDArray[Any]], request_id: str, parameters: dict[str, str]) -> Any:
        """Triton's iterator over the responses. It also keeps the inputs alive, which Triton reads in place."""
        from tritonserver import TritonError

        if self._model is None:
            raise ModelUnavailable(f"{self._name} is being stopped")
        tensors = self._contract.tensors(inputs)
        try:
            request = self._model.create_request(request_id=request_id, inputs=tensors, parameters=parameters)
            return self._model.async_infer(request, raise_on_error=False)
        except TritonError as error:
            raise self._translate_error(error) from None

    async def _read_responses(self, iterator: Any, responses: ResponseQueue, counts: bool) -> None:
        """Read to the end, and copy out of Triton's memory: one response that is kept would keep the server from stopping."""
        from tritonserver import InternalError

        failed: bool | None = None  # None where the outcome is the client's: a refused or a cancelled request
        try:
            async for response in iterator:
                self._health.responded()
                failed = False if response.error is None else isinstance(response.error, InternalError) or None
                if response.error is not None:
                    responses.put_nowait(self._translate_error(response.error))
                elif response.outputs:
                    responses.put_nowait(copied(response.outputs, self._contract.batched))
        except Exception as error:
            responses.put_nowait(DeploymentError(f"{self._name} failed: {type(error).__name__}: {error}"))
        finally:
            if counts and failed is not None:
                self._health.ended(failed)
            responses.put_nowait(None)

    def _remove_reader(self, reader: asyncio.Task[None]) -> None:
        self._readers.pop(reader, None)
        self._health.responded()
        if not reader.cancelled():
            reader.exception()  # retrieved, or asyncio would log it where the caller has disconnected

    def _warm_up(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        request = self._model.create_request(inputs=self._contract.tensors(inputs))
        for response in self._model.infer(request, raise_on_error=False):
            if response.error is not None:
                raise self._translate_error(response.error)

    def _translate_error(self, error: Exception) -> DeploymentError:
        """Triton's error as ours. Its first argument is the message; its second is the response, which must not be kept."""
        from tritonserver import InvalidArgumentError, UnavailableError

        message = _sentence(str(error.args[0]) if error.args else type(error).__name__)
        if any(not processes.is_alive(stub) for stub in self._stubs) or message.endswith("is not healthy."):
            self._stub_died = True  # Triton never uses a stub again that it has found dead or frozen
            return StubDied(f"the process that holds {self._name} died during the request")
        if isinstance(error, InvalidArgumentError):
            return InvalidInput(message)
        if isinstance(error, UnavailableError):
            return ModelUnavailable(f"{self._name}: {message}")
        return DeploymentError(f"{self._name} failed: {message}")

    def _stop(self) -> None:
        """Stop the server, within STOP_S. A response in a reference cycle would make it wait that long; cycles are collected first."""
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
    """Put this environment first on PATH, where the stub looks for its `python3`."""
    binaries = str(Path(sys.prefix) / "bin")
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != binaries:
        os.environ["PATH"] = os.pathsep.join((binaries, path))


def _start(repository: Path) -> Any:
    import tritonserver

    server = tritonserver.Server(
        model_repository=str(repository),
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        backend_directory=str(triton_home() / "backends"),
        strict_model_config=True,  # else Triton starts the stub twice, with all its imports, to complete the config
        exit_timeout=STOP_S,
        log_error=True,
        log_warn=True,
        gpu_metrics=False,
        cpu_metrics=False,
    )
    return server.start(wait_until_ready=True)


def _sentence(message: str) -> str:
    """The message without the stub's traceback, which Triton appends after `At:`."""
    return message.split("\n\nAt:")[0].strip()
