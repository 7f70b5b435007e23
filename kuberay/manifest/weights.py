"""weights.yaml: the volume of the models' weights, and the Job that fills it."""

from kuberay.images import Images
from kuberay.manifest.objects import CONTAINER_SECURITY, POD_SECURITY, Object, kubernetes_object
from kuberay.profiles import WEIGHTS, Profile


def weights(profile: Profile, images: Images) -> list[Object]:
    """A volume that workers read, and the Job that fills it once; nothing where the images carry their weights."""
    deployed = {spec.name for spec, _ in profile.models} if profile.weights_gib else set()
    wanted = [weights for weights in profile.weights if weights.model in deployed]
    if not wanted:
        return []
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{profile.weights_gib}Gi"}}}
    containers = [
        {
            "name": weights.model,
            "image": images[profile.group_of(weights.model).name],
            "command": list(weights.command),
            "env": [{"name": "HF_HOME", "value": "/tmp"}],
            "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            "securityContext": CONTAINER_SECURITY,
            "volumeMounts": [{"name": "weights", "mountPath": WEIGHTS}],
        }
        for weights in wanted
    ]
    pod = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": containers,
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
    }
    job = {
        "backoffLimit": 3,
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": {"app": "weights"}}, "spec": pod},
    }
    return [
        kubernetes_object("v1", "PersistentVolumeClaim", "weights", spec=claim),
        kubernetes_object("batch/v1", "Job", "weights", spec=job),
    ]
