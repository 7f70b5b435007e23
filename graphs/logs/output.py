"""The device or pipe for an ingress replica's lines that the settings name, besides Ray's file of the replica."""

import contextlib
import logging
import os
from typing import Any

from graphs.logs.lines import EVENT, JsonLines, log


class Output(logging.Handler):
    """Handler that writes each line at once. A device that takes nothing now costs lines, not time: no request waits for its log."""

    def __init__(self, path: str | None = None) -> None:
        """`path`: of a device or pipe for the lines of requests and rollouts, and for other lines from WARNING on.

        Without it nothing is written. On the replica's own standard output Ray would read each line, and send it to the command.
        """
        super().__init__()
        self.setFormatter(JsonLines())
        self._path = path
        self._rest = b""
        """End of a line of which the device took only the beginning."""
        self.dropped = 0
        """Lines that the device did not take."""
        self._file: Any = None if path is None else _opened(path)

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        for_reader = hasattr(record, EVENT) or record.levelno >= logging.WARNING
        return self._file is not None and for_reader and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(f"{self.format(record)}\n".encode())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None
        super().close()

    def _send(self, line: bytes) -> None:
        """Write what is left of the last line, then this one."""
        try:
            self._rest = self._rest[os.write(self._file, self._rest) :] if self._rest else b""
            if self._rest:
                self._drop()
            else:
                self._rest = line[os.write(self._file, line) :]
        except BlockingIOError:
            self._drop()
        except BrokenPipeError:
            self.close()
            log.warning("logging.output ends: nobody reads %s any more; Ray's file of this replica has each line", self._path)

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            log.warning("logging.output loses lines: %s takes none now; Ray's file of this replica has each line", self._path)


def _opened(path: str) -> Any:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        log.warning("logging.output cannot be opened (%s): name a device that this user can write to", error)
        return None
