"""Inputs of a comparison: recordings of files and folders with their known texts, or prompts, one a line."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphs.audio.formats import FORMATS

SUFFIXES = {f".{name}" for name in (*FORMATS, "mp4", "oga", "mka", "weba")}
"""Files of a folder that count as recordings; a file that is named itself may have any name, since its content decides."""
MAX_BYTES = 1 << 30
"""Largest recording."""
MAX_PROMPT_CHARS = 10_000


class Unreadable(Exception):
    """A sentence on why an input cannot be read."""


@dataclass(frozen=True)
class Input:
    """A recording or a prompt."""

    name: str
    """The recording's path below the folder that was given, or the prompt itself."""
    path: Path | None = None
    """None for a prompt."""
    sha256: str = ""
    """Hash of the content; empty for one that cannot be read."""
    problem: str = ""
    """Sentence on why it cannot be read."""
    copies: tuple["Input", ...] = ()
    """Inputs with the same content, which are not measured themselves."""

    def content(self) -> bytes:
        """The recording, or the prompt in UTF-8. Raises Unreadable."""
        return self.name.encode("utf-8", "replace") if self.path is None else _read(self.path)


@dataclass(frozen=True)
class Inputs:
    """All inputs of a run, each content once."""

    found: tuple[Input, ...]
    notes: tuple[str, ...] = ()
    """Sentences on what was left out, such as files that are no recordings."""


@dataclass(frozen=True)
class References:
    """Known texts."""

    texts: dict[str, str] = field(default_factory=dict)
    """By the input's name."""
    missing: tuple[str, ...] = ()
    """Names of inputs without one."""
    unused: tuple[str, ...] = ()
    """Names in the file that no input has."""


def recordings(places: Sequence[Path], report: Callable[[str], None] = lambda name: None) -> Inputs:
    """The recordings of these files and folders, folders with all below them. `report`: called with each one's name before it is read."""
    found: list[tuple[str, Path, str]] = []
    others = 0
    for place in places:
        if place.is_dir():
            for path, problem in _below(place):
                if problem or path.suffix.lower() in SUFFIXES:
                    found.append((str(path.relative_to(place)), path, problem))
                else:
                    others += 1
        else:
            found.append((place.name, place, ""))
    count = Counter(name for name, _, _ in found)
    read: list[Input] = []
    for name, path, problem in dict.fromkeys(found):
        unique = name if count[name] == 1 else str(path)
        report(unique)
        read.append(Input(unique, path, problem=problem) if problem else _hashed(Input(unique, path)))
    notes = []
    if others:
        kinds = ", ".join(sorted(SUFFIXES))
        notes.append(f"{others} other file{'s' * (others > 1)} in the folders: a recording's name ends with {kinds}")
    return _each_once(read, notes, "recording")


def prompts(file: Path) -> Inputs:
    """The prompts of a text file, one a line; empty lines are left out. Raises Unreadable."""
    read = []
    for number, line in enumerate(_lines(file), 1):
        if len(line.strip()) > MAX_PROMPT_CHARS:
            raise Unreadable(
                f"line {number} of {file} has more than {MAX_PROMPT_CHARS} characters: a prompt is one line of words"
            )
        if line.strip():
            read.append(_hashed(Input(line.strip())))
    return _each_once(read, [], "prompt")


def references(file: Path, inputs: Sequence[Input]) -> References:
    """The known texts of a file with lines `name<TAB>text`. Raises Unreadable, which names the line.

    A name is the recording's: its path below the folder that was given, its path relative to this file, or the file's name alone
    where one recording has it.
    """
    texts: dict[str, str] = {}
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        name, is_pair, text = line.partition("\t")
        if not is_pair or not name.strip() or not text.strip():
            raise Unreadable(f"line {number} of {file} is no name and text: write the recording's name, a tab, and its words")
        if name.strip() in texts:
            raise Unreadable(f"line {number} of {file} names {name.strip()} again: give each recording one line")
        texts[name.strip()] = text.strip()
    known = [[each for each in (one, *one.copies) if each.path] for one in inputs]
    basenames = Counter(each.path.name for group in known for each in group if each.path)
    relative = {os.path.realpath(file.parent / name): name for name in texts}
    found: dict[str, str] = {}
    used: set[str] = set()
    missing = []
    for one, group in zip(inputs, known, strict=True):
        names = [
            name
            for each in group
            if (path := each.path)
            for name in (
                each.name,
                relative.get(os.path.realpath(path)),
                str(path),
                path.name if basenames[path.name] == 1 else None,
            )
            if name in texts
        ]
        used.update(names)
        if names:
            found[one.name] = texts[names[0]]
        else:
            missing.append(one.name)
    return References(found, tuple(missing), tuple(name for name in texts if name not in used))


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    """All files below a folder but hidden ones, in order, and folders that cannot be read, with the reason."""
    problems: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=problems.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from ((Path(place) / name, "") for name in sorted(files) if not name.startswith("."))
        while problems:
            error = problems.pop()
            yield Path(str(error.filename)), f"the folder cannot be read: {error.strerror}"
    for error in problems:
        yield Path(str(error.filename)), f"the folder cannot be read: {error.strerror}"


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise Unreadable("it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable(f"it has more than {MAX_BYTES >> 30} GiB: cut it into shorter recordings")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error


def _hashed(one: Input) -> Input:
    try:
        return replace(one, sha256=hashlib.sha256(one.content()).hexdigest())
    except Unreadable as error:
        return replace(one, problem=str(error))


def _each_once(read: Sequence[Input], notes: Sequence[str], kind: str) -> Inputs:
    found: dict[str, list[Input]] = {}
    for one in read:
        found.setdefault(one.sha256 or f"unreadable {one.name}", []).append(one)
    if again := len(read) - len(found):
        notes = [*notes, f"{again} {kind}{'s' * (again > 1)} with the content of another one, which is measured once"]
    return Inputs(tuple(replace(first, copies=tuple(others)) for first, *others in found.values()), tuple(notes))


def _lines(file: Path) -> list[str]:
    """Lines of a text file. Raises Unreadable."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise Unreadable(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text in UTF-8'}") from error
