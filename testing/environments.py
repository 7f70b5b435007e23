"""The images without a Docker engine: each is a virtual environment with the image's packages and, if it has them, Triton and weights.

build/images keeps them, and a changed requirement rebuilds them. The product is installed anew each time from its wheel, which is made
of the files that images/wheel.Dockerfile copies.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deployments.triton import server
from deployments.whisper.weights import WEIGHTS
from images.requirements import images, requirements

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "images"
UV = Path(sys.prefix) / "bin" / "uv"
LOCK = ROOT / "requirements.lock"
NEEDED_BYTES = 12 << 30
"""Disk space needed, since uv copies its cache if that is on another disk."""


@functools.cache
def environment(image: str) -> Path:
    """Return the folder of the image's environment. Hard links to uv's cache and to this environment cost seconds and no disk."""
    folder = KEPT / image
    models = images()[image]
    wanted = "\n".join(requirements(*models))
    fingerprint = hashlib.sha256(f"pip {wanted}{LOCK.read_text()}{sys.base_prefix}{folder}".encode()).hexdigest()
    stamp = folder / ".stamp"
    if not stamp.exists() or stamp.read_text() != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        if shutil.disk_usage(ROOT).free < NEEDED_BYTES:
            pytest.skip("less than 12 GiB of disk are free")
        _uv("venv", "--seed", "--python", sys.executable, folder)  # with pip, as the images' have it
        listed = folder / "requirements.txt"
        listed.write_text(wanted)
        options = ("--link-mode", "hardlink", "--constraints", LOCK, "--build-constraints", LOCK)
        _uv("pip", "install", "--python", folder / "bin" / "python", *options, "-r", listed)
        if models or image == "base":
            _lay_out_triton(folder)
        if "whisper" in models:
            shutil.copytree(WEIGHTS, folder / WEIGHTS.relative_to(sys.prefix), copy_function=os.link)
        stamp.write_text(fingerprint)
    _uv("pip", "install", "--python", folder / "bin" / "python", "--no-deps", "--reinstall", _wheel())
    # As in the images, where Python could not keep what it compiles: each process would compile Ray again, for three seconds.
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", "-j", "0", folder / "lib"], stdout=subprocess.DEVNULL)
    return folder


def python(image: str) -> Path:
    return environment(image) / "bin" / "python"


def _lay_out_triton(folder: Path) -> None:
    """Place Triton where NVIDIA's image has it, from the copy that set-up made for this environment."""
    home = server.triton_home()
    if home.is_relative_to(sys.prefix):
        shutil.copytree(home, folder / home.relative_to(sys.prefix), copy_function=os.link, symlinks=True)
        (packages,) = (folder / "lib").glob("python3.*/site-packages")
        (packages / "tritonserver.pth").write_text(os.path.relpath(folder / "opt" / "tritonserver" / "python", packages) + "\n")
    else:
        (wheel,) = (home / "python").glob("tritonserver-*.whl")
        _uv("pip", "install", "--python", folder / "bin" / "python", "--no-deps", wheel)


@functools.cache
def _wheel() -> Path:
    with tempfile.TemporaryDirectory(prefix="sonograph-wheel-") as scratch:
        source = Path(scratch)
        for copied in re.findall(r"^COPY (?!--)(.+)$", (ROOT / "images" / "wheel.Dockerfile").read_text(), re.MULTILINE):
            *paths, target = copied.split()
            for path in paths:
                to = source / (Path(path).name if target == "./" else target)
                to.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / path).is_dir():
                    shutil.copytree(ROOT / path, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / path, to)
        shutil.rmtree(KEPT / "wheel", ignore_errors=True)
        _uv("build", "--wheel", "--build-constraints", source / LOCK.name, "--out-dir", KEPT / "wheel", source)
    (wheel,) = (KEPT / "wheel").glob("*.whl")
    return wheel


def _uv(*words: str | Path) -> None:
    result = subprocess.run([UV, *words, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert result.returncode == 0, result.stdout
