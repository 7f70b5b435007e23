"""Builds of images/*.Dockerfile by buildah, on stand-ins for the two external base images, without a registry."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kuberay.versions import TRITON
from testing import stand_ins
from testing.stand_ins import command

ROOT = Path(__file__).parents[1]
UBUNTU, NVIDIA = "docker.io/library/ubuntu:24.04", f"nvcr.io/nvidia/tritonserver:{TRITON}-py3"
NEEDED_BYTES = 6 << 30


class Buildah:
    """Storage of images in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()

    def __call__(self, *words: str | Path, timeout_s: float = 60) -> str:
        """Return the standard output of `buildah words`. Isolation by chroot needs no container runtime."""
        options = ("--storage-driver", "overlay", "--root", self.folder / "storage", "--runroot", self.folder / "run")
        variables = {"TMPDIR": str(self.folder / "tmp"), "BUILDAH_ISOLATION": "chroot"}
        return command("buildah", *options, *words, timeout_s=timeout_s, **variables)

    def make_stand_ins(self) -> None:
        container, root = self._container("scratch")
        self._commit(container, UBUNTU, stand_ins.make_ubuntu(root))
        container, root = self._container(UBUNTU)
        self._commit(container, NVIDIA, stand_ins.make_nvidia(root))

    def build(self, image: str, stage: str = "", **build_args: str) -> None:
        """Build an image, or a stage of it, as the bake file does. Docker's format preserves SHELL, and so pipefail."""
        digests = {"UBUNTU_DIGEST": self._digest(UBUNTU), "TRITON_DIGEST": self._digest(NVIDIA)}
        values = {"PYTHON_VERSION": platform.python_version(), **digests, **build_args}
        arguments = [f"--build-arg={name}={value}" for name, value in values.items()]
        options = ("--format=docker", "--layers", "--pull=never", "--network=host")
        contexts = [f"--build-context={one}=container-image://localhost/{one}" for one in ("wheel", "base") if one != image]
        target = [f"--target={stage}"] if stage else []
        file = ROOT / "images" / f"{image}.Dockerfile"
        self(
            "build", *options, *contexts, *target, *arguments, "--file", file, "--tag", f"localhost/{image}", ROOT, timeout_s=300
        )

    def run(self, image: str, *words: str) -> str:
        """Return the command's output in a container of the image, as the image's own user and with its own variables."""
        container = self("from", "--pull=never", f"localhost/{image}").strip()
        return self("run", container, "--", *words)

    def labels(self, image: str) -> dict[str, str]:
        labels: dict[str, str] = self._config(image)["config"]["Labels"]
        return labels

    def digests(self, image: str) -> list[str]:
        """Return the digest of each layer, the lowest first."""
        digests: list[str] = self._config(image)["rootfs"]["diff_ids"]
        return digests

    def layers(self, image: str) -> list[Path]:
        """Return the folder with the files of each layer. A container's writable layer has no digest."""
        kept = json.loads((self.folder / "storage/overlay-layers/layers.json").read_text())
        folders = {layer.get("diff-digest"): self.folder / "storage/overlay" / layer["id"] / "diff" for layer in kept}
        return [folders[digest] for digest in self.digests(image)]

    def remove(self) -> None:
        """Remove the storage. Buildah leaves its containers' roots and their parent folder mounted."""
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((point for point in points if Path(point).is_relative_to(self.folder)), reverse=True):
            command("umount", point)
        shutil.rmtree(self.folder)

    def _container(self, image: str) -> tuple[str, Path]:
        container = self("from", "--pull=never", image).strip()
        return container, Path(self("mount", container).strip())

    def _commit(self, container: str, image: str, variables: dict[str, str]) -> None:
        self("config", *[f"--env={name}={value}" for name, value in variables.items()], container)
        self("commit", "--format=docker", "--rm", container, image, timeout_s=120)

    def _digest(self, image: str) -> str:
        return self("images", "--format={{.Digest}}", image).strip()

    def _config(self, image: str) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self("inspect", "--type=image", f"localhost/{image}"))["OCIv1"]
        return config


@contextmanager
def buildah(folder: Path) -> Iterator[Buildah]:
    """Provide a storage, or skip the test if the machine lacks a tool; remove all mounts and files at the end."""
    for tool in ("buildah", "debootstrap", "apt-get"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not on this machine (.ci/run installs it on Debian)")
    if os.geteuid() != 0:
        pytest.skip("only root can make the stand-ins for the external base images")
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        pytest.skip(f"less than {NEEDED_BYTES >> 30} GiB of disk are free")
    storage = Buildah(folder)
    try:
        yield storage
    finally:
        storage.remove()
