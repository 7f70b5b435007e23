"""Selectors of one installation's series, in PromQL. One Prometheus may have several: two names in a namespace, or one name in two."""

from kuberay.profiles import Profile

BY = "application, namespace, job"
"""Labels of what is recorded: with them it is selected like what it is made of."""


def job(profile: Profile) -> str:
    """Return the label `job` that the Prometheus operator gives to the targets of our PodMonitor: its namespace and its name."""
    return f"{profile.namespace}/{profile.service}"


def of_installation(profile: Profile, metric: str, *matchers: str) -> str:
    """Select the series that our PodMonitor scrapes, and those that are recorded from them."""
    return _selector(metric, f'job="{job(profile)}"', *matchers)


def of_namespace(profile: Profile, metric: str, *matchers: str) -> str:
    """Select the series that another program exports about an object of the namespace; the further matchers name the object."""
    return _selector(metric, f'namespace="{profile.namespace}"', *matchers)


def _selector(metric: str, *matchers: str) -> str:
    return f"{metric}{{{','.join(matchers)}}}"
