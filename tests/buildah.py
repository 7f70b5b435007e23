"""Builds of images/*.Dockerfile by buildah, from stand-ins for the two foreign images instead of a registry.

The stand-in for Ubuntu is a minimal root of this machine's own distribution, with this Python in it, and with what this machine's apt,
pip and uv need to find their packages: those settings are read here, so that no file of the repository names an index. The stand-in for
NVIDIA's image adds the wheel of `tritonserver`, and a PYTHONPATH that leads to another numpy, as NVIDIA's own does.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments import triton
from kuberay.graph import TRITON, TRITON_WHEEL

ROOT = Path(__file__).parents[1]
UBUNTU, NVIDIA = "docker.io/library/ubuntu:24.04", f"nvcr.io/nvidia/tritonserver:{TRITON}-py3"
FOREIGN = "/opt/tritonserver/backends/dali/wheel/dali"
"""The folder in NVIDIA's image that its PYTHONPATH names."""
FOREIGN_NUMPY = "2.5.5"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SETTINGS = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/uv/uv.toml", "~/.config/uv/uv.toml")
LEFT_OUT = ("test", "config-*", "site-packages", "idlelib", "tkinter", "__pycache__")
"""Of Python's library, as Debian does."""
NEEDED_BYTES = 6 << 30


class Buildah:
    """One storage of buildah's, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()

    def __call__(self, *words: str | Path, timeout_s: float = 60) -> str:
        """Returns what `buildah words` prints on standard output."""
        where = ("--root", self.folder / "storage", "--runroot", self.folder / "run")
        return command(
            "buildah", *where, *words, timeout_s=timeout_s, TMPDIR=str(self.folder / "tmp"), BUILDAH_ISOLATION="chroot"
        )

    def make_stand_ins(self) -> None:
        container, root = self._container("scratch")
        bootstrap(root)
        settings = [f"--env={name}={value}" for name, value in copy_index_settings(root).items()]
        self("config", *settings, container)
        self._commit(container, UBUNTU)

        container, root = self._container(UBUNTU)
        (root / "opt/tritonserver/python").mkdir(parents=True)
        copy_triton_wheel(root / "opt/tritonserver/python")
        numpy = root / FOREIGN.removeprefix("/") / "numpy"
        numpy.mkdir(parents=True)
        (numpy / "__init__.py").write_text(f'__version__ = "{FOREIGN_NUMPY}"\n')
        self("config", f"--env=PYTHONPATH={FOREIGN}", container)
        self._commit(container, NVIDIA)

    def build(self, image: str, **build_args: str) -> None:
        """Builds as the bake file does. Docker's format keeps SHELL, and so pipefail; a build argument that is not used is no error."""
        digests = {"UBUNTU_DIGEST": self._digest(UBUNTU), "TRITON_DIGEST": self._digest(NVIDIA)}
        given = {"PYTHON_VERSION": platform.python_version(), **digests, **build_args}
        arguments = [f"--build-arg={name}={value}" for name, value in given.items()]
        options = (
            "--format=docker",
            "--layers",
            "--pull=never",
            "--network=host",
            "--build-context=wheel=container-image://localhost/wheel",
        )
        file = ROOT / "images" / f"{image}.Dockerfile"
        self("build", *options, *arguments, "--file", file, "--tag", f"localhost/{image}", ROOT, timeout_s=300)

    def run(self, image: str, *words: str) -> str:
        """Returns what the command prints in a container of the image, as the image's own user and with its own environment."""
        container = self("from", "--pull=never", f"localhost/{image}").strip()
        return self("run", container, "--", *words)

    def inspect(self, image: str, template: str) -> str:
        return self("inspect", "--type=image", "--format", template, f"localhost/{image}").strip()

    def layers(self) -> list[Path]:
        """The folders that hold what each layer of every image adds."""
        return list((self.folder / "storage" / "overlay").glob("*/diff"))

    def remove(self) -> None:
        subprocess.run(
            ["buildah", "--root", self.folder / "storage", "--runroot", self.folder / "run", "umount", "--all"], timeout=60
        )
        for mounted in (self.folder / "storage" / "overlay", self.folder / "run"):
            if mounted.is_mount():
                subprocess.run(["umount", "--recursive", mounted], check=True, timeout=60)
        shutil.rmtree(self.folder)

    def _container(self, image: str) -> tuple[str, Path]:
        container = self("from", "--pull=never", image).strip()
        return container, Path(self("mount", container).strip())

    def _commit(self, container: str, image: str) -> None:
        self("commit", "--format=docker", "--rm", container, image, timeout_s=120)

    def _digest(self, image: str) -> str:
        return self("images", "--format={{.Digest}}", image).strip()


@contextmanager
def buildah(folder: Path) -> Iterator[Buildah]:
    """Skips the test where the machine lacks something, and leaves no mount and no file behind."""
    for tool in ("buildah", "debootstrap", "apt-get"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not on this machine (.ci/run installs it on Debian)")
    if os.geteuid() != 0:
        pytest.skip("only root can make the stand-ins for the foreign images")
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        pytest.skip(f"less than {NEEDED_BYTES >> 30} GiB of disk are free")
    storage = Buildah(folder)
    try:
        yield storage
    finally:
        storage.remove()


def command(*words: str | Path, timeout_s: float = 60, **environment: str) -> str:
    result = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, env={**os.environ, **environment}
    )
    assert result.returncode == 0, f"{' '.join(map(str, words))}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def bootstrap(root: Path) -> None:
    """Makes a minimal root of this machine's release in `root`, with this Python as its python3."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    targets = command(
        "apt-get", "indextargets", "--format=$(RELEASE) $(REPO_URI) $(COMPONENT)", "Created-By: Packages"
    ).splitlines()
    archives = [target.split() for target in targets if target.split()[0] == release]
    components = ",".join(component for _, archive, component in archives if archive == archives[0][1])
    packages = "--include=ca-certificates"
    command(
        "debootstrap", "--variant=minbase", f"--components={components}", packages, release, root, archives[0][1], timeout_s=240
    )
    acquire = command("apt-config", "dump", "Acquire").splitlines()
    kept = [line for line in acquire if re.match(r"Acquire::(Check-|https?::)", line)]
    (root / "etc/apt/apt.conf.d/99acquire").write_text("\n".join([*kept, ""]))
    if sys.base_prefix != "/usr":
        copy_python(root / "usr/local")
        command("chroot", root, "/sbin/ldconfig")


def copy_python(target: Path) -> None:
    """Copies the Python that runs this into `target`, where it precedes the distribution's on PATH and finds its library by itself."""
    version = "python{}.{}".format(*sys.version_info)
    source = Path(sys.base_prefix)
    shutil.copytree(source / "lib" / version, target / "lib" / version, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (target / "lib" / version / "site-packages").mkdir()
    for library in (source / "lib").glob("libpython*.so*"):
        shutil.copy(library, target / "lib", follow_symlinks=False)
    shutil.copy(source / "bin" / version, target / "bin")
    (target / "bin/python3").symlink_to(version)


def copy_index_settings(root: Path) -> dict[str, str]:
    """Copies the certificates and the settings of pip and uv into `root`; returns the variables that go with them."""
    certificates = Path(os.environ.get("SSL_CERT_FILE", BUNDLE))
    shutil.copy(certificates, root / BUNDLE.removeprefix("/"))
    for setting in SETTINGS:
        source, target = Path(setting).expanduser(), root / setting.replace("~", "root", 1).removeprefix("/")
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    named = {name: value for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*(INDEX|HOST|TIMEOUT)", name)}
    return {**named, "SSL_CERT_FILE": BUNDLE, "PIP_CERT": BUNDLE}


def copy_triton_wheel(target: Path) -> None:
    """Copies NVIDIA's wheel, or makes one of what set-up laid out, for this machine's libraries may be older than that wheel's tag."""
    home = triton.home() / "python"
    if wheels := list(home.glob("tritonserver-*.whl")):
        shutil.copy(wheels[0], target)
        return
    made = shutil.make_archive(str(target / "tritonserver"), "zip", home)
    Path(made).rename(target / f"tritonserver-{TRITON_WHEEL}-py3-none-any.whl")
