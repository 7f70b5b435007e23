"""Failures of a command."""

from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from sonograph.terminal import printable


class Failed(Exception):
    """One sentence on why the command failed."""


def fail(command: str, error: Exception | str, status: int = 1) -> NoReturn:
    """Print `sonograph COMMAND: SENTENCE` on standard error, and end the command with this exit status."""
    sentence = "\n".join(map(printable, str(error).split("\n")))
    Console(stderr=True, highlight=False).print(Text(f"sonograph {command}: {sentence}", "red"), soft_wrap=True)
    raise typer.Exit(status) from (error if isinstance(error, Exception) else None)
