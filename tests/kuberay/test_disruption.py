"""disruption.yaml: the budgets of an installation."""

import pytest

from kuberay.manifest.disruption import disruption
from kuberay.profiles import CPU, PROFILES, SPOT, Profile


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_each_group_that_has_two_pods_may_lose_one_and_no_other_has_a_budget(profile: Profile) -> None:
    """A budget of a single pod would forbid to empty its node, which its drain makes harmless."""
    found = {one["spec"]["selector"]["matchLabels"]["ray.io/group"]: one["spec"]["minAvailable"] for one in disruption(profile)}
    assert found == {group.name: group.min_pods - 1 for group in profile.groups if group.min_pods > 1}
    assert "ingress" in found


def test_on_spot_nodes_the_models_have_budgets_too() -> None:
    assert len(disruption(SPOT)) == len(SPOT.groups) > len(disruption(CPU))


def test_a_pod_that_serves_nothing_keeps_no_node() -> None:
    assert {one["spec"]["unhealthyPodEvictionPolicy"] for one in disruption(CPU)} == {"AlwaysAllow"}
