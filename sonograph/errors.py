"""Failures of a command."""


class Failed(Exception):
    """One sentence on why the command failed."""
