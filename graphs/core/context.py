"""What travels with a request through a graph."""

from dataclasses import dataclass

from deployments.time_left import TimeLeft
from graphs.http.access_log import Line
from graphs.http.events import Tell


@dataclass(frozen=True)
class Given:
    time_left: TimeLeft
    line: Line
    """The request's line in the log; it has the request's id."""
    tell: Tell | None = None
    """Hears how the request comes along; None where nobody listens, and the rooms then answer once."""
