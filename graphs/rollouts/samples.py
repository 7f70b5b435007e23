"""Kept samples: a mirrored request, both results and their scores, one zip archive each, bounded in number, bytes and age."""

import io
import json
import logging
import secrets
import threading
import time
import wave
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ
from graphs.core.policies.rollout import Outcome
from graphs.rollouts.observations import Pair
from graphs.rollouts.settings import RolloutSettings
from graphs.rollouts.state import Rollout

log = logging.getLogger("ray.serve")
SUFFIX = ".zip"


@dataclass(frozen=True)
class Stored:
    """One kept sample. The name begins with its time, so that names sort by age."""

    name: str
    size: int

    @property
    def at(self) -> float:
        """Unix time; 0 for a name that is no sample's."""
        milliseconds = self.name.partition("-")[0]
        return int(milliseconds) / 1000 if milliseconds.isdecimal() else 0.0


class Folder(Protocol):
    """A place for files. Raises OSError."""

    def write(self, stage: str, name: str, content: bytes) -> None: ...

    def list(self, stage: str) -> list[Stored]: ...

    def remove(self, stage: str, name: str) -> None: ...


class LocalFolder:
    """A folder of this machine; its files are for this user only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, stage: str, name: str, content: bytes) -> None:
        folder = self._root / stage
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = folder / f".{name}"
        partial.touch(mode=0o600)
        partial.write_bytes(content)
        partial.rename(folder / name)

    def list(self, stage: str) -> list[Stored]:
        return [Stored(one.name, one.stat().st_size) for one in (self._root / stage).glob(f"[0-9]*{SUFFIX}")]

    def remove(self, stage: str, name: str) -> None:
        (self._root / stage / name).unlink(missing_ok=True)


class RemoteFolder:
    """A folder by fsspec, such as an S3-compatible bucket's."""

    def __init__(self, url: str) -> None:
        """`url`: as fsspec takes it. Raises ValueError where the packages for such URLs are not installed."""
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ValueError(
                f"rollouts.samples_folder is {url!r}, which needs more packages: install sonograph[s3] ({error})"
            ) from error

    def write(self, stage: str, name: str, content: bytes) -> None:
        self._files.makedirs(f"{self._root}/{stage}", exist_ok=True)
        self._files.pipe_file(f"{self._root}/{stage}/{name}", content)

    def list(self, stage: str) -> list[Stored]:
        try:
            found = self._files.ls(f"{self._root}/{stage}", detail=True, refresh=True)
        except FileNotFoundError:
            return []
        names = [(one["name"].rpartition("/")[2], one["size"]) for one in found if one["type"] == "file"]
        return [Stored(name, size) for name, size in names if name.endswith(SUFFIX)]

    def remove(self, stage: str, name: str) -> None:
        self._files.rm_file(f"{self._root}/{stage}/{name}")


class Samples:
    """The samples of all stages. Its methods block; one thread at a time writes or removes."""

    def __init__(self, settings: RolloutSettings, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time. Raises ValueError for a URL that needs a package which is not installed."""
        assert settings.samples_folder is not None
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._folder: Folder = (
            RemoteFolder(settings.samples_folder)
            if "://" in settings.samples_folder
            else LocalFolder(Path(settings.samples_folder))
        )

    def keep(self, rollout: Rollout, request: Any, stable: Outcome, candidate: Outcome, pair: Pair) -> None:
        """Write one sample, and remove the oldest beyond the bounds. A folder that cannot be written costs the sample alone."""
        content = _archive(rollout, request, stable, candidate, pair)
        name = f"{int(self._clock() * 1000):015d}-{rollout.id}-{secrets.token_hex(4)}{SUFFIX}"
        try:
            with self._lock:
                if len(content) <= self._settings.max_samples_bytes:
                    self._folder.write(rollout.stage, name, content)
                self._trim(rollout.stage, rollout.samples)
        except OSError as error:
            log.warning("a sample of %s is not kept: %s", rollout.stage, ascii(str(error)))

    def _trim(self, stage: str, most: int) -> None:
        """Remove the stage's samples that are too old, too many, or too large in sum; the oldest first."""
        found = sorted(self._folder.list(stage), key=lambda one: one.name)
        total, oldest = sum(one.size for one in found), self._clock() - self._settings.max_samples_age_s
        while found and (found[0].at < oldest or len(found) > most or total > self._settings.max_samples_bytes):
            first = found.pop(0)
            total -= first.size
            self._folder.remove(stage, first.name)

    def remove(self, stage: str) -> int:
        """Remove every sample of a stage, and return their number. Raises OSError."""
        with self._lock:
            found = self._folder.list(stage)
            for one in found:
                self._folder.remove(stage, one.name)
        return len(found)


def _archive(rollout: Rollout, request: Any, stable: Outcome, candidate: Outcome, pair: Pair) -> bytes:
    files = _files("request", request) | _files("stable", stable.result) | _files("candidate", candidate.result)
    scores = {
        "stage": rollout.stage,
        "application": rollout.application,
        "took_s": {"stable": stable.took_s, "candidate": candidate.took_s},
        **asdict(pair),
    }
    files["scores.json"] = _json(scores)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # sound and pictures do not get smaller
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _files(name: str, value: Any) -> dict[str, bytes]:
    """Files of a request or a result: its sound as WAV, its picture as it is, all else as JSON."""
    files, fields = {}, {}
    for field, content in _fields(value).items():
        if isinstance(content, np.ndarray):
            files[f"{name}.wav"] = _wav(content)
        elif isinstance(content, bytes):
            files[f"{name}.{_extension(content)}"] = content
        else:
            fields[field] = asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
    return files | {f"{name}.json": _json(fields)}


def _fields(value: Any) -> dict[str, Any]:
    return {field: getattr(value, field) for field in value.__dataclass_fields__}


def _extension(image: bytes) -> str:
    return "png" if image.startswith(b"\x89PNG") else "jpeg" if image.startswith(b"\xff\xd8") else "webp"


def _json(content: Any) -> bytes:
    return json.dumps(content, default=lambda one: asdict(one), ensure_ascii=False, indent=1).encode()


def _wav(samples: Any) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.asarray(samples, np.int16).tobytes())
    return buffer.getvalue()
