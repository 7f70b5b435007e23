"""A pipe from the ingress replicas to this command's standard output, for each request's line."""

import contextlib
import os
import sys
import threading
from typing import Any, BinaryIO


class Relay:
    """Whole lines are copied until `close`. A reader of the command's output that is slow or gone costs lines, and no request waits."""

    def __init__(self, target: BinaryIO | None = None) -> None:
        """`target`: by default standard output."""
        self._target = sys.stdout.buffer if target is None else target
        read, self._write = os.pipe()
        self.path = f"/proc/{os.getpid()}/fd/{self._write}"
        """Path by which another process of this user opens the pipe."""
        self._thread = threading.Thread(target=self._copy, args=(read,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End once every other process has closed the pipe, at most a second later."""
        os.close(self._write)
        self._thread.join(1)

    def _copy(self, read: int) -> None:
        with os.fdopen(read, "rb") as lines:
            for line in lines:
                with contextlib.suppress(OSError, ValueError):  # nobody reads the command's output: the replicas must not wait
                    self._target.write(line)
                    self._target.flush()


def with_output(content: dict[str, Any], path: str) -> None:
    """Make `path` the `logging.output` of a Serve config; what the config itself sets stays."""
    (application,) = content["applications"]
    arguments = application.get("args") or {}
    application["args"] = {**arguments, "logging": {"output": path, **(arguments.get("logging") or {})}}
