"""quota.yaml: a ResourceQuota of the namespace."""

from kuberay.manifest.objects import Object, kubernetes_object
from kuberay.profiles import Profile


def quota(profile: Profile) -> list[Object]:
    """The limits that the values name; nothing without any."""
    limits = profile.values.quota
    return [kubernetes_object(profile, "v1", "ResourceQuota", profile.service, spec={"hard": limits})] if limits else []
