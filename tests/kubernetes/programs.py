"""Programs of the cluster, built by Go from their modules: once for each go.sum and version of Go, in the user's cache."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from platformdirs import user_cache_path

MODULE = Path(__file__).parent
"""go.mod names Kubernetes, etcd and, as its tools, their programs."""
KUBERNETES = "1.36.3"
KUBERAY = "github.com/ray-project/kuberay/ray-operator@v1.6.0"
CNI = "github.com/containernetworking/plugins/plugins"
OTHERS = (
    *(f"github.com/containerd/containerd/v2/cmd/{name}@v2.4.2" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
    *(f"{CNI}/{name}@v1.10.0" for name in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")),
    "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0",
    "github.com/coredns/coredns@v1.15.0",
    KUBERAY,
)
"""Programs that need their own versions of what they share with Kubernetes. Go checks them by its checksum database."""
BUILD_S = 3600
"""Longest build of all programs: about nine minutes on two cores."""


def cache() -> Path:
    return user_cache_path("sonograph") / "kubernetes"


@functools.cache
def programs() -> Path:
    """Return the folder of the programs, built if it is missing; etcd's is named `server`. Raises CalledProcessError."""
    wanted = [(MODULE / name).read_text() for name in ("go.mod", "go.sum")] + [*OTHERS, _go("version")]
    folder = cache() / f"programs-{hashlib.sha256(''.join(wanted).encode()).hexdigest()[:16]}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        version = "k8s.io/component-base/version"
        major, minor, _ = KUBERNETES.split(".")
        named = f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
        _go("install", "-ldflags", named, "tool", target=unfinished)
        for program in OTHERS:
            _go("install", program, target=unfinished)
        for other in cache().glob("programs-*"):
            if other != unfinished:
                shutil.rmtree(other)
        unfinished.rename(folder)
    return folder


def module(name: str) -> Path:
    """Return the folder of a module's source, which also has its manifests."""
    return Path(json.loads(_go("mod", "download", "-json", name))["Dir"])


def _go(*words: str, target: Path | None = None) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **({"GOBIN": str(target)} if target else {})}
    ran = subprocess.run(["go", *words], cwd=MODULE, env=environment, stdout=subprocess.PIPE, text=True, timeout=BUILD_S)
    ran.check_returncode()
    return ran.stdout
