"""Kept results of a comparison: one file with a JSON line for each outcome, which another run goes on from."""

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

from sonograph.compare.measured import Measured

NAME = "results.jsonl"
REQUIRED = {one.name for one in fields(Measured)} - {"error", "language"}


class NotKept(Exception):
    """A sentence on why results can be kept no longer, or not at all."""


def read(place: Path) -> list[Measured]:
    """The kept outcomes of a comparison, in the order in which they ended; of one pair the latest. `place`: its folder, or the file itself.

    Raises OSError. A line that cannot be read, such as the last one of a run that was killed, is left out.
    """
    return list(_parsed((place / NAME if place.is_dir() else place).read_bytes())[0].values())


class Store:
    """The results in a folder, of this run and of those before it. One run at a time has it open."""

    def __init__(self, folder: Path) -> None:
        """Open or make the folder's file. Raises NotKept where it cannot be written, or another run has it open."""
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise NotKept(f"the results cannot be kept in {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise NotKept(f"another run writes to {folder}: wait for its end, or name another folder by --out") from error
        content = self.path.read_bytes()
        found, self.unreadable = _parsed(content)
        """Lines, besides a torn last one, that cannot be read: their pairs are measured anew."""
        self.found: Mapping[str, Measured] = found
        """Outcomes of the runs before, by their keys."""
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):  # the torn line of a run that was killed: the next one would be appended to it
            os.ftruncate(self._file, self._size)

    def keep(self, one: Measured) -> None:
        """Append an outcome; once this returns it outlasts a crash of the machine. Raises NotKept, and leaves no part of it."""
        line = json.dumps(asdict(one), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise NotKept(f"{self.path} cannot take another result: {error.strerror}") from error
        self._size += len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _parsed(content: bytes) -> tuple[dict[str, Measured], int]:
    """Outcomes by key, and the number of whole lines that are none."""
    found: dict[str, Measured] = {}
    unreadable = 0
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        one = _outcome(line)
        if one is None:
            unreadable += 1
        else:
            found.pop(one.key, None)  # the latest one's place is last
            found[one.key] = one
    return found, unreadable


def _outcome(line: bytes) -> Measured | None:
    try:
        values: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not values.keys() >= REQUIRED or not isinstance(values["cores"], list):
        return None
    known = {one.name: values[one.name] for one in fields(Measured) if one.name in values}
    return Measured(**{**known, "cores": tuple(known["cores"])})
