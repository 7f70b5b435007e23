"""The images of the cluster: one archive, in Docker's format, of a small Debian and a layer for each image.

The environments of testing/environments.py, Python and the programs are not copied into the layers: `MOUNTS` are bound into every
container, and an image has links to its own environment alone.
"""

import functools
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import testing
from kuberay.images import REGISTRY, Images
from kuberay.manifest.objects import UID
from kuberay.part_values import REDIS_IMAGE
from testing import stand_ins
from testing.environments import KEPT, environment
from tests.kubernetes.machine import STATE, unmount
from tests.kubernetes.programs import cache, programs

PAUSE, COREDNS, OPERATOR = "docker.io/sonograph/pause:1", "docker.io/sonograph/coredns:1", "quay.io/kuberay/operator:v1.6.0"
PACKAGES = f"{stand_ins.PACKAGES},wget,redis-server"
HOME = Path("/opt/sonograph")
"""Folder of the environment in every image."""
KNOWN_COST = STATE / "known-cost"
"""Folder of the package with models of known cost, which every image has on its path: Triton's stub does not read PYTHONPATH."""
ELSEWHERE = "registry.internal/team/pictures"
"""Another registry and folder that each image of the service has a name of."""
NEXT = "-next"
"""End of the tag under which each image of the service is there once more, as a later build."""
VARIABLES = {"PATH": f"{HOME}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ""}
VARIABLES |= {"PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}


def mounts() -> list[Path]:
    """Return the folders of this machine that every container reads, at the same path."""
    return [KEPT, Path(sys.base_prefix), programs(), KNOWN_COST]


def copy_known_cost() -> None:
    """Copy the models of known cost, with what their links name, to where the containers have them."""
    shutil.copytree(Path(testing.__file__).parent, KNOWN_COST / "testing")


def write_archive(path: Path) -> None:
    """Write all images to one file, which `ctr images import` reads."""
    debian = _debian()
    below = _digest(debian.read_bytes())
    with tarfile.open(path, "w") as archive:
        archive.add(debian, "debian.tar")
        entries = []
        links: dict[str, Callable[[tarfile.TarFile], None]] = {
            PAUSE: _nothing,
            REDIS_IMAGE: _nothing,
            COREDNS: lambda layer: _link(layer, "coredns", programs() / "coredns"),
            OPERATOR: lambda layer: _link(layer, "manager", programs() / "ray-operator"),
            **{Images()[name]: functools.partial(_environment, name=name) for name in ("ingress", "whisper", "diffusion")},
        }
        for number, (image, fill) in enumerate(links.items()):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as file:
                fill(file)
            user = "0" if image in (PAUSE, COREDNS, REDIS_IMAGE) else "65532" if image == OPERATOR else f"{UID}:{UID}"
            command = ["sleep", "infinity"] if image == PAUSE else ["bash"]
            config = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"User": user, "Cmd": command, "Env": [f"{name}={value}" for name, value in VARIABLES.items()]},
                "rootfs": {"type": "layers", "diff_ids": [below, _digest(layer.getvalue())]},
            }
            _add(archive, f"{number}.json", json.dumps(config).encode())
            _add(archive, f"{number}.tar", layer.getvalue())
            tags = [image, f"{image}{NEXT}", image.replace(REGISTRY, ELSEWHERE)]
            entries.append({"Config": f"{number}.json", "RepoTags": tags, "Layers": ["debian.tar", f"{number}.tar"]})
        _add(archive, "manifest.json", json.dumps(entries).encode())


def _debian() -> Path:
    """Return the layer of all images: this machine's release, with the user of the pods. The cache keeps it."""
    layer = cache() / f"debian-{_digest(PACKAGES.encode())[7:23]}.tar"
    if not layer.exists():
        layer.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sonograph-debian-") as folder:
            root = Path(folder)
            try:
                stand_ins.bootstrap(root, PACKAGES, timeout_s=900)
            finally:
                unmount(root)  # an interrupted debootstrap leaves /proc
            stand_ins.command("chroot", root, "useradd", "--uid", str(UID), "--create-home", "sonograph")
            for left_out in ("usr/share/doc", "usr/share/locale", "var/lib/apt/lists", "var/cache"):
                shutil.rmtree(root / left_out)
            (root / "root").chmod(0o755)  # this machine's Python may be below it
            (root / "var/cache").mkdir()
            made = layer.with_suffix(".unfinished")
            with tarfile.open(made, "w") as file:
                file.add(root, ".", filter=lambda entry: None if entry.name.startswith(("./dev/", "./proc/")) else entry)
            made.rename(layer)
    return layer


def _environment(layer: tarfile.TarFile, name: str) -> None:
    """Fill the layer with an environment that is /opt/sonograph, as in the real image: small files, and links to the rest."""
    folder, home = environment(name), HOME.relative_to("/")
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "known_cost.pth").write_text(f"{KNOWN_COST}\n")  # without the folder it does nothing
    for path in (folder / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            layer.add(path, str(home / "bin" / path.name), recursive=False)
        else:
            first = f"#!{folder}/bin/python".encode()
            _add(
                layer, str(home / "bin" / path.name), path.read_bytes().replace(first, f"#!{HOME}/bin/python".encode(), 1), 0o755
            )
    layer.add(folder / "pyvenv.cfg", str(home / "pyvenv.cfg"))
    for link in (path.name for path in folder.iterdir() if path.name in ("lib", "lib64", "opt")):
        _link(layer, str(home / link), folder / link)
    share = tarfile.TarInfo(str(home / "share" / "sonograph"))
    share.type, share.mode, share.uid, share.gid = tarfile.DIRTYPE, 0o755, UID, UID
    layer.addfile(share)
    for command in ("ray", "serve", "sonograph"):
        _link(layer, f"usr/local/bin/{command}", HOME / "bin" / command)


def _nothing(layer: tarfile.TarFile) -> None:
    pass


def _link(file: tarfile.TarFile, name: str, target: Path) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, str(target)
    file.addfile(link)


def _add(file: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    file.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
