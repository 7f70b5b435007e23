"""weights.yaml: the volume of the models' weights, and the Job that fills it and at its end writes a marker."""

import hashlib
import json

from kuberay.images import Images
from kuberay.manifest.objects import (
    CONTAINER_SECURITY,
    NO_GPUS,
    POD_SECURITY,
    Object,
    claim,
    component,
    kubernetes_object,
    metadata,
    placement,
)
from kuberay.profiles import WEIGHTS, Profile
from kuberay.worker_groups import placed

RETRIES = 12
"""Containers of the Job that may fail: Kubernetes waits longer before each, and all in all 40 minutes."""


def commands(profile: Profile) -> dict[str, tuple[str, ...]]:
    """By deployed model the command that fetches its weights; none where the images carry them or the claim holds them already."""
    values = profile.values.weights
    if not profile.has_weights:
        return {}
    checkpoints = {spec.name: str(getattr(settings, "model", "")) for spec, settings in profile.models}
    return {
        model: tuple(word.replace("{model}", checkpoints[model]) for word in command)
        for model, command in values.fetch.items()
        if model in checkpoints
    }


def volume_name(profile: Profile) -> str:
    """Name of the claim."""
    return profile.values.weights.claim or f"{profile.service}-weights"


def marker(profile: Profile) -> str:
    """Path of the file that the Job writes when every model is fetched. Other commands have another, so that nobody reads older weights."""
    fetched = hashlib.sha256(repr(list(commands(profile).values())).encode()).hexdigest()
    return f"{WEIGHTS}/.fetched-{fetched[:8]}"


def wait_for_weights(profile: Profile, image: str) -> list[Object]:
    """An init container that ends when the marker is there: a replica without its weights fails, and Serve gives up after three."""
    if not commands(profile):
        return []
    command = f"trap exit TERM; until [ -e {marker(profile)} ]; do echo 'waiting for the Job of the weights'; sleep 2; done"
    resources = {"cpu": "10m", "memory": "32Mi"}
    return [
        {
            "name": "weights",
            "image": image,
            "command": ["sh", "-c", command],
            "env": [NO_GPUS],
            "resources": {"requests": resources, "limits": {"memory": resources["memory"]}},
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS, "readOnly": True}],
        }
    ]


def weights(profile: Profile, images: Images) -> list[Object]:
    """A volume that workers read, and the Job that fills it once; nothing where the images carry their weights.

    The Job's name ends in a digest of what it runs: a changed one is another Job, since Kubernetes lets none change; and it stays
    when it has ended, so that whatever applies the manifests again does not run it again.
    """
    values = profile.values.weights
    if not profile.has_weights:
        return []
    made = [] if values.claim else [_volume(profile)]
    fetched = commands(profile)
    if not fetched:
        return made
    image = {model: images[profile.group_of(model).name] for model in fetched}
    containers = [_container(model, image[model], list(command), profile) for model, command in fetched.items()]
    written = _container("marker", image[next(iter(fetched))], ["touch", marker(profile)], profile)
    pods = placed(profile.values, values)
    pod = {
        **placement(profile, pods),
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "initContainers": containers,
        "containers": [written],
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": volume_name(profile)}}],
    }
    template = {"metadata": metadata(component(profile, "weights"), pods), "spec": pod}
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]
    job = kubernetes_object(
        profile, "batch/v1", "Job", f"{profile.service}-weights-{digest}", spec={"backoffLimit": RETRIES, "template": template}
    )
    job["metadata"]["labels"] = component(profile, "weights")
    return [*made, job]


def _volume(profile: Profile) -> Object:
    values = profile.values.weights
    spec = claim("ReadWriteMany", values.size_gib, values.storage_class)
    return kubernetes_object(profile, "v1", "PersistentVolumeClaim", volume_name(profile), spec=spec)


def _container(name: str, image: str, command: list[str], profile: Profile) -> Object:
    hub = profile.values.weights.hub
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": hub.token_secret, "key": "token"}}}
    return {
        "name": name,
        "image": image,
        "command": command,
        "env": [
            NO_GPUS,
            {"name": "HF_HOME", "value": "/tmp"},
            *([{"name": "HF_ENDPOINT", "value": hub.endpoint}] if hub.endpoint else ()),
            *([token] if hub.token_secret else ()),
        ],
        "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS}],
    }
