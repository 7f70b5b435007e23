"""The images without a Docker engine: what they copy exists, what they pin agrees, and each one's packages serve as they should."""

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from images.requirements import EXTRAS, requirements
from kuberay.graph import PROFILES, PYTHON, RAY, TAG, TRITON, TRITON_WHEEL
from kuberay.service import UID
from tests import environments

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "images").glob("*.Dockerfile"))
POD_IMAGES = {group.name for profile in PROFILES.values() for group in profile.groups}
BAKE = (ROOT / "images" / "docker-bake.hcl").read_text()
BIN = Path(sys.prefix) / "bin"


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of each instruction of this name."""
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def dockerfile(image: str) -> Path:
    return ROOT / "images" / f"{image}.Dockerfile"


def test_there_is_an_image_for_every_group_of_every_profile() -> None:
    assert {path.stem for path in DOCKERFILES} == POD_IMAGES | {"base", "wheel"}
    assert set(EXTRAS) == POD_IMAGES | {"base"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = BIN / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not in this environment")
    result = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there_and_in_the_builds_context(path: Path) -> None:
    for copied in instructions(path, "COPY"):
        if copied.startswith("--from="):
            continue
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), f"{path.name} copies {source}"
            assert in_context(source), f"{source} is not in the build's context"


def in_context(source: str) -> bool:
    """Whether .dockerignore, which leaves out all but what it lists, lists the path or a folder above it."""
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    path = Path(source)
    return bool({str(one) for one in (path, *path.parents)} & kept)


def test_the_builds_context_leaves_out_what_is_no_part_of_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for path in (".git", ".venv", "tests/speech", "benchmarks"):
        assert not in_context(path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_foreign_base_is_one_digest(path: Path) -> None:
    for source in instructions(path, "FROM"):
        image = source.split()[0]
        assert image in ("scratch", "${BASE}") or re.fullmatch(r"\S+:\S+@\$\{[A-Z]+_DIGEST\}", image), image


@pytest.mark.parametrize("image", sorted(POD_IMAGES | {"base"}))
def test_an_image_ends_as_the_user_that_the_manifests_name(image: str) -> None:
    assert instructions(dockerfile(image), "USER")[-1] == f"{UID}:{UID}"


@pytest.mark.parametrize("image", sorted(POD_IMAGES))
def test_an_image_says_what_it_is(image: str) -> None:
    (labels,) = instructions(dockerfile(image), "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_an_image_has_what_kuberay_calls_in_it(image: str) -> None:
    installed = " ".join(instructions(dockerfile(image), "RUN"))
    assert {"bash", "wget"} <= set(installed.split())
    assert "/opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/" in installed


def test_versions_are_those_of_the_locks() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={RAY} " in lock
    assert f"ray[serve]=={RAY}" in (ROOT / "pyproject.toml").read_text()
    assert f"tritonserver=={TRITON_WHEEL} " in (ROOT / "images" / "triton.lock").read_text()
    assert f"tritonserver:{TRITON}-py3@" in instructions(dockerfile("base"), "FROM")[0]
    assert f"TRITON_WHEEL={TRITON_WHEEL}" in instructions(dockerfile("base"), "ARG")
    for image in ("base", "ingress"):
        assert f"PYTHON_VERSION={PYTHON}" in instructions(dockerfile(image), "ARG")
    assert PYTHON.startswith("3.12.")


def test_the_bake_file_builds_every_image_with_zstd_layers() -> None:
    assert 'variable "TAG" { default = "' + TAG + '" }' in BAKE
    assert "compression=zstd,force-compression=true,oci-mediatypes=true" in BAKE
    targets = dict(re.findall(r'^target "(\w+)" \{\n(.*?)^\}', BAKE, re.MULTILINE | re.DOTALL))
    assert set(targets) == {path.stem for path in DOCKERFILES} | {"common"}
    for image in POD_IMAGES:
        assert 'inherits   = ["common"]' in targets[image]
        assert f'dockerfile = "images/{image}.Dockerfile"' in targets[image]
        assert f'"${{REGISTRY}}/{image}:${{TAG}}"' in targets[image]
    (default,) = re.findall(r'group "default" \{ targets = \[(.*)\] \}', BAKE)
    assert set(re.findall(r"\w+", default)) == POD_IMAGES
    given = set(re.findall(r"^ARG ([A-Z_]+)$", "\n".join(path.read_text() for path in DOCKERFILES), re.MULTILINE))
    assert given <= set(re.findall(r"\b([A-Z_]+) += [A-Z_]+", BAKE)), (
        "a build argument without a default is given by the bake file"
    )


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_installs_its_own_packages_by_the_lock(image: str) -> None:
    (install,) = (run for run in instructions(dockerfile(image), "RUN") if "-r /dev/stdin" in run)
    assert f"requirements.py {image} " in install
    assert "--constraints /tmp/requirements.lock" in install
    copied = " ".join(copied for path in (dockerfile("base"), dockerfile(image)) for copied in instructions(path, "COPY"))
    for extra in EXTRAS[image]:
        folder = "graphs/http" if extra == "ingress" else f"deployments/{extra}"
        assert f"{folder}/requirements.txt /tmp/{folder}/" in copied


def test_only_an_image_with_a_room_has_torch_and_no_other_rooms_packages() -> None:
    names = {image: {re.split(r"[^\w-]", line)[0] for line in requirements(image)} for image in EXTRAS}
    assert "torch" not in names["ingress"] | names["base"]
    assert "openai-whisper" in names["whisper"] & names["all"]
    assert "diffusers" in names["diffusion"] & names["all"]
    assert "diffusers" not in names["whisper"]
    assert "openai-whisper" not in names["diffusion"]
    assert names["base"] == names["ingress"], "any pod may be the one that builds the app"


LOADS = """
import asyncio
from deployments.{room} import {cls}, {cls}Settings

async def main():
    room = {cls}({cls}Settings())
    await room.check_health()
    await room.close()
    print("serves")

asyncio.run(main())
"""
"""A real inference in a real Triton: the constructor warms the model up."""
MISSING = {
    ("ingress", "whisper"): "tritonserver",
    ("ingress", "diffusion"): "tritonserver",
    ("whisper", "diffusion"): "PIL",
    ("diffusion", "whisper"): "whisper",
}


def run(image: str, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In the image's environment, and in a folder where the repository is not."""
    return subprocess.run([environments.python(image), "-c", program], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(900)
@pytest.mark.parametrize("room", ["whisper", "diffusion"])
@pytest.mark.parametrize("image", ["ingress", "whisper", "diffusion", "all"])
def test_an_image_serves_its_own_rooms_model_and_no_other(image: str, room: str, tmp_path: Path) -> None:
    result = run(image, LOADS.format(room=room, cls=room.title()), tmp_path)
    missing = MISSING.get((image, room))
    if missing is None:
        assert "serves" in result.stdout, result.stderr
    else:
        assert result.returncode == 1
        assert f"{room} did not start: " in result.stderr
        assert f"No module named '{missing}'" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("image", ["ingress", "whisper", "diffusion", "all"])
def test_every_image_can_build_the_app_and_run_the_proxy(image: str, tmp_path: Path) -> None:
    modules = "graphs.voice_to_image, graphs.http.proxy, graphs.http.controller, ray.serve"
    result = run(image, f"import sys, {modules}; print('torch' in sys.modules, 'tritonserver' in sys.modules)", tmp_path)
    assert result.stdout == "False False\n", result.stderr
    assert (run(image, "import torch", tmp_path).returncode == 0) == (image != "ingress")
    assert (run(image, "import tritonserver", tmp_path).returncode == 0) == (image != "ingress")
    drained = subprocess.run(
        [environments.environment(image) / "bin" / "sonograph", "drain", "--help"], capture_output=True, timeout=60
    )
    assert drained.returncode == 0


def blob(folder: Path, data: bytes, media_type: str) -> dict[str, object]:
    """Writes it into the OCI layout; its descriptor."""
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


def test_a_layer_in_zstd_says_so_by_its_media_type(tmp_path: Path) -> None:
    """What the bake file asks of the builder, asked of skopeo: the same libraries' other door."""
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
