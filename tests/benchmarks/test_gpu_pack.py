"""Packages for a machine with a GPU: packed, checked and installed without a network, and once with the real packages."""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from benchmarks.gpu import pack as gpu
from testing.service import ROOT

pytestmark = pytest.mark.slow

FORBIDDEN = {
    "accelerate",
    "fastapi",
    "hf_xet",
    "llvmlite",
    "numba",
    "pydantic",
    "ray",
    "scipy",
    "torch",
    "triton",
    "tritonserver",
}
MODULES = (
    "deployments.whisper.engine",
    "deployments.whisper.backends.torch",
    "deployments.diffusion.engine",
    "deployments.diffusion.batch",
    "deployments.diffusion.memory",
)
IMPORTS = """
import importlib, importlib.util, json, sys
from pathlib import Path
from benchmarks.gpu.pack import install
folder, *modules = sys.argv[1:]
install(Path(folder))
for module in modules:
    importlib.import_module(module)
absent = [name for name in ("accelerate", "av", "ctranslate2", "pydantic", "ray", "scipy") if not importlib.util.find_spec(name)]
print(json.dumps({"absent": absent, "numba": hasattr(sys.modules["numba"], "__file__"), "diffusers": sys.modules["diffusers"].__file__}))
"""


def fake_download(names: Collection[str], folder: Path) -> None:
    with zipfile.ZipFile(folder / "drawing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("drawing/__init__.py", "COLOUR = 'red'\n")


@pytest.fixture
def python(tmp_path: Path) -> Iterator[None]:
    """Undo what `install` does to this process, in which an empty module stands for numba."""
    path, numba = list(sys.path), sys.modules.pop("numba", None)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "numba.py").touch()
    sys.path.insert(0, str(tmp_path / "modules"))
    yield
    sys.path[:] = path
    sys.modules.pop("numba", None)
    if numba:
        sys.modules["numba"] = numba


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    gpu.pack(tmp_path / "packages", fake_download)
    return tmp_path / "packages"


def test_packages_that_are_too_large_are_refused_and_the_earlier_folder_stays(packed: Path) -> None:
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    with pytest.raises(ValueError, match=r"the packages have \d+ bytes, more than 10; the largest is drawing-1\.0\.tar\.xz"):
        gpu.pack(packed, fake_download, limit_bytes=10)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before
    assert list(packed.parent.iterdir()) == [packed]


def test_the_size_is_that_of_all_files(packed: Path) -> None:
    assert gpu.pack(packed, fake_download) == sum(path.stat().st_size for path in packed.iterdir())


def test_a_download_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    def failing(names: Collection[str], folder: Path) -> None:
        fake_download(names, folder)
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        gpu.pack(tmp_path / "packages", failing)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="name a new folder"):
        gpu.pack(tmp_path, fake_download)
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.usefixtures("python")
def test_a_packed_package_is_installed_first_in_the_path(packed: Path) -> None:
    installed = gpu.install(packed)
    gpu.install(packed)
    assert sys.path[0] == str(installed)
    assert sys.path.count(str(installed)) == 1
    assert importlib.import_module("drawing").COLOUR == "red"
    del sys.modules["drawing"]


@pytest.mark.usefixtures("python")
def test_the_same_packages_are_unpacked_once_and_others_anew(packed: Path) -> None:
    def newer(names: Collection[str], folder: Path) -> None:
        with zipfile.ZipFile(folder / "drawing-2.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("painting.py", "")

    (kept := gpu.install(packed) / "kept").touch()
    gpu.install(packed)
    assert kept.exists()
    gpu.pack(packed.parent / "newer", newer)
    for path in (packed.parent / "newer").iterdir():
        path.rename(packed / path.name)
    assert {path.name for path in gpu.install(packed).iterdir()} == {"SHA256SUMS", "painting.py"}


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("changed", [b"other", None])
def test_a_changed_or_missing_archive_is_refused(packed: Path, changed: bytes | None) -> None:
    (archive,) = packed.glob("*.tar.xz")
    archive.unlink()
    if changed:
        archive.write_bytes(changed)
    with pytest.raises(ValueError, match=r"drawing-1\.0\.tar\.xz is missing or not the file that SHA256SUMS names"):
        gpu.install(packed)
    assert not (packed / "installed").exists()


def test_a_folder_that_was_not_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no SHA256SUMS"):
        gpu.install(tmp_path)


@pytest.mark.usefixtures("python")
def test_a_numba_that_cannot_be_imported_has_a_stand_in_that_compiles_nothing(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.4 or less')")
    sys.path.insert(0, str(tmp_path))
    gpu.stand_in_for_numba()
    numba = importlib.import_module("numba")
    assert numba.jit(nopython=True)(len) is len
    assert numba.jit(len) is len
    assert importlib.util.find_spec("numba")


@pytest.mark.usefixtures("python")
def test_a_numba_that_can_be_imported_is_kept(tmp_path: Path) -> None:
    gpu.stand_in_for_numba()
    assert sys.modules["numba"].__file__ == str(tmp_path / "modules" / "numba.py")


def test_a_failure_of_pip_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^pip could not fetch the wheels: [^\n]+$"):
        gpu.download_wheels(["h11"], tmp_path / "file" / "folder")


def bare_environment(folder: Path) -> None:
    """Fill a folder with links to torch, numpy, safetensors and what they require, and to nothing else."""
    for name in gpu.requirements(gpu.PROVIDED):
        for file in metadata.files(name) or ():
            link = folder / file.parts[0]
            if file.parts[0] != ".." and not link.exists():
                link.symlink_to(file.locate().parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate())


def test_the_engines_run_on_a_bare_machine_from_a_small_folder(tmp_path: Path) -> None:
    folder, bare = tmp_path / "packages", tmp_path / "bare"
    assert gpu.pack(folder) <= gpu.LIMIT_BYTES
    names = {path.name.split("-")[0] for path in folder.glob("*.tar.xz")}
    assert {"diffusers", "openai_whisper", "transformers"} <= names
    assert names & FORBIDDEN == set()
    bare.mkdir()
    bare_environment(bare)
    command = [Path(sys.executable).resolve(), "-S", "-c", IMPORTS, folder, *MODULES]
    environment = {"PYTHONPATH": f"{bare}{os.pathsep}{ROOT}", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["absent"] == ["accelerate", "av", "ctranslate2", "pydantic", "ray", "scipy"]
    assert not found["numba"], "numba itself was imported"
    assert found["diffusers"].startswith(f"{folder}/installed/")
    tiny = [
        "-S",
        "-m",
        "benchmarks.gpu",
        "--tiny",
        "--only",
        "turbo,sd-turbo",
        "--packages",
        folder,
        "--out",
        tmp_path / "results",
    ]
    result = subprocess.run([command[0], *tiny], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    parts = json.loads((tmp_path / "results" / "tiny.json").read_text())["parts"]
    assert [sorted(rows) != [] and not any("error" in row for row in rows.values()) for rows in parts.values()] == [True, True]
