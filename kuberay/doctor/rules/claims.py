"""Rules: the volumes that pods claim can be on their nodes, and are filled."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import ERROR, NOTE, WARNING, Finding, rule
from kuberay.doctor.folder import documents
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.untyped import at, mapping, mappings
from kuberay.manifest.rayservice import NODES

ONE_NODE, ONE_POD = "ReadWriteOnce", "ReadWriteOncePod"


@dataclass(frozen=True)
class Use:
    """A volume of pods that is a claim."""

    pods: PodTemplate
    claim: str
    field: str
    writes: bool
    paths: tuple[str, ...]
    """Place of the mount."""

    @property
    def starts(self) -> int:
        """The number of pods at the start; a group that can have none begins with one when it is used."""
        return self.pods.count.start

    def finding(self, own: Any, sentence: str, severity: Any = ERROR) -> Finding:
        return self.pods.document.finding(own, self.field, sentence, severity)


@rule(
    "SG730",
    "a claim that pods name is there",
    "Use the name of the PersistentVolumeClaim, or make one of this name before.",
)
def a_claim_is_there(service: Service) -> Iterator[Finding]:
    known, uses = _claims(service), _uses(service)
    unused = set(known) - {use.claim for use in uses}
    noted = set[str]()
    for use in uses:
        if use.claim in known or _is_templated(service, use.claim):
            continue
        like = near(use.claim, known, unused)
        if like:
            sentence = f"there is no claim {use.claim}, so its pods never start: did you mean {like}?"
            yield use.finding(a_claim_is_there, sentence)
        elif use.claim not in noted:
            noted.add(use.claim)
            sentence = f"no claim {use.claim} is in the folder: it has to be in the namespace, or the pods wait for it forever"
            yield use.finding(a_claim_is_there, sentence, NOTE)


@rule(
    "SG731",
    "a claim of one node is mounted by one pod at a time",
    "Claim ReadWriteMany, of a StorageClass that has it (NFS, CephFS, EFS, Filestore, Azure Files); or let images carry the weights.",
)
def a_claim_of_one_node_has_one_pod(service: Service) -> Iterator[Finding]:
    one_node = _has_one_node(service)
    for name, document in _claims(service).items():
        modes = _modes(document)
        only = next((mode for mode in (ONE_POD, ONE_NODE) if modes and set(modes) <= {ONE_POD, ONE_NODE} and mode in modes), None)
        uses = [use for use in _uses(service) if use.claim == name]
        if only is None or not uses or (only == ONE_NODE and one_node):
            continue
        start, most = sum(use.starts for use in uses), sum(use.pods.count.most for use in uses)
        who = " and ".join(dict.fromkeys(use.pods.name for use in uses))
        wait = (
            "further pods stay Pending"
            if only == ONE_POD
            else "pods on other nodes stay in ContainerCreating (Multi-Attach error)"
        )
        if start > 1:
            sentence = (
                f"{who} mount it, {start} pods at the start, and {only} lets it be {_alone(only)}: {wait}. Claim ReadWriteMany"
            )
            yield document.finding(a_claim_of_one_node_has_one_pod, "spec.accessModes", sentence)
        elif most > 1 or any(_is_replaced_by_a_second(use.pods) for use in uses):
            when = "of more replicas, or of an update" if most > 1 else "that an update starts beside the first"
            sentence = (
                f"{who} mounts it, and {only} lets it be {_alone(only)}: the pods {when} wait, since {wait}. Claim ReadWriteMany"
            )
            yield document.finding(a_claim_of_one_node_has_one_pod, "spec.accessModes", sentence, WARNING)


@rule(
    "SG732",
    "what fills a claim can write to it",
    "Claim ReadWriteMany, and leave `readOnly` out where the volume is filled.",
)
def a_claim_can_be_filled(service: Service) -> Iterator[Finding]:
    known = _claims(service)
    for use in _uses(service):
        is_filler = use.pods.document.kind in ("Job", "CronJob")
        document = known.get(use.claim)
        if document is not None and _modes(document) == ["ReadOnlyMany"] and use.writes:
            sentence = (
                f"{use.pods.name} writes to the claim {use.claim}, whose only mode is ReadOnlyMany: nothing can be written to it"
            )
            yield use.finding(a_claim_can_be_filled, sentence, ERROR if is_filler else WARNING)
        elif is_filler and not use.writes and document is not None:
            others = [one for one in _uses(service) if one.claim == use.claim]
            if not any(one.writes for one in others):
                sentence = f"every pod mounts {use.claim} to read only, {use.pods.name} too, which is to fill it: leave readOnly out there"
                yield use.finding(a_claim_can_be_filled, sentence)


@rule(
    "SG733",
    "pods read the claim that the Job fills",
    "Name one claim in the Job and in the groups.",
)
def pods_read_the_claim_that_is_filled(service: Service) -> Iterator[Finding]:
    uses = _uses(service)
    filled = [use for use in uses if use.pods.document.kind == "Job" and use.writes]
    for use in uses:
        same_path = [one for one in filled if set(one.paths) & set(use.paths)]
        if use.pods.node_type and same_path and not any(one.claim == use.claim for one in same_path):
            known = _claims(service)
            if use.claim not in known and near(use.claim, known):
                continue  # a rule of its own reports it
            job = same_path[0]
            sentence = (
                f"{use.pods.name} reads {use.claim}, and {job.pods.name} fills {job.claim}: the weights are never there. "
                "Name one claim"
            )
            yield use.finding(pods_read_the_claim_that_is_filled, sentence)


@rule("SG734", "a claim has pods that mount it", "Mount it, or leave it out.")
def a_claim_is_mounted(service: Service) -> Iterator[Finding]:
    used = {use.claim for use in _uses(service)}
    for name, document in _claims(service).items():
        if name not in used:
            yield document.finding(a_claim_is_mounted, "metadata.name", f"no pod of the folder mounts {name}", NOTE)


def _alone(mode: str) -> str:
    return "in one pod alone" if mode == ONE_POD else "on one node alone"


def _claims(service: Service) -> dict[str, Document]:
    return {one.name: one for one in documents(service, "PersistentVolumeClaim")}


def _modes(document: Document) -> list[str]:
    modes = document.spec.get("accessModes")
    return list(map(str, modes)) if isinstance(modes, list) else []


def _uses(service: Service) -> list[Use]:
    return [use for one in pod_templates(service) for use in _of_pods(one)]


def _of_pods(one: PodTemplate) -> Iterator[Use]:
    for index, volume in one.volumes:
        claim = mapping(volume.get("persistentVolumeClaim"))
        if not claim.get("claimName"):
            continue
        mounts = [
            mount for container in one.containers for _, mount in container.mounts if mount.get("name") == volume.get("name")
        ]
        writes = claim.get("readOnly") is not True and any(mount.get("readOnly") is not True for mount in mounts)
        place = f"{one.place}.volumes[{index}].persistentVolumeClaim.claimName"
        yield Use(one, str(claim["claimName"]), place, writes, tuple(str(mount.get("mountPath")) for mount in mounts))


def _is_templated(service: Service, claim: str) -> bool:
    """Whether a StatefulSet makes the claim."""
    return any(
        claim.startswith(f"{at(template, 'metadata', 'name')}-{one.name}-")
        for one in documents(service, "StatefulSet")
        for _, template in mappings(one.spec.get("volumeClaimTemplates"))
    )


def _is_replaced_by_a_second(one: PodTemplate) -> bool:
    """Whether an update starts a second pod before the first has ended."""
    spec = one.document.spec
    if one.document.kind == "Deployment":
        return bool(at(spec, "strategy", "type") != "Recreate")
    return one.document.kind == "RayService" and bool(at(spec, "upgradeStrategy", "type") != "None")


def _has_one_node(service: Service) -> bool:
    """Whether the described nodes are a single one: then every pod is on it."""
    try:
        nodes = json.loads(service.parsed.metadata.annotations[NODES])
        return sum(int(node["count"]) for node in nodes) == 1
    except (KeyError, TypeError, ValueError):
        return False
