"""disruption.yaml: the budgets that keep a pod of each group while nodes are emptied."""

from kuberay.manifest.objects import Object, kubernetes_object
from kuberay.profiles import Profile


def disruption(profile: Profile) -> list[Object]:
    """A budget for each group of at least two pods; of a single pod it would only forbid to empty its node.

    It is a number of pods: Kubernetes computes percentages only for Deployments and objects with a scale subresource.
    """
    return [
        kubernetes_object(
            "policy/v1",
            "PodDisruptionBudget",
            group.name,
            spec={"minAvailable": group.min_pods - 1, "selector": {"matchLabels": {"ray.io/group": group.name}}},
        )
        for group in profile.groups
        if group.min_pods > 1
    ]
