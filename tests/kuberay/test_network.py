"""DNS in the network policies: it passes to every resolver that is known or named, and nothing else passes there."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from kuberay.manifest.network import network
from sonograph.cli import cli

RESOLVERS = {
    "169.254.20.10/32": "NodeLocal DNSCache",
    "169.254.25.10/32": "NodeLocal DNSCache of kubespray",
    "169.254.10.11/32": "LocalDNS of AKS",
    "169.254.169.254/32": "Cloud DNS of GKE",
}
BOTH = pytest.mark.parametrize("pods", ["ray", "weights"])


def egress(documents: list[dict[str, Any]], pods: str) -> list[dict[str, Any]]:
    (policy,) = (one["spec"] for one in documents if one["metadata"]["name"] == pods)
    return list(policy["egress"])


def ports_to(rules: list[dict[str, Any]], peer: dict[str, Any]) -> list[tuple[str, int]]:
    """Protocols and ports that are open to this peer."""
    return [(port["protocol"], port["port"]) for rule in rules if peer in rule.get("to", []) for port in rule["ports"]]


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def block(cidr: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr}}


@BOTH
@pytest.mark.parametrize("cidr", RESOLVERS, ids=RESOLVERS.get)
def test_dns_and_nothing_else_passes_to_a_resolver_on_the_node(pods: str, cidr: str) -> None:
    assert ports_to(egress(network(), pods), block(cidr)) == [("UDP", 53), ("TCP", 53)]


@BOTH
def test_dns_passes_to_the_pods_that_serve_it_on_the_port_that_they_listen_on(pods: str) -> None:
    rules = egress(network(), pods)
    assert ports_to(rules, namespace("kube-system")) == [("UDP", 53), ("TCP", 53)]
    assert ports_to(rules, namespace("openshift-dns")) == [("UDP", 5353), ("TCP", 5353)]


def test_no_policy_opens_a_block_of_addresses_but_for_dns() -> None:
    """169.254.169.254 is the cloud's metadata server too, which serves credentials."""
    for policy in network():
        for rule in policy["spec"].get("egress", []):
            if any("ipBlock" in peer for peer in rule.get("to", [])):
                assert {port["port"] for port in rule["ports"]} == {53}


@BOTH
def test_a_named_resolver_is_let_through_and_the_files_name_the_option(pods: str, tmp_path: Path) -> None:
    result = render(tmp_path, "--dns-cidr", "10.96.0.10", "--dns-cidr", "fd00:10::/64")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "cpu" / "network.yaml").read_text()
    rules = egress(list(yaml.safe_load_all(text)), pods)
    for cidr in (*RESOLVERS, "10.96.0.10/32", "fd00:10::/64"):
        assert ports_to(rules, block(cidr)) == [("UDP", 53), ("TCP", 53)]
    assert "`sonograph render cpu --dns-cidr 10.96.0.10/32 --dns-cidr fd00:10::/64`" in text.splitlines()[0]


def test_a_resolver_that_is_known_is_named_once() -> None:
    assert network(["169.254.20.10/32"]) == network()


@pytest.mark.parametrize(
    ("cidr", "sentence"),
    [
        ("kube-dns", "'kube-dns' is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"),
        ("10.96.0.0/33", "'10.96.0.0/33' is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"),
        ("", "'' is no network: give an address such as 10.96.0.10, or a range such as 10.96.0.0/28"),
        (
            "10.96.0.10/16",
            "10.96.0.10/16 has host bits set: give 10.96.0.0/16 for the range, or 10.96.0.10 for this address alone",
        ),
        ("fd00::a/64", "fd00::a/64 has host bits set: give fd00::/64 for the range, or fd00::a for this address alone"),
    ],
)
def test_an_invalid_network_is_refused_with_the_accepted_forms(cidr: str, sentence: str, tmp_path: Path) -> None:
    result = render(tmp_path, "--dns-cidr", "10.96.0.10", "--dns-cidr", cidr)
    assert result.exit_code == 2
    assert "--dns-cidr" in result.output
    words = " ".join(line.strip("│ ") for line in result.output.splitlines())
    assert sentence in words
    assert list(tmp_path.iterdir()) == []


def render(out: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["render", "cpu", "--out", str(out), *options], env={"TERMINAL_WIDTH": "100"})
