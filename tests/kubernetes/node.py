"""A node: namespaces of network and mounts and a control group with its own containerd, kubelet, kube-proxy and kube-router."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kubernetes.images import PAUSE
from tests.kubernetes.machine import NAME, PIDS, STATE, add_cgroup, inside, kill, names, run, start, wait_until, write
from tests.kubernetes.programs import programs

WRITTEN = ("/etc", "/opt", "/run", "/var/lib", "/var/log")
"""Folders that the programs write to whatever their options say, such as /var/lib/kubelet/device-plugins: each node has its own."""


class Node:
    """Its `number` counts from 1."""

    def __init__(self, number: int) -> None:
        self.name = f"node{number}"
        self.address, self.pods = f"10.89.0.{10 + number}", f"10.244.{number}.0/24"
        self.folder = STATE / self.name
        self.mounts = self.folder / "mounts"
        self.socket = self.folder / "containerd.sock"

    def connect(self) -> None:
        """Join the node's network namespace to the control plane's."""
        namespace = inside(self.name)[1].rpartition("/")[2]
        run("ip", "netns", "add", namespace)
        run(*inside("control"), "ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run(*inside("control"), "ip", "link", "set", self.name, "master", "br0", "up")
        script = f"ip link set lo up; ip addr add {self.address}/24 dev eth0; ip link set eth0 up"
        script += "; ip route add default via 10.89.0.1"
        sysctl = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables"
        run(*inside(self.name), "sh", "-ec", f"{script}; {sysctl}")

    def route(self, nodes: "Sequence[Node]") -> None:
        for other in nodes:
            if other is not self:
                run(*inside(self.name), "ip", "route", "add", other.pods, "via", other.address)

    def start(self, archive: Path, mounts: Sequence[Path], kubeconfig: Path, services: str) -> None:
        """Start containerd, import the images, and start what needs them."""
        add_cgroup(self.name)
        (self.folder / "pods").mkdir(parents=True)
        self._separate()
        values = {
            "folder": self.folder,
            "group": f"{NAME}/{self.name}",
            "pause": PAUSE,
            "pods": self.pods,
            "programs": programs(),
        }
        for file in ("containerd.toml", "cni/10-bridge.conflist", "kubelet.yaml"):
            write(self.folder / file, f"node/{file}", **values)
        (self.folder / "spec.json").write_text(json.dumps(_spec(mounts)))
        self._begin("containerd", f"--config={self.folder}/containerd.toml", f"--address={self.socket}")
        ctr = (programs() / "ctr", "--address", self.socket, "--namespace", "k8s.io")
        wait_until(self.socket.exists, f"containerd of {self.name} is up")
        run(*ctr, "images", "import", archive, timeout_s=300)
        self._begin(
            "kubelet",
            *(f"--config={self.folder}/kubelet.yaml", f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}"),
            *(f"--node-ip={self.address}", f"--root-dir={self.folder}/kubelet", f"--cert-dir={self.folder}/pki"),
        )
        self._begin(
            "kube-proxy",
            *(f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}", "--proxy-mode=nftables"),
            *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"),
            "--cluster-cidr=10.244.0.0/16",
        )

    def enforce_policies(self, kubeconfig: Path, services: str) -> None:
        """Start kube-router, which ends where its node is not yet registered."""
        self._begin(
            "kube-router",
            *(f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}", "--run-router=false", "--run-firewall=true"),
            *("--run-service-proxy=false", "--enable-cni=false", "--enable-ipv6=false", f"--service-cluster-ip-range={services}"),
        )

    def check(self) -> None:
        """Raise AssertionError if one of the node's programs has ended."""
        missing = {"containerd", "kubelet", "kube-proxy", "kube-router"} - names(PIDS / self.name / "daemons")
        assert not missing, f"{', '.join(missing)} of {self.name} has ended: see {STATE}/logs"

    def die(self) -> None:
        """Kill every process of the node at once, its pods' too, and cut its network, as the failure of a machine does."""
        run(*inside("control"), "ip", "link", "set", self.name, "down")
        kill(PIDS / self.name)

    def _begin(self, program: str, *options: str) -> None:
        start(programs() / program, *options, enter=(*inside(self.name), f"--mount={self.mounts}"), cgroup=f"{self.name}/daemons")

    def _separate(self) -> None:
        """Make the mount namespace: what the node writes to the machine's folders lies above them, below STATE."""
        self.mounts.touch()
        overlays = []
        for path in WRITTEN:
            above, work = (self.folder / "written" / part / path[1:] for part in ("above", "work"))
            above.mkdir(parents=True)
            work.mkdir(parents=True)
            overlays.append(f"mount -t overlay overlay -o lowerdir={path},upperdir={above},workdir={work} {path}")
        run("unshare", f"--mount={self.mounts}", "--propagation=private", "sh", "-ec", "; ".join(overlays))


def _spec(mounts: Sequence[Path]) -> dict[str, object]:
    """Return what containerd would use without `base_runtime_spec`, with the machine's folders bound into every container."""
    spec: dict[str, Any] = json.loads(run(programs() / "ctr", "oci", "spec"))
    bound = [{"destination": str(path), "source": str(path), "type": "bind", "options": ["rbind", "ro"]} for path in mounts]
    return {**spec, "mounts": [*spec["mounts"], *bound]}
