"""weights.yaml: the volume of the models' weights, and the Job that fills it and at its end writes a marker."""

import hashlib

from kuberay.images import Images
from kuberay.manifest.objects import CONTAINER_SECURITY, POD_SECURITY, Object, kubernetes_object
from kuberay.profiles import WEIGHTS, Profile, Weights

RETRIES = 12
"""Containers of the Job that may fail: Kubernetes waits longer before each, and all in all 40 minutes."""


def marker(profile: Profile) -> str:
    """Path of the file that the Job writes when every model is fetched. Other commands have another, so that nobody reads older weights."""
    fetched = hashlib.sha256(repr([weights.command for weights in _wanted(profile)]).encode()).hexdigest()
    return f"{WEIGHTS}/.fetched-{fetched[:8]}"


def wait_for_weights(profile: Profile, image: str) -> Object:
    """An init container that ends when the marker is there: a replica without its weights fails, and Serve gives up after three."""
    command = f"trap exit TERM; until [ -e {marker(profile)} ]; do echo 'waiting for the Job weights'; sleep 2; done"
    resources = {"cpu": "10m", "memory": "32Mi"}
    return {
        "name": "weights",
        "image": image,
        "command": ["sh", "-c", command],
        "resources": {"requests": resources, "limits": {"memory": resources["memory"]}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS, "readOnly": True}],
    }


def weights(profile: Profile, images: Images) -> list[Object]:
    """A volume that workers read, and the Job that fills it once; nothing where the images carry their weights."""
    wanted = _wanted(profile)
    if not wanted:
        return []
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{profile.weights_gib}Gi"}}}
    image = {weights.model: images[profile.group_of(weights.model).name] for weights in wanted}
    fetching = [_container(weights.model, image[weights.model], list(weights.command)) for weights in wanted]
    written = _container("marker", image[wanted[0].model], ["touch", marker(profile)])
    pod = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "initContainers": fetching,
        "containers": [written],
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
    }
    job = {
        "backoffLimit": RETRIES,
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": {"app": "weights"}}, "spec": pod},
    }
    return [
        kubernetes_object("v1", "PersistentVolumeClaim", "weights", spec=claim),
        kubernetes_object("batch/v1", "Job", "weights", spec=job),
    ]


def _wanted(profile: Profile) -> list[Weights]:
    """Weights that the Job fetches: those of the deployed models, where the images do not carry them."""
    deployed = {spec.name for spec, _ in profile.models} if profile.weights_gib else set()
    return [weights for weights in profile.weights if weights.model in deployed]


def _container(name: str, image: str, command: list[str]) -> Object:
    return {
        "name": name,
        "image": image,
        "command": command,
        "env": [{"name": "HF_HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS}],
    }
