"""A Kubernetes of several nodes on one machine: the control plane, and for each node its own containerd, kubelet, proxy and policies.

The control plane is in one network namespace, each node in another; a bridge joins them. The machine's own network is as before.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kubernetes.images import copy_known_cost, mounts, write_archive
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import FILES, START_S, STATE, clear, inside, kill, make_state, run, start, wait_until, write
from tests.kubernetes.node import Node
from tests.kubernetes.programs import KUBERAY, cache, module, programs

CONTROL = "control"
"""Namespace and control group of the control plane."""
ADDRESS, PORT = "10.89.0.1", 6443
SERVICES = "10.96.0.0/16"
KUBECONFIG = STATE / "kubeconfig"
VOLUMES = 20
"""Folders of this machine that claims get, each once."""
STORAGE_CLASS = "shared"
"""The class of half of the volumes; the others have none."""


def kubectl() -> Kubectl:
    return Kubectl([*inside(CONTROL), str(programs() / "kubectl"), f"--cache-dir={STATE}/kubectl"], KUBECONFIG)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the right to the one cluster of this machine while it is started or tests use it. Raises BlockingIOError."""
    cache().mkdir(parents=True, exist_ok=True)
    folder = os.open(cache(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


def up(count: int) -> Kubectl:
    """Start a cluster of `count` nodes with CoreDNS and KubeRay, after what an earlier one left is removed."""
    clear()
    make_state()
    try:
        archive = STATE / "images.tar"
        write_archive(archive)
        copy_known_cost()
        _start_control_plane()
        nodes = [Node(number) for number in range(1, count + 1)]
        for node in nodes:
            node.connect()
        for node in nodes:
            node.route(nodes)
            run(*inside(CONTROL), "ip", "route", "add", node.pods, "via", node.address)
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.start(archive, mounts(), KUBECONFIG, SERVICES), nodes))
        ready = kubectl()
        wait_until(lambda: ready.count("nodes", "Ready") == count, f"{count} nodes are Ready")
        for node in nodes:
            node.enforce_policies(KUBECONFIG, SERVICES)
        for objects in (_write_volumes(), FILES / "coredns.yaml"):
            ready("apply", "--server-side", "--filename", objects)
        overlay = STATE / "kuberay"
        source = os.path.relpath(module(KUBERAY) / "config" / "default", overlay)
        write(overlay / "kustomization.yaml", "kuberay.yaml", source=source)
        ready("create", "namespace", "kuberay-system")
        ready("apply", "--server-side", "--kustomize", overlay)
        for namespace in ("kube-system", "kuberay-system"):
            ready("wait", "deployment", "--all", f"--namespace={namespace}", "--for=condition=Available", f"--timeout={START_S}s")
        for node in nodes:
            node.check()
    except BaseException:
        kill()  # leaves the logs
        raise
    return ready


def _write_volumes() -> Path:
    """Return a folder of volumes for any claim, of every node, whose own folders are made."""
    for number in range(VOLUMES):
        folder = STATE / "volumes" / str(number)
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # fsGroup changes no folder of a node
        storage_class = STORAGE_CLASS if number % 2 else ""
        write(STATE / "objects" / f"{number}.yaml", "volume.yaml", number=number, storage_class=storage_class, folder=folder)
    return STATE / "objects"


def _start_control_plane() -> None:
    run("ip", "netns", "add", inside(CONTROL)[1].rpartition("/")[2])
    script = f"ip link set lo up; ip link add br0 type bridge; ip addr add {ADDRESS}/24 dev br0; ip link set br0 up"
    run(*inside(CONTROL), "sh", "-ec", f"{script}; echo 1 >/proc/sys/net/ipv4/ip_forward")
    folder, token = STATE / CONTROL, secrets.token_hex(16)
    folder.mkdir()
    key, tokens = folder / "service-accounts.key", folder / "tokens.csv"
    run("openssl", "genrsa", "-out", key, "2048")
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    certificate = folder / "apiserver.crt"

    def begin(name: str, *options: str) -> None:
        start(programs() / name, *options, enter=inside(CONTROL), cgroup=CONTROL)

    etcd = "http://127.0.0.1:2379"
    urls = (f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}")
    begin("server", f"--data-dir={folder}/etcd", "--unsafe-no-fsync", *urls)
    begin(
        "kube-apiserver",
        *(f"--etcd-servers={etcd}", f"--advertise-address={ADDRESS}", "--bind-address=0.0.0.0", f"--secure-port={PORT}"),
        *(f"--cert-dir={folder}", f"--token-auth-file={tokens}", "--authorization-mode=Node,RBAC", "--allow-privileged=true"),
        *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}"),
        *(f"--service-account-signing-key-file={key}", f"--service-cluster-ip-range={SERVICES}"),
        "--kubelet-preferred-address-types=InternalIP",
    )
    write(KUBECONFIG, "kubeconfig.yaml", server=f"https://{ADDRESS}:{PORT}", certificate=certificate, token=token)
    wait_until(lambda: kubectl().succeeds("get", "--raw", "/readyz"), "the API server is ready")
    begin(
        "kube-controller-manager",
        *(f"--kubeconfig={KUBECONFIG}", f"--service-account-private-key-file={key}", f"--root-ca-file={certificate}"),
        *("--leader-elect=false", "--node-monitor-grace-period=20s"),
    )
    begin("kube-scheduler", f"--kubeconfig={KUBECONFIG}", "--leader-elect=false")
