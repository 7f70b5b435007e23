"""The set-up: locks, the Makefile's sentence about a missing tool, and Whisper's weights."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from deployments.whisper.weights import WEIGHTS, convert

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", *ROOT.glob("images/*.lock"), *ROOT.glob("deployments/*/*.lock")]
WIDTH, AUDIO_CONTEXT, TEXT_CONTEXT, VOCABULARY = 4, 6, 5, 10


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_of_a_lock_is_one_version_with_hashes_and_no_address(lock: Path) -> None:
    lines = [line for line in lock.read_text().replace("\\\n", "").splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.\[\],-]+==[\w.+]+( ; [^/]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), line


def test_the_lock_holds_every_requirement_of_the_project_and_of_its_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in extras.values():
        for path in extra["file"]:
            wanted += [line for line in (ROOT / path).read_text().splitlines() if line.strip() and not line.startswith("#")]
    locked = set(re.findall(r"^([a-z0-9-]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {normalised(requirement) for requirement in wanted} <= locked


def test_the_wheel_ships_the_small_pipeline_and_nothing_of_its_training(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("graphs", "deployments", "sonograph", "training"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "small-stable-diffusion"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "tests/requirements.txt", "images/triton-requirements.txt"):
        (source / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    builtin = "deployments/diffusion/small-stable-diffusion"
    files = {
        "README.md",
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    pipeline = {f"{builtin}/{file}" for file in files}
    for name in pipeline:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", program, tmp_path]
    wheel = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout.split()[-1]
    shipped = set(zipfile.ZipFile(tmp_path / wheel).namelist())
    assert {name for name in shipped if name.startswith(builtin)} == pipeline
    page = {str(file.relative_to(ROOT)) for folder in ("http/static", "samples") for file in (ROOT / "graphs" / folder).iterdir()}
    assert "graphs/http/static/index.html" in page
    assert page <= shipped
    assert not {name for name in shipped if name.startswith("training")}
    for package in ("deployments", "graphs", "sonograph"):
        for module in ROOT.glob(f"{package}/**/*.py"):
            assert str(module.relative_to(ROOT)) in shipped


def normalised(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


@pytest.mark.parametrize(
    ("folder", "tools", "missing"),
    [
        ("checkout", ["uname", "git", "curl"], "Python 3.12"),
        ("checkout", ["uname", "git"], "curl"),
        ("checkout", ["uname", "curl"], "git"),
        ("check out", ["uname", "git", "curl"], "a folder without a space"),
    ],
)
def test_make_names_a_missing_part_in_one_sentence(tmp_path: Path, folder: str, tools: list[str], missing: str) -> None:
    for tool in tools:
        found = shutil.which(tool)
        if not found:
            pytest.skip(f"{tool} is not on this machine")
        (tmp_path / tool).symlink_to(found)
    for python in ("python3", "python3.12"):  # as pyenv's shims do
        (tmp_path / python).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / python).chmod(0o755)
    checkout = tmp_path / folder
    (checkout / "images").mkdir(parents=True)
    for path in ("Makefile", "images/uv-requirements.lock"):
        shutil.copy(ROOT / path, checkout / path)
    make = shutil.which("make")
    assert make
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    result = subprocess.run([make, ".venv/.done/environment"], cwd=checkout, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert re.fullmatch(rf"Makefile:\d+: \*\*\* Sonograph needs {missing}[^\n]*\.  Stop\.\n", result.stderr)
    assert not (checkout / ".venv").exists()


def test_help_names_the_targets_and_sets_nothing_up(tmp_path: Path) -> None:
    result = subprocess.run(["make", "-f", ROOT / "Makefile"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for target in ("setup", "serve", "test", "check", "lock", "clean"):
        assert f"make {target}" in result.stdout
    assert not os.listdir(tmp_path)


def test_a_ctranslate2_model_becomes_a_checkpoint_of_openai_whisper() -> None:
    arrays = small_model()
    arrays["decoder/layer_0/attention/linear_1/weight"][WIDTH:] = 2  # the lower half is the value's
    dims, state = convert(written(arrays))
    assert (dims["n_audio_layer"], dims["n_text_layer"]) == (2, 1)
    assert (dims["n_vocab"], dims["n_audio_ctx"], dims["n_text_ctx"]) == (VOCABULARY, AUDIO_CONTEXT, TEXT_CONTEXT)
    assert (state["decoder.blocks.0.cross_attn.key.weight"] == 1).all()
    assert (state["decoder.blocks.0.cross_attn.value.weight"] == 2).all()
    assert state.keys() == names(dims)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9999])
def test_a_truncated_model_is_refused(share: float) -> None:
    whole = written(small_model())
    with pytest.raises(ValueError, match="truncated"):
        convert(whole[: int(len(whole) * share)])


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Whisper model"):
        convert(b"PK\x03\x04" + bytes(1000))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes follow the end"):
        convert(written(small_model()) + b"abc")


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("encoder/layer_1/ffn/linear_1/bias", None, "is missing"),
        ("encoder/conv1/weight", np.ones((WIDTH, 80, 3), np.int8), "not a float16 array"),
        ("encoder/layer_0/self_attention/linear_0/bias", np.ones(3 * WIDTH, np.float16), "is not zero"),
        ("encoder/layer_0/self_attention/linear_0/bias", np.ones(3 * WIDTH + 1, np.float16), "not a float16 array"),
        ("encoder/layer_9/something", np.ones(3, np.float16), "has no place"),
    ],
)
def test_a_model_with_other_arrays_is_refused(name: str, array: NDArray[np.float16] | None, complaint: str) -> None:
    arrays = small_model() | {name: array}
    with pytest.raises(ValueError, match=complaint):
        convert(written({name: array for name, array in arrays.items() if array is not None}))


def test_the_installed_weights_are_complete() -> None:
    with safe_open(WEIGHTS / "tiny.en.safetensors", framework="np") as file:
        dims = json.loads(file.metadata()["dims"])
        assert set(file.keys()) == names(dims)
        assert file.get_slice("decoder.token_embedding.weight").get_shape() == [51864, 384]


def names(dims: dict[str, int]) -> set[str]:
    """openai-whisper's own names for a model of these dimensions."""
    from whisper.model import ModelDimensions, Whisper

    return set(Whisper(ModelDimensions(**dims)).state_dict())


def small_model() -> dict[str, NDArray[np.float16]]:
    """All ones but for the key's biases: two layers in the encoder, one in the decoder."""
    arrays = {
        "encoder/position_encodings/encodings": ones(AUDIO_CONTEXT, WIDTH),
        "decoder/position_encodings/encodings": ones(TEXT_CONTEXT, WIDTH),
        "decoder/embeddings/weight": ones(VOCABULARY, WIDTH),
        "decoder/pre_norm": np.int8(1),
    }
    for layer, shape in {"encoder/conv1": (WIDTH, 80, 3), "encoder/conv2": (WIDTH, WIDTH, 3)}.items():
        arrays |= {f"{layer}/weight": ones(*shape), f"{layer}/bias": ones(WIDTH)}
    for side, layers in {"encoder": 2, "decoder": 1}.items():
        arrays |= {f"{side}/num_heads": np.int16(2), **norm(side)}
        for layer in (f"{side}/layer_{number}" for number in range(layers)):
            arrays |= norm(f"{layer}/self_attention") | linear(f"{layer}/self_attention/linear_0", 3 * WIDTH)
            arrays[f"{layer}/self_attention/linear_0/bias"][WIDTH : 2 * WIDTH] = 0
            arrays |= linear(f"{layer}/self_attention/linear_1", WIDTH)
            arrays |= norm(f"{layer}/ffn") | linear(f"{layer}/ffn/linear_0", 4 * WIDTH)
            arrays |= linear(f"{layer}/ffn/linear_1", WIDTH, 4 * WIDTH)
    layer = "decoder/layer_0/attention"
    arrays |= norm(layer) | linear(f"{layer}/linear_0", WIDTH) | linear(f"{layer}/linear_1", 2 * WIDTH)
    arrays[f"{layer}/linear_1/bias"][:WIDTH] = 0
    return arrays | linear(f"{layer}/linear_2", WIDTH)


def ones(*shape: int) -> NDArray[np.float16]:
    return np.ones(shape, np.float16)


def norm(name: str) -> dict[str, NDArray[np.float16]]:
    return {f"{name}/layer_norm/gamma": ones(WIDTH), f"{name}/layer_norm/beta": ones(WIDTH)}


def linear(name: str, rows: int, columns: int = WIDTH) -> dict[str, NDArray[np.float16]]:
    return {f"{name}/weight": ones(rows, columns), f"{name}/bias": ones(rows)}


def written(arrays: dict[str, NDArray[np.float16]]) -> bytes:
    """A CTranslate2 file, version 6."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    data = struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        dtype = {"float16": 4, "int16": 2, "int8": 1}[array.dtype.name]
        data += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", dtype, array.nbytes) + array.tobytes()
    return data + struct.pack("<I", 1) + string("decoder/projection/weight") + string("decoder/embeddings/weight")
