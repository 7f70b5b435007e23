"""Stand-ins for the two external base images, for machines without a registry.

Ubuntu's is a minimal root of this machine's own distribution, with the Python that runs this module and the settings with which apt, pip
and uv find their packages. The settings come from this machine, so that no file of the repository names an index. NVIDIA's adds the
wheel of `tritonserver` and a PYTHONPATH that leads to another numpy, as NVIDIA's own does.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deployments.triton import server
from kuberay.versions import TRITON_WHEEL

FOREIGN = "/opt/tritonserver/backends/dali/wheel/dali"
"""Folder in NVIDIA's image that its PYTHONPATH names."""
FOREIGN_NUMPY = "2.5.5"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SETTINGS = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/uv/uv.toml", "~/.config/uv/uv.toml")
PACKAGES = "ca-certificates,python3-venv"
"""Packages of the root. The second provides the libraries of this machine's Python, once for the three images that install it."""
LEFT_OUT = ("test", "config-*", "site-packages", "idlelib", "tkinter")
"""Parts of Python's library that no image needs."""


def command(*words: str | Path, timeout_s: float = 60, **variables: str) -> str:
    """Return the command's standard output. The message of a failure contains all its output."""
    environment = {**os.environ, **variables}
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert result.returncode == 0, f"{' '.join(map(str, words))}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def make_ubuntu(root: Path) -> dict[str, str]:
    """Fill the folder `root`, and return the image's variables."""
    bootstrap(root)
    if sys.base_prefix != "/usr":
        copy_python(root / "usr/local")
        command("chroot", root, "/sbin/ldconfig")
    return copy_index_settings(root)


def make_nvidia(root: Path) -> dict[str, str]:
    """Add NVIDIA's additions to the Ubuntu in `root`, and return the variables to add."""
    python, numpy = root / "opt/tritonserver/python", root / FOREIGN.removeprefix("/") / "numpy"
    python.mkdir(parents=True)
    copy_triton_wheel(python)
    numpy.mkdir(parents=True)
    (numpy / "__init__.py").write_text(f'__version__ = "{FOREIGN_NUMPY}"\n')
    return {"PYTHONPATH": FOREIGN}


def bootstrap(root: Path, packages: str = PACKAGES, timeout_s: float = 240) -> None:
    """Make a minimal root of this machine's release, from the archive that this machine uses."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    targets = command("apt-get", "indextargets", "--format=$(RELEASE) $(REPO_URI) $(COMPONENT)", "Created-By: Packages")
    archives = [target.split() for target in targets.splitlines() if target.startswith(f"{release} ")]
    assert archives, f"apt-get has no archive of {release} (apt-get update)"
    components = ",".join(component for _, archive, component in archives if archive == archives[0][1])
    options = ("--variant=minbase", f"--components={components}", f"--include={packages}")
    command("debootstrap", *options, release, root, archives[0][1], timeout_s=timeout_s)
    command("chroot", root, "apt-get", "clean")
    acquire = re.findall(r"^Acquire::(?:Check-|https?::).*", command("apt-config", "dump", "Acquire"), re.MULTILINE)
    (root / "etc/apt/apt.conf.d/99acquire").write_text("\n".join([*acquire, 'Acquire::Languages "none";', ""]))


def copy_python(target: Path) -> None:
    """Copy this Python to a folder that precedes the distribution's on PATH."""
    name, source = "python{}.{}".format(*sys.version_info), Path(sys.base_prefix)
    shutil.copytree(source / "lib" / name, target / "lib" / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (target / "lib" / name / "site-packages").mkdir()
    for library in (source / "lib").glob("libpython*.so*"):
        shutil.copy(library, target / "lib", follow_symlinks=False)
    shutil.copy(source / "bin" / name, target / "bin")
    (target / "bin/python3").symlink_to(name)


def copy_index_settings(root: Path) -> dict[str, str]:
    """Copy certificates and settings of pip and uv, and return the variables that belong to them."""
    shutil.copy(os.environ.get("SSL_CERT_FILE", CERTIFICATES), root / CERTIFICATES.removeprefix("/"))
    for setting in SETTINGS:
        source, target = Path(setting).expanduser(), root / setting.replace("~", "root").removeprefix("/")
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    named = {name: value for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*(INDEX|HOST|TIMEOUT)", name)}
    return {**named, "SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES}


def copy_triton_wheel(target: Path) -> None:
    """Copy NVIDIA's wheel, or make one from the laid-out folder: a distribution older than NVIDIA's may not install NVIDIA's wheel."""
    home = server.triton_home() / "python"
    if wheels := list(home.glob("tritonserver-*.whl")):
        shutil.copy(wheels[0], target)
        return
    made = shutil.make_archive(str(target / "tritonserver"), "zip", home)
    Path(made).rename(target / f"tritonserver-{TRITON_WHEEL}-py3-none-any.whl")
