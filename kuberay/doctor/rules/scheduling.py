"""Rules: the nodes that pods are for: tolerations, node selectors and affinities."""

import re
from collections.abc import Iterator
from typing import Any

from deployments.nearest import nearest, question
from kuberay.doctor.finding import NOTE, WARNING, Finding, rule
from kuberay.doctor.manifest import OURS, Service
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.rules.operator import LABEL_KEY, LABEL_VALUE
from kuberay.doctor.untyped import at, mapping, mappings

TAINT = "nvidia.com/gpu"
"""Taint that NVIDIA's GPU nodes have at cloud providers."""
GPU = re.compile(r"nvidia\.com/(gpu|mig-).*")
WELL_KNOWN = (
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
)
"""Labels that nodes have."""
REQUIRED = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")


def tolerates_gpus(template: PodTemplate) -> bool:
    for _, one in mappings(template.spec.get("tolerations")):
        everything = not one.get("key") and one.get("operator") == "Exists"
        if (everything or one.get("key") == TAINT) and one.get("effect", "") in ("", "NoSchedule"):
            return True
    return False


@rule(
    "SG454",
    "a pod with a GPU tolerates the taint of the nodes that have GPUs",
    f"Add `{{key: {TAINT}, operator: Exists, effect: NoSchedule}}` to its `tolerations`.",
)
def a_pod_with_a_gpu_tolerates_its_node(service: Service) -> Iterator[Finding]:
    pods = [one for one in pod_templates(service) if any(GPU.fullmatch(name) for name in one.requests)]
    applications = mappings(mapping(service.config).get("applications"))
    is_ours = any(str(one.get("import_path")).startswith(OURS) for _, one in applications)
    if is_ours or any(tolerates_gpus(one) for one in pods):
        for template in pods:
            if not tolerates_gpus(template):
                place = template.at("tolerations")
                keys = {str(one.get("key")) for _, one in mappings(template.spec.get("tolerations"))}
                near = nearest(TAINT, keys)
                but = f", only {near}" if near else ""
                sentence = f"nodes with GPUs usually have the taint {TAINT}, which the pod does not tolerate{but}: it would wait"
                yield template.document.finding(a_pod_with_a_gpu_tolerates_its_node, place, sentence, WARNING)


@rule(
    "SG455",
    "a toleration has the fields that belong together",
    "With `operator: Exists` there is no value, without a key it is Exists, and `tolerationSeconds` is for NoExecute.",
)
def a_toleration_is_one_that_kubernetes_takes(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for index, one in mappings(template.spec.get("tolerations")):
            exists, sentence = one.get("operator") == "Exists", ""
            if exists and one.get("value"):
                sentence = "operator Exists takes no value: the pod is refused"
            elif not one.get("key") and not exists:
                sentence = "without a key the operator has to be Exists: the pod is refused"
            elif "tolerationSeconds" in one and one.get("effect") != "NoExecute":
                sentence = "tolerationSeconds needs the effect NoExecute: the pod is refused"
            elif one.get("key") and not LABEL_KEY.fullmatch(str(one.get("key"))):
                sentence = f"{one.get('key')} is no key of a taint: the pod is refused"
            place = template.at(f"tolerations[{index}]")
            if sentence:
                yield template.document.finding(a_toleration_is_one_that_kubernetes_takes, place, sentence)
            elif exists and not one.get("key") and template.node_type == "head":
                sentence = "it tolerates every taint, also those of nodes that are about to end, where the head would start again"
                yield template.document.finding(a_toleration_is_one_that_kubernetes_takes, place, sentence, NOTE)


@rule(
    "SG456",
    "there can be a node that a pod selects",
    "Fix `nodeSelector` or the affinity: a node has to fulfil both.",
)
def a_node_can_fulfil_what_a_pod_selects(service: Service) -> Iterator[Finding]:
    own = a_node_can_fulfil_what_a_pod_selects
    for template in pod_templates(service):
        selected = mapping(template.spec.get("nodeSelector"))
        for name, value in selected.items():
            place = template.at(f"nodeSelector.{name}")
            if not LABEL_KEY.fullmatch(str(name)) or not LABEL_VALUE.fullmatch(str(value)):
                sentence = f"{name}: {value} is no label of Kubernetes: the pod is refused"
                yield template.document.finding(own, place, sentence)
            elif _misspelt(str(name)):
                sentence = f"no node has {name}, and the pod would wait{_right(str(name))}"
                yield template.document.finding(own, place, sentence, WARNING)
        for index, one in mappings(template.spec.get("topologySpreadConstraints")):
            key = str(one.get("topologyKey", ""))
            place = template.at(f"topologySpreadConstraints[{index}].topologyKey")
            if not LABEL_KEY.fullmatch(key):
                yield template.document.finding(own, place, f"{key} is no label of a node: the pod is refused")
            elif _misspelt(key):
                sentence = f"no node has {key}, so nothing is spread, or the pod waits{_right(key)}"
                yield template.document.finding(own, place, sentence, WARNING)
        terms = mappings(at(template.spec, *REQUIRED, "nodeSelectorTerms"))
        against = [_against(selected, term) for _, term in terms]
        if against and all(against):
            place = template.at(f"{'.'.join(REQUIRED)}.nodeSelectorTerms")
            sentence = f"no node fulfils {against[0]}: the pod waits forever"
            yield template.document.finding(own, place, sentence)


def _right(name: str) -> str:
    full = next((one for one in WELL_KNOWN if one.rpartition("/")[2] == name), "")
    return f": did you mean {full}?" if full else question(name, WELL_KNOWN)


def _misspelt(name: str) -> bool:
    if name in WELL_KNOWN or name.startswith(("beta.kubernetes.io/", "failure-domain.beta.kubernetes.io/")):
        return False
    bare = {one.rpartition("/")[2] for one in WELL_KNOWN}
    return name in bare or (name.partition("/")[0].endswith("kubernetes.io") and bool(nearest(name, WELL_KNOWN)))


def _against(selected: dict[str, Any], term: dict[str, Any]) -> str:
    """Return what contradicts in a term and the node selector; nothing where a node can have both."""
    allowed = {str(name): ({str(value)}, "nodeSelector") for name, value in selected.items()}
    refused = dict[str, set[str]]()
    absent = set[str]()
    for _, one in mappings(term.get("matchExpressions")):
        name, operator = str(one.get("key")), one.get("operator")
        listed = one.get("values")
        values = {str(value) for value in listed} if isinstance(listed, list) else set()
        if operator == "In":
            before, where = allowed.get(name, (values, "the affinity"))
            allowed[name] = (before & values, where)
            if not before & values:
                return f"{where}'s {name}: {', '.join(sorted(before))} and the affinity's {', '.join(sorted(values))}"
        elif operator == "NotIn":
            refused.setdefault(name, set()).update(values)
        elif operator == "DoesNotExist":
            absent.add(name)
    for name, (values, where) in allowed.items():
        if name in absent or (name in refused and values <= refused[name]):
            return f"{where}'s {name}: {', '.join(sorted(values))} and an affinity that refuses it"
    return ""
