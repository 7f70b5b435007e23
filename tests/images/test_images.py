"""The images without a Docker engine: the packages of each serve its models, and a layer in zstd has its media type."""

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from images.requirements import images, requirements
from testing import environments

ROOT = Path(__file__).parents[2]


def test_only_an_image_with_a_model_has_torch_and_no_other_models_packages() -> None:
    names = {image: {re.split(r"[^\w-]", line)[0] for line in requirements(*models)} for image, models in images().items()}
    assert "torch" not in names["ingress"] | names["base"]
    assert "openai-whisper" in names["whisper"] & names["all"]
    assert "diffusers" in names["diffusion"] & names["all"]
    assert "diffusers" not in names["whisper"]
    assert "openai-whisper" not in names["diffusion"]
    assert names["base"] == names["ingress"], "any pod may be the one that builds the app"


LOADS = """
import asyncio
from deployments.model_spec import specs

async def main():
    spec = specs()["{model}"]
    deployment = spec.load()(spec.settings())
    await deployment.check_health()
    await deployment.close()
    print("serves")

asyncio.run(main())
"""
"""A real inference in a real Triton: the constructor warms the model up."""
MISSING = {
    ("ingress", "whisper"): "tritonserver",
    ("ingress", "diffusion"): "tritonserver",
    ("whisper", "diffusion"): "diffusers",
    ("diffusion", "whisper"): "whisper",
}


def run(image: str, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program in the image's environment, outside the repository."""
    return subprocess.run([environments.python(image), "-c", program], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["whisper", "diffusion"])
@pytest.mark.parametrize("image", ["ingress", "whisper", "diffusion", "all"])
def test_an_image_serves_its_own_model_and_no_other(image: str, model: str, tmp_path: Path) -> None:
    result = run(image, LOADS.format(model=model), tmp_path)
    missing = MISSING.get((image, model))
    if missing is None:
        assert "serves" in result.stdout, result.stderr
    else:
        assert result.returncode == 1
        assert f"{model} did not start: " in result.stderr
        assert f"No module named '{missing}'" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("image", ["ingress", "whisper", "diffusion", "all"])
def test_every_image_can_build_the_app_and_run_the_proxy(image: str, tmp_path: Path) -> None:
    modules = "graphs.voice_to_image, graphs.http.middleware.proxy, graphs.serve.controller, ray.serve"
    result = run(image, f"import sys, {modules}; print('torch' in sys.modules, 'tritonserver' in sys.modules)", tmp_path)
    assert result.stdout == "False False\n", result.stderr
    assert (run(image, "import torch", tmp_path).returncode == 0) == (image != "ingress")
    assert (run(image, "import tritonserver", tmp_path).returncode == 0) == (image != "ingress")
    command = [environments.environment(image) / "bin" / "sonograph", "drain", "--help"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def blob(folder: Path, data: bytes, media_type: str) -> dict[str, object]:
    """Write `data` into the OCI layout; return its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def small_image(folder: Path) -> None:
    """An OCI image of one layer, compressed with gzip as most are."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(ROOT / "NOTICE", "NOTICE")
    kind = "application/vnd.oci.image"
    layer = blob(folder, gzip.compress(packed.getvalue()), f"{kind}.layer.v1.tar+gzip")
    diff = hashlib.sha256(packed.getvalue()).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff}"]}
    config = blob(
        folder, json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode(), f"{kind}.config.v1+json"
    )
    manifest = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": config, "layers": [layer]}
    named = blob(folder, json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**named, "annotations": {"org.opencontainers.image.ref.name": "small"}}]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_a_layer_in_zstd_has_the_media_type_of_zstd(tmp_path: Path) -> None:
    """The compression that the bake file requests of the builder, requested of skopeo, which has the same libraries."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo (Debian's package) is not on this machine")
    small_image(tmp_path / "gzip")
    words = ["--insecure-policy", "copy", "--dest-compress", "--dest-compress-format", "zstd"]
    where = [f"oci:{tmp_path / 'gzip'}:small", f"oci:{tmp_path / 'zstd'}:small"]
    result = subprocess.run([skopeo, *words, *where], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    (named,) = json.loads((tmp_path / "zstd" / "index.json").read_text())["manifests"]
    blobs = tmp_path / "zstd" / "blobs" / "sha256"
    (layer,) = json.loads((blobs / named["digest"].removeprefix("sha256:")).read_text())["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert (blobs / layer["digest"].removeprefix("sha256:")).read_bytes().startswith(b"\x28\xb5\x2f\xfd")
