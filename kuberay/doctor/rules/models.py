"""Rules: the pods of a deployment have what the app's settings name: image, device, weights and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.model_spec import specs
from kuberay import app
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service, WorkerGroup
from kuberay.doctor.resource_requests import resource_requests, worker_group
from kuberay.doctor.rules.pods import GPU, requests
from kuberay.doctor.rules.serve_config import FIELD, SHIPPED
from kuberay.images import versions
from kuberay.profiles import KEYS, WEIGHTS
from kuberay.worker_groups import ALL

INGRESS = "ingress"
IMAGE_ROOT = "/opt/sonograph"
"""Folder of this project's files in its images."""
OFFLINE = {"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"}
"""Variables of a pod that finds models of the Hub elsewhere."""


@dataclass(frozen=True)
class Placed:
    """A deployed model, its section of the settings, and the group that runs it."""

    name: str
    field: str
    """The section's."""
    section: Any
    group: WorkerGroup


def _placed(service: Service) -> Iterator[Placed]:
    groups = {request.name: worker_group(service, request) for request in resource_requests(service)}
    for number, application in enumerate(service.applications):
        try:
            sections = dict(app.settings(application))
        except Exception:  # rules of their own report it; or the app is of another kind
            continue
        for name, section in sections.items():
            group = groups.get(name)
            if group is not None and name in specs():
                yield Placed(name, f"{FIELD}: applications[{number}].args.{name}", section, group)


@rule(
    "SG240",
    "a group has the image of its deployments",
    "Give the group the image of its model, or that of all models.",
)
def a_group_has_the_image_of_its_deployments(service: Service) -> Iterator[Finding]:
    """Judge only images of this project, by their names: a replica on the image of another model cannot import its library."""
    known = {INGRESS, ALL, *specs()}
    for group in service.groups:
        image = group.ray.image
        name = repository(image)
        here = [request.name for request in resource_requests(service) if worker_group(service, request) is group]
        label = group.labels.get("image", "")
        wanted = [one for one in here if one in known] or ([label] if label in known else [])
        lacking = [one for one in wanted if name not in (one, ALL)]
        if name in known and lacking and versions(image) is not None:
            sentence = (
                f"{image} is the image of {name}, and the group {group.group_name} runs {' and '.join(lacking)}, whose libraries it "
                "lacks: its replicas would fail, and the deploy with them"
            )
            field = service.field(group, "template.spec.containers[0].image")
            yield service.finding(a_group_has_the_image_of_its_deployments, field, sentence)


def repository(image: str) -> str:
    """Return the last part of an image's name, without registry, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


@rule(
    "SG241",
    "a model has the device that its settings name",
    "Use `device: auto`, or the group with that device.",
)
def a_model_has_its_device(service: Service) -> Iterator[Finding]:
    for one in _placed(service):
        device = getattr(one.section, "device", "auto")
        gpus = [name for name in requests(one.group.ray.resources) if GPU.search(name)]
        if device == "cuda" and not gpus:
            sentence = (
                f"the pods of {one.group.group_name} have no GPU: {one.name} would fail at its start, and the deploy with it"
            )
            yield service.finding(a_model_has_its_device, f"{one.field}.device", sentence)
        elif device == "cpu" and gpus:
            sentence = (
                f"the pods of {one.group.group_name} have a GPU, which {one.name} would hold and not use: take cuda or auto"
            )
            yield service.finding(a_model_has_its_device, f"{one.field}.device", sentence, WARNING)


@rule(
    "SG242",
    "the weights of a model are in its pods",
    "Mount the volume of the weights in the group, or name a path that its image has.",
)
def the_weights_of_a_model_are_in_its_pods(service: Service) -> Iterator[Finding]:
    """A path below the images' own folder may be in the image, where no group has a volume there and no Job fills one."""
    others = [group.ray for group in service.groups]
    for one in _placed(service):
        path = _path(one)
        if path is None or one.group.ray.mounts(path) or Path(path).is_relative_to(SHIPPED):
            continue
        named = path in (getattr(one.section, "model", None), str(getattr(one.section, "weights", "")))
        if any(container.mounts(path) for container in others) and (named or _fetched(service, one)):
            reason = "other groups have a volume there, and this one has not"
        elif _fetched(service, one):
            reason = "the Job writes it into a volume, which the group does not mount there"
        elif named and not Path(path).is_relative_to(IMAGE_ROOT):
            reason = "no volume is mounted there, and the image has nothing there"
        else:
            continue
        sentence = (
            f"{one.name} reads {path} in the pods of {one.group.group_name}, and {reason}: it would find no weights, and fail"
        )
        yield service.finding(
            the_weights_of_a_model_are_in_its_pods,
            service.field(one.group, "template.spec.containers[0].volumeMounts"),
            sentence,
        )


def _path(one: Placed) -> str | None:
    """Return where the model's weights are: its path, or the folder of checkpoints; None for a name of the Hub."""
    model = getattr(one.section, "model", None)
    if not isinstance(model, str):
        return None
    if model.startswith("/"):
        return model
    if not hasattr(one.section, "weights"):
        return None
    stated = one.section.weights if "weights" in one.section.model_fields_set else f"{WEIGHTS}/{one.name}"
    return str(stated) if str(stated).startswith("/") else None


def _fetched(service: Service, one: Placed) -> bool:
    """Return whether a Job beside fetches this model."""
    model = str(getattr(one.section, "model", ""))
    return any(model in _words(document.spec) for document in service.beside if document.kind == "Job")


def _words(value: Any) -> Iterator[str]:
    """Yield the words of every command in a pod."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("command", "args") and isinstance(part, list):
                yield from (word for words in part for word in [str(words), *str(words).split()])
            else:
                yield from _words(part)
    elif isinstance(value, list):
        for part in value:
            yield from _words(part)


@rule(
    "SG243",
    "a model of the Hub can be fetched",
    "Let a Job fetch it onto the volume of the weights, and name its path: render with `weights.fetch`.",
)
def a_model_of_the_hub_can_be_fetched(service: Service) -> Iterator[Finding]:
    own = a_model_of_the_hub_can_be_fetched
    for one in _placed(service):
        model = getattr(one.section, "model", None)
        if not isinstance(model, str) or model.startswith(("/", ".")) or "/" not in model or Path(model).exists():
            continue
        if {variable.name for variable in one.group.ray.env} & OFFLINE or not _is_cut_off(service, one.group):
            continue
        sentence = (
            f"{model} is a name of the Hub, and a network policy cuts the pods of {one.group.group_name} off from the internet: "
            f"{one.name} could not load it, and the deploy would fail"
        )
        yield service.finding(own, f"{one.field}.model", sentence)


def _is_cut_off(service: Service, group: WorkerGroup) -> bool:
    """Return whether policies select the group's pods, and none lets them out to other hosts on the port of HTTPS."""
    labels = {**group.template.metadata.labels, "ray.io/node-type": "worker", "ray.io/group": group.group_name}
    chosen = [
        document.spec
        for document in service.beside
        if document.kind == "NetworkPolicy"
        and "Egress" in (document.spec.get("policyTypes") or [])
        and _selects(document.spec.get("podSelector") or {}, labels)
    ]
    return bool(chosen) and not any(_lets_out(one) for spec in chosen for one in spec.get("egress") or [])


def _selects(selector: Any, labels: dict[str, str]) -> bool:
    """Return whether a selector takes pods with these labels; of a label that KubeRay sets, any value."""
    if not isinstance(selector, dict):
        return False
    wanted = [(key, [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    wanted += [(one.get("key", ""), one.get("values") or []) for one in selector.get("matchExpressions") or []]
    return all(labels[key] in values or not values if key in labels else str(key).startswith("ray.io/") for key, values in wanted)


def _lets_out(egress: dict[str, Any]) -> bool:
    ports = egress.get("ports") or [{"port": 443}]
    https = any(one.get("port", 443) in (443, "https") or one.get("port", 443) <= 443 <= one.get("endPort", 0) for one in ports)
    peers = egress.get("to") or [{"ipBlock": {}}]
    return https and any(isinstance(peer, dict) and "ipBlock" in peer for peer in peers)


@rule(
    "SG244",
    "the files that the settings name are on a volume of the ingress",
    f"Keep the Secret mounted at {KEYS} in the group of the ingress, and name a file below it.",
)
def the_files_of_the_settings_are_mounted(service: Service) -> Iterator[Finding]:
    """Files of keys and certificates, which belong into no image: the ingress fails at its start without them."""
    own = the_files_of_the_settings_are_mounted
    groups = {request.name: worker_group(service, request) for request in resource_requests(service)}
    group = groups.get(INGRESS)
    for number, application in enumerate(service.applications):
        try:
            settings = app.settings(application)
            files = {
                "http.api_keys_file": settings.http.api_keys_file,
                "tracing.headers_file": settings.tracing.headers_file,
                "tracing.certificate_file": settings.tracing.certificate_file,
            }
        except Exception:  # rules of their own report it; or the app is of another kind
            continue
        for name, file in files.items():
            if file is None or group is None or group.ray.mounts(str(file)):
                continue
            reason = (
                f"no volume is mounted there in the pods of {group.group_name}"
                if Path(file).is_absolute()
                else "it is no absolute path, so no volume can be mounted there"
            )
            sentence = f"{file}: {reason}. The ingress would not find it, and fail at its start"
            yield service.finding(own, f"{FIELD}: applications[{number}].args.{name}", sentence)
