"""Mistakes that the doctor names, on a real cluster: each of tests/kuberay/mistakes that says so is tried."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from kuberay.profiles import CPU
from testing.manifests import DIGEST, Manifests
from tests.kuberay.mistakes import Mistake
from tests.kuberay.test_doctor import BROKEN, Case
from tests.kuberay.test_doctor_mistakes import ALL
from tests.kubernetes.installation import namespace
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.small import VALUES

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
TRIED: list[Mistake | Case] = [one for one in (*ALL, *BROKEN) if one.cluster]
SHOWN_S = 120
"""Longest wait for what the cluster says."""


@pytest.fixture
def space(kubectl: Kubectl) -> Iterator[str]:
    """Make a namespace that takes only restricted pods, and delete it with all that is in it."""
    name = "mistake"
    kubectl.apply(namespace(name, **{"pod-security.kubernetes.io/enforce": "restricted"}))
    yield name
    kubectl("delete", "rayservice", "--all", f"--namespace={name}", "--timeout=120s", timeout_s=140)
    kubectl("delete", "namespace", name, "--timeout=120s", timeout_s=140)


def documents(mistake: Mistake | Case, space: str) -> list[dict[str, Any]]:
    """Return an installation with the mistake. Where pods are to show it, only groups that it changes have some, beside the head."""
    of_pods = mistake.cluster.startswith("pod")
    manifests = Manifests(CPU.changed({**(VALUES if of_pods else {}), "namespace": space}))
    groups = copy.deepcopy(manifests.cluster["workerGroupSpecs"])
    (mistake.broken if isinstance(mistake, Case) else mistake.breaks)(manifests)
    if of_pods:
        manifests.cluster.pop("gcsFaultToleranceOptions")
        manifests.cluster.pop("autoscalerOptions")
        manifests.cluster["enableInTreeAutoscaling"] = False
        for group in manifests.cluster["workerGroupSpecs"]:
            group["replicas"] = group["minReplicas"] = int(group not in groups)
    return list(json.loads(json.dumps(manifests.documents()).replace(f"@{DIGEST}", "")))


def said(kubectl: Kubectl, space: str) -> str:
    """Return what the RayService, the pods and the events of the namespace say."""
    words = f"--namespace={space}"
    events = [one.get("message", "") for one in kubectl.get("events", words)]
    services = [json.dumps(one.get("status", {}).get("conditions", [])) for one in kubectl.get("rayservices", words)]
    pods = [json.dumps(one.get("status", {})) for one in kubectl.get("pods", words)]
    return "\n".join(events + services + pods)


@pytest.mark.parametrize("mistake", TRIED, ids=lambda one: one.name)
def test_a_mistake_has_the_consequence_that_the_table_says(mistake: Mistake | Case, kubectl: Kubectl, space: str) -> None:
    who, _, words = mistake.cluster.partition(": ")
    broken = documents(mistake, space)
    if who == "kubectl":
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": broken}).encode()
        refused = kubectl.refusal("apply", "--dry-run=server", "--validate=strict", "--filename=-", content=content)
        assert words in refused
        return
    kubectl.apply(broken[0])
    wait_until(lambda: words in said(kubectl, space), f"{who} says {words!r}", SHOWN_S)
