"""Serve's logger in an ingress replica: JSON lines in Ray's file of the replica, and on standard output.

Serve's own formatters do not fit: its JSON has local time, and the line of a request as a string inside; its text has a prefix.
"""

import logging
from typing import Any

from ray.serve._private.logging_utils import ServeContextFilter, log_access_log_filter

from graphs.logs.lines import EVENT, REQUEST, JsonLines, log
from graphs.logs.output import Output
from graphs.logs.settings import LoggingSettings


def config(settings: LoggingSettings) -> dict[str, Any]:
    """The ingress's `logging_config`. Serve's own line for each request would double ours, and JSON makes it keep the request's id."""
    return {"encoding": "JSON", "log_level": settings.level, "enable_access_log": False}


def install(settings: LoggingSettings, logger: logging.Logger = log) -> None:
    """Shape this replica's log by the settings."""
    for former in [one for one in logger.filters if isinstance(one, _Shape)]:
        logger.removeFilter(former)
        logger.removeHandler(former.output)
    shape = _Shape(settings, logger)
    shape.apply()
    logger.addFilter(shape)


class _Shape(logging.Filter):
    """Filter that keeps the handlers in shape: when its logging_config changes, Serve replaces a logger's handlers, not its filters."""

    def __init__(self, settings: LoggingSettings, logger: logging.Logger) -> None:
        super().__init__()
        self._access = settings.access
        self._logger = logger
        self._formatter = JsonLines()
        self.output = Output(settings.output)
        self.output.addFilter(ServeContextFilter())
        self.output.addFilter(log_access_log_filter)

    def filter(self, record: logging.LogRecord) -> bool:
        self.apply()
        return self._access or getattr(record, EVENT, None) != REQUEST

    def apply(self) -> None:
        for handler in self._logger.handlers:
            file = getattr(handler, "target", None)  # of the handler that Serve puts before its file
            if file is not None and file.formatter is not self._formatter:
                file.setFormatter(self._formatter)
        if self.output not in self._logger.handlers:
            self._logger.handlers.insert(0, self.output)  # the file's handler takes attributes away from a record
