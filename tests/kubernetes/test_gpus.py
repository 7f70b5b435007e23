"""Parts of GPUs that nodes only say they have: pods land where their part is. It shows the packing; no CUDA runs here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.installation import CLIENTS, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.small import small as make_small

pytestmark = [pytest.mark.kubernetes, pytest.mark.own_nodes, pytest.mark.slow, pytest.mark.timeout(3600)]
PARTS = {"node1": "nvidia.com/mig-1g.10gb", "node2": "nvidia.com/mig-2g.20gb"}
"""The part that each of these nodes gets one of."""


@pytest.fixture
def parts(clients: Kubectl) -> Iterator[Kubectl]:
    """Give nodes parts of a GPU, as a device plugin does, and a taint that keeps others away."""

    def patch(operation: str) -> None:
        for node, part in PARTS.items():
            field = f"/status/capacity/{part.replace('/', '~1')}"
            value = {"value": "1"} if operation == "add" else {}
            change = json.dumps([{"op": operation, "path": field, **value}])
            clients("patch", "node", node, "--subresource=status", "--type=json", "--patch", change)

    patch("add")
    clients("taint", "nodes", *PARTS, "nvidia.com/gpu=present:NoSchedule")
    yield clients
    clients("taint", "nodes", *PARTS, "nvidia.com/gpu:NoSchedule-")
    patch("remove")


def test_pods_land_on_the_node_with_their_part_of_a_gpu_and_the_others_do_not(parts: Kubectl, tmp_path: Path) -> None:
    whisper, diffusion = (part.rpartition("mig-")[2] for part in PARTS.values())
    of_diffusion = {"diffusion": {"gpu": {"mig_profile": diffusion}}}
    made: Installation = make_small(parts, "gpus", tmp_path, gpu={"mig_profile": whisper}, groups=of_diffusion)
    made.install()
    placed = {pod["metadata"]["labels"]["ray.io/group"]: pod["spec"]["nodeName"] for pod in made.pods(**{"node-type": "worker"})}
    assert (placed["whisper"], placed["diffusion"]) == tuple(PARTS)
    assert placed["ingress"] not in PARTS
    assert made.draw(CLIENTS).startswith(b"\x89PNG")
    made.remove()
