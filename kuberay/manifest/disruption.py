"""disruption.yaml: the budgets that keep a pod of each group while nodes are emptied."""

from kuberay.manifest.objects import REVISION, Object, kubernetes_object
from kuberay.profiles import Profile

EACH: dict[str, Object] = {
    "": {"matchExpressions": [{"key": REVISION, "operator": "DoesNotExist"}]},
    "-candidate": {"matchExpressions": [{"key": REVISION, "operator": "Exists"}]},
}
"""Selectors of the pods of either RayService, by the suffix of the budget's name."""


def disruption(profile: Profile, split: bool = False) -> list[Object]:
    """A budget for each group of at least two pods; of a single pod it would only forbid to empty its node.

    It is a number of pods: Kubernetes computes percentages only for Deployments and objects with a scale subresource.
    `split`: two RayServices have these groups, and each of them keeps its pods.
    """
    return [
        kubernetes_object(
            "policy/v1",
            "PodDisruptionBudget",
            f"{group.name}{suffix}",
            spec={"minAvailable": group.min_pods - 1, "selector": {"matchLabels": {"ray.io/group": group.name}, **service}},
        )
        for suffix, service in (EACH if split else {"": {}}).items()
        for group in profile.groups
        if group.min_pods > 1
    ]
