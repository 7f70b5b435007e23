"""The lines of the ingress's log: one JSON object each, in ASCII."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("ray.serve")
EVENT = "sonograph_event"
"""Attribute of the records that are lines already: their event."""
REQUEST = "request"
"""Event of the line that ends each request."""


def write(event: str, fields: Mapping[str, Any], level: int = logging.INFO) -> None:
    """Write one line to the log. A request's line does not go to standard error: Ray would read it there, and send it to the command."""
    if log.isEnabledFor(level):
        extra = {EVENT: event, **({"log_to_stderr": False} if event == REQUEST else {})}
        log.log(level, "%s", line(event, datetime.now(UTC), logging.getLevelName(level), fields), extra=extra)


def line(event: str, time: datetime, level: str, fields: Mapping[str, Any]) -> str:
    """ASCII with escapes: nothing that a client sent can end the line, or steer a terminal."""
    timestamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"event": event, "timestamp": timestamp, "level": level, **fields}, ensure_ascii=True, default=str)


class JsonLines(logging.Formatter):
    """Formatter of every record: lines of `write` stay as they are, and any other record gets the event `log`."""

    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, EVENT):
            return record.getMessage()
        fields = {
            "request_id": getattr(record, "request_id", None),
            "source": f"{record.filename}:{record.lineno}",
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return line("log", datetime.fromtimestamp(record.created, UTC), record.levelname, fields)
