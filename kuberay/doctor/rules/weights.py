"""Rules: the weights of each model are in its pods: a Job fetches them, the pods wait for it and mount what it fills."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kuberay import app
from kuberay.doctor import reach
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import Finding, rule
from kuberay.doctor.manifest import Service, WorkerGroup
from kuberay.doctor.pod_templates import PodContainer, PodTemplate, of_document, pod_templates
from kuberay.doctor.rules.models import Placed, placed
from kuberay.doctor.rules.serve_config import SHIPPED
from kuberay.doctor.untyped import at
from kuberay.profiles import IMAGE_ROOT, WEIGHTS

OFFLINE = {"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT"}
"""Variables of a pod that finds models of the Hub elsewhere."""


@rule(
    "SG208",
    "the Job fetches the weights that the settings name",
    "Render again with the model as a value, or fix the Job.",
)
def the_job_fetches_the_models(service: Service) -> Iterator[Finding]:
    """Rule for services with a Job: images may carry the weights instead. Its containers have the models' names.

    A model without a `fetch_weights.sh` in its folder has none to fetch, and a checkpoint below `deployments/` ships with the image.
    """
    jobs = _jobs(service)
    fetched = {one.name: set(_words(one)) for job in jobs for one in job.containers}
    for number, application in enumerate(service.config["applications"]):
        for name, checkpoint in _checkpoints(application):
            if not jobs or (name not in fetched and Path(checkpoint).is_relative_to(SHIPPED)):
                continue
            if checkpoint not in fetched.get(name, set()):
                field = f"{SERVE_CONFIG}: applications[{number}].args.{name}.model"
                sentence = (
                    f"it is {json.dumps(checkpoint)}, and the Job beside it does not fetch that for {name}: "
                    "the workers cannot either"
                )
                yield service.finding(the_job_fetches_the_models, field, sentence)


@rule(
    "SG209",
    "a pod starts after its volume of weights is full",
    "Keep the init container that waits for the file that the Job writes last.",
)
def a_pod_waits_for_the_job(service: Service) -> Iterator[Finding]:
    """Serve gives an application up after three replicas that fail, so no pod may start before its volume is full."""
    for claim, markers in _filled(service):
        for group in service.groups:
            claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in group.template.spec.volumes]
            words = " ".join(word for container in group.template.spec.init_containers for word in container.command)
            if claim in claims and not all(marker in words for marker in markers):
                sentence = (
                    f"the pod reads the volume {claim}, and does not wait for the file that the Job writes last "
                    f"({', '.join(markers)}): without weights its replicas fail, and the deploy with them"
                )
                yield service.finding(a_pod_waits_for_the_job, service.field(group, "template.spec.initContainers"), sentence)


def _checkpoints(application: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each deployed model that has weights to fetch, and the checkpoint that the settings name."""
    try:
        sections, deployed = dict(app.settings(application)), app.deployments(app.build(application))
    except Exception:  # rules of their own report it
        return
    for name, section in sections.items():
        checkpoint = getattr(section, "model", None)
        has_weights = (SHIPPED / name / "fetch_weights.sh").is_file()
        if isinstance(checkpoint, str) and has_weights and name in deployed:
            yield name, checkpoint


@rule(
    "SG242",
    "the weights of a model are in its pods",
    "Mount the volume of the weights in the group, or name a path that its image has.",
)
def the_weights_of_a_model_are_in_its_pods(service: Service) -> Iterator[Finding]:
    """A path below the images' own folder may be in the image, where no group has a volume there and no Job fills one."""
    others = [group.ray for group in service.groups]
    for one in placed(service):
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


@rule(
    "SG243",
    "a model of the Hub can be fetched",
    "Let a Job fetch it onto the volume of the weights, and name its path: render with `weights.fetch`.",
)
def a_model_of_the_hub_can_be_fetched(service: Service) -> Iterator[Finding]:
    own = a_model_of_the_hub_can_be_fetched
    for one in placed(service):
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
    """Return whether policies select the group's pods, and none lets them out to addresses on the port of HTTPS."""
    pods = [one for one in of_document(service.document) if one.node_type == "worker" and one.group == group.group_name]
    return any(
        not reach.is_open(reach.of_pods(service, one, reach.EGRESS), reach.EGRESS, reach.addresses, reach.number(443))
        for one in pods
    )


def _fetched(service: Service, one: Placed) -> bool:
    """Return whether a Job beside fetches this model."""
    model = str(getattr(one.section, "model", ""))
    return any(model in _words(container) for job in _jobs(service) for container in job.containers)


def _filled(service: Service) -> Iterator[tuple[str, list[str]]]:
    """The claim that each Job fills, and the files that it touches last."""
    for job in _jobs(service):
        touched = [word for one in job.containers if not one.init for word in _touched(one)]
        for _, volume in job.volumes:
            claim = at(volume, "persistentVolumeClaim", "claimName")
            if touched and claim:
                yield claim, touched


def _touched(one: PodContainer) -> list[str]:
    first, *files = [*_words(one), ""]
    return [file for file in files if file] if first == "touch" else []


def _jobs(service: Service) -> list[PodTemplate]:
    return [one for one in pod_templates(service) if one.document.kind == "Job"]


def _words(one: PodContainer) -> list[str]:
    """Words of a container's command; those of a line for a shell too."""
    stated = [one.content.get(key) for key in ("command", "args")]
    words = [str(word) for part in stated if isinstance(part, list) for word in part]
    return [word for line in words for word in dict.fromkeys((line, *line.split()))]
