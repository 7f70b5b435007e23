"""Rules: the pods of a deployment have what the app's settings name: image, device and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.model_spec import specs
from kuberay import app
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service, WorkerGroup
from kuberay.doctor.resource_requests import resource_requests, worker_group
from kuberay.doctor.rules.pods import GPU, requests
from kuberay.images import versions
from kuberay.profiles import KEYS
from kuberay.worker_groups import ALL, INGRESS


@dataclass(frozen=True)
class Placed:
    """A deployed model, its section of the settings, and the group that runs it."""

    name: str
    field: str
    """The section's."""
    section: Any
    group: WorkerGroup


def placed(service: Service) -> Iterator[Placed]:
    groups = {request.name: worker_group(service, request) for request in resource_requests(service)}
    for number, application in enumerate(service.applications):
        try:
            sections = dict(app.settings(application))
        except Exception:  # rules of their own report it; or the app is of another kind
            continue
        for name, section in sections.items():
            group = groups.get(name)
            if group is not None and name in specs():
                yield Placed(name, f"{SERVE_CONFIG}: applications[{number}].args.{name}", section, group)


@rule(
    "SG240",
    "a group has the image of its deployments",
    "Give the group the image of its model, or that of all models.",
)
def a_group_has_the_image_of_its_deployments(service: Service) -> Iterator[Finding]:
    """Judge only images of this project, by their names: a replica on the image of another model cannot import its library."""
    known = {INGRESS.name, ALL, *specs()}
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
    for one in placed(service):
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
    "SG244",
    "the files that the settings name are on a volume of the ingress",
    f"Keep the Secret mounted at {KEYS} in the group of the ingress, and name a file below it.",
)
def the_files_of_the_settings_are_mounted(service: Service) -> Iterator[Finding]:
    """Files of keys and certificates, which belong into no image: the ingress fails at its start without them."""
    own = the_files_of_the_settings_are_mounted
    groups = {request.name: worker_group(service, request) for request in resource_requests(service)}
    group = groups.get(INGRESS.name)
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
            yield service.finding(own, f"{SERVE_CONFIG}: applications[{number}].args.{name}", sentence)
