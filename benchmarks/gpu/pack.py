"""Packages of the engines in a folder, for a machine with a GPU and no network.

That machine has Python, torch, numpy and safetensors, and what these require. `pack` collects the other packages that the engines import,
and `install` adds them there to the running Python. Both machines run the same minor version of Python (3.12) on x86-64 Linux with a
glibc of 2.28 or newer: the wheels are those for the Python that runs `pack`.
"""

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, Final

LOCK = Path(__file__).parents[2] / "requirements.lock"
SUMS = "SHA256SUMS"
"""The archives and their digests, as `sha256sum -c` reads them; in `installed`, those that it holds."""
INSTALLED = "installed"
LIMIT_BYTES = 25_000_000
PRESET: Final = 3
"""Of xz. It takes half as long as the default, for a seventh more bytes."""
ROOTS = ("diffusers", "openai-whisper", "pillow", "psutil", "requests", "rich", "transformers")
"""Packages that the engines import, and rich, by which this benchmark prints."""
PROVIDED = ("numpy", "safetensors", "torch")
UNUSED = ("hf-xet", "numba", "typer")
"""Requirements of the engines' packages that the engines never load."""

type Download = Callable[[Collection[str], Path], None]


def pack(folder: Path, download: Download | None = None, limit_bytes: int = LIMIT_BYTES) -> int:
    """Fill `folder` with an archive for each package and SHA256SUMS; return their bytes in all.

    An archive holds all files of a wheel, compressed as one stream of xz: as wheels the packages have 36 MB. The new folder replaces an
    earlier one when it is complete. `download` puts the wheels of the named packages into a folder. Raises ValueError with a sentence.
    """
    if folder.exists() and not {path.name for path in folder.iterdir() if path.suffix != ".xz"} <= {SUMS, INSTALLED}:
        raise ValueError(f"{folder} holds other files than packed ones: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
        wheels, packed = Path(temporary, "wheels"), Path(temporary, "packed")
        for new in (wheels, packed):
            new.mkdir()
        (download or download_wheels)(requirements(ROOTS, without=requirements(PROVIDED) | set(UNUSED)), wheels)
        archives = [_archive(wheel, packed) for wheel in sorted(wheels.glob("*.whl"))]
        (packed / SUMS).write_text("".join(f"{_sha256(path.read_bytes())}  {path.name}\n" for path in archives))
        size_bytes = sum(path.stat().st_size for path in packed.iterdir())
        if size_bytes > limit_bytes:
            largest = max(archives, key=lambda path: path.stat().st_size).name
            raise ValueError(f"the packages have {size_bytes:,} bytes, more than {limit_bytes:,}; the largest is {largest}")
        if folder.exists():
            shutil.rmtree(folder)
        packed.rename(folder)
    return size_bytes


def install(folder: Path) -> Path:
    """Unpack the archives of `folder` into `installed` in it, put that first in `sys.path` and register a stand-in for numba.

    Call it before a packed package is imported. Nothing is unpacked again from the same SHA256SUMS. Raises ValueError for a missing or
    changed archive.
    """
    installed = folder.resolve() / INSTALLED
    if not (folder / SUMS).is_file():
        raise ValueError(f"{folder} has no {SUMS}: fill it with benchmarks.gpu.pack.pack")
    sums = (folder / SUMS).read_text()
    stamp = installed / SUMS
    if not stamp.is_file() or stamp.read_text() != sums:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            unpacked = Path(temporary, INSTALLED)
            for line in sums.splitlines():
                _unpack(folder, line, unpacked)
            (unpacked / SUMS).write_text(sums)
            shutil.rmtree(installed, ignore_errors=True)
            unpacked.rename(installed)
    if str(installed) not in sys.path:
        sys.path.insert(0, str(installed))
    stand_in_for_numba()
    return installed


def stand_in_for_numba() -> None:
    """Register a module `numba` whose `jit` leaves a function as it is, where numba itself cannot be imported.

    openai-whisper imports numba for the times of words, which the engines do not compute.
    """
    try:
        import numba  # noqa: F401
    except ImportError:  # also raised by a numba that does not know the installed numpy
        module: Any = module_from_spec(ModuleSpec("numba", None))
        module.jit = lambda *functions, **options: functions[0] if functions else lambda function: function
        sys.modules["numba"] = module


def requirements(roots: Iterable[str], without: Collection[str] = ()) -> set[str]:
    """Return `roots` and the installed packages that they require (extras aside), but not `without` and what only those require."""
    from packaging.requirements import Requirement  # not on the machine with the GPU
    from packaging.utils import canonicalize_name

    found, waiting = set[str](), set(roots)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found and name not in without:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or ())
            waiting |= {one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})}
    return found


def download_wheels(names: Collection[str], folder: Path) -> None:
    """Download the packages' wheels at the installed versions, checked by the lock's hashes. Raises ValueError with a sentence.

    openai-whisper has no wheel: its own is built with the installed setuptools, as at set-up.
    """
    options = ["--no-deps", "--require-hashes", "--no-build-isolation", "--only-binary=:all:", "--no-binary=openai-whisper"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.writelines(_locked(name) for name in sorted(names))
        pins.flush()
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", *options, "--wheel-dir", str(folder), "-r", pins.name]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        reasons = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        raise ValueError(f"pip could not fetch the wheels: {'; '.join(reasons)}")


def _locked(name: str) -> str:
    """The lock's lines of a package at its installed version."""
    version = metadata.version(name)
    found = re.search(rf"^{re.escape(f'{name}=={version}')}\s.*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"{name} {version} is installed, and {LOCK.name} has another version or none: run make setup")
    return found[0]


def _archive(wheel: Path, folder: Path) -> Path:
    """Compress a wheel's files anew; the same files give the same bytes."""
    path = folder / f"{'-'.join(wheel.name.split('-')[:2])}.tar.xz"
    with zipfile.ZipFile(wheel) as files, tarfile.open(path, "w:xz", preset=PRESET) as archive:
        for name in sorted(name for name in files.namelist() if not name.endswith("/")):
            content = files.read(name)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def _unpack(folder: Path, line: str, target: Path) -> None:
    """Unpack the archive of a line of SHA256SUMS. Raises ValueError if it is missing or has another digest."""
    digest, name = line.split()
    content = (folder / name).read_bytes() if (folder / name).is_file() else b""
    if _sha256(content) != digest:
        raise ValueError(f"{folder / name} is missing or not the file that {SUMS} names: fill the folder again")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(target, filter="data")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
