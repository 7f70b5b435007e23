"""disruption.yaml: the budgets that keep a pod of each group while nodes are emptied."""

from kuberay.manifest.objects import REVISION, Object, kubernetes_object, of_group
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
            profile,
            "policy/v1",
            "PodDisruptionBudget",
            f"{profile.service}-{group.name}{suffix}",
            spec={
                "minAvailable": group.min_pods - 1,
                "selector": {**of_group(profile, group.name), **service},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a pod that serves nothing does not keep its node
            },
        )
        for suffix, service in (EACH if split else {"": {}}).items()
        for group in profile.groups
        if group.min_pods > 1
    ]
