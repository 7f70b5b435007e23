"""The doctor on the way in: what is healthy, and what else a route or a Gateway may say."""

from typing import Any

import pytest

from kuberay.profiles import PROFILES, Profile
from testing.manifests import Manifests

EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


@EACH
def test_a_rendered_gateway_its_redirect_and_its_route_are_healthy(profile: Profile) -> None:
    manifests = Manifests(profile)
    manifests.gateway()
    assert [str(finding) for finding in manifests.findings()] == []


def redirect(manifests: Manifests) -> dict[str, Any]:
    manifests.gateway()
    (route,) = (one for one in manifests.beside if one["metadata"]["name"] == "sonograph-redirect")
    return dict(route["spec"])["rules"][0]


def test_a_rule_without_backends_that_does_not_redirect_leads_nowhere() -> None:
    manifests = Manifests()
    redirect(manifests)["filters"] = [{"type": "ResponseHeaderModifier"}]
    found = {finding.rule for finding in manifests.findings()}
    assert "a_route_leads_to_services_that_there_are" in found


@pytest.mark.parametrize(("retry", "found"), [({}, True), ({"attempts": 1}, True), ({"attempts": 0}, False)], ids=str)
def test_retries_are_found_where_they_are_not_switched_off(retry: dict[str, int], found: bool) -> None:
    """Without a number the gateway has its own."""
    manifests = Manifests()
    manifests.split().update(retry=retry)
    assert [finding.field for finding in manifests.findings()] == (["spec.rules[0].retry"] if found else [])


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        ({"protocol": "HTTPS", "tls": {"mode": "Terminate", "certificateRefs": []}}, True),
        ({"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}]}}, False),
        ({"protocol": "TLS", "tls": {"mode": "Passthrough"}}, False),
        ({"protocol": "TLS", "tls": {"mode": "Terminate"}}, True),
        ({"protocol": "HTTP"}, False),
    ],
    ids=str,
)
def test_only_tls_that_ends_at_the_gateway_needs_a_certificate(listener: dict[str, Any], found: bool) -> None:
    manifests = Manifests()
    manifests.gateway()["listeners"].append({"name": "another", "port": 8443, **listener})
    fields = ["spec.listeners[2].tls.certificateRefs"] if found else []
    assert [finding.field for finding in manifests.findings()] == fields


@pytest.mark.parametrize(("prefix", "found"), [("/-", True), ("/-/routes/", True), ("/gra", False), ("/-/route", False)])
def test_a_prefix_takes_whole_parts_of_a_path_serves_own_too(prefix: str, found: bool) -> None:
    manifests = Manifests()
    manifests.split()["matches"].append({"path": {"type": "PathPrefix", "value": prefix}})
    assert [finding.field for finding in manifests.findings()] == (["spec.rules[0].matches"] if found else [])


def test_a_document_whose_kind_is_no_text_is_no_route() -> None:
    manifests = Manifests()
    manifests.beside.append({"apiVersion": "gateway.networking.k8s.io/v1", "kind": ["HTTPRoute"]})
    assert [finding.rule for finding in manifests.findings()] == ["a_kind_is_known"]


def test_a_gateway_of_another_shape_is_found_with_its_field() -> None:
    manifests = Manifests()
    manifests.gateway()["listeners"][0].pop("protocol")
    (finding,) = manifests.findings()
    assert (finding.rule, finding.field) == ("the_api_server_takes_an_object", "spec.listeners[0].protocol")


def test_a_route_follows_serves_own_port_and_may_lead_to_another_service_of_the_folder() -> None:
    manifests = Manifests()
    refs = manifests.split()["backendRefs"]
    refs[1].update(name="sonograph-redis", port=6379)
    manifests.config["http_options"]["port"] = 9000
    refs[0]["port"] = 9000
    assert [str(finding) for finding in manifests.findings() if finding.number == "SG701"] == []
    refs[0]["port"] = 8000
    (finding,) = (one for one in manifests.findings() if one.number == "SG701")
    assert "listens on 9000, and not on 8000" in finding.sentence


def test_a_selector_may_name_a_group_of_another_cluster_of_the_folder() -> None:
    manifests = Manifests()
    manifests.split()
    (candidate,) = (one for one in manifests.beside if one["kind"] == "RayService")
    candidate["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["groupName"] = "speech"
    for name in ("speech", "headgroup"):
        manifests.pod("whisper")["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["ray.io/group"] = name
        assert [str(finding) for finding in manifests.findings() if finding.number == "SG405" and name in finding.sentence] == []
