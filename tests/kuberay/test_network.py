"""DNS and traces in the network policies: they pass to the resolvers and the collector that are known or named, and nothing else does."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner, Result

from graphs.tracing.settings import TracingSettings
from kuberay import render as rendering
from kuberay.doctor.examine import examine
from kuberay.images import Images
from kuberay.manifest.network import network
from kuberay.profiles import CPU, OTLP_CERTIFICATE, OTLP_HEADERS, PROFILES
from sonograph.cli import cli
from sonograph.otel import READ, tracing
from testing.manifests import load, load_all

VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
RESOLVERS = {
    "169.254.20.10/32": "NodeLocal DNSCache",
    "169.254.25.10/32": "NodeLocal DNSCache of kubespray",
    "169.254.10.11/32": "LocalDNS of AKS",
    "169.254.169.254/32": "Cloud DNS of GKE",
}
BOTH = pytest.mark.parametrize("pods", ["ray", "weights"])


def policies(**values: Any) -> list[dict[str, Any]]:
    return network(CPU.changed(values))


def egress(documents: list[dict[str, Any]], pods: str) -> list[dict[str, Any]]:
    (policy,) = (one["spec"] for one in documents if one["metadata"]["name"] == f"sonograph-{pods}")
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
    assert ports_to(egress(policies(), pods), block(cidr)) == [("UDP", 53), ("TCP", 53)]


@BOTH
def test_dns_passes_to_the_pods_that_serve_it_on_the_port_that_they_listen_on(pods: str) -> None:
    rules = egress(policies(), pods)
    assert ports_to(rules, namespace("kube-system")) == [("UDP", 53), ("TCP", 53)]
    assert ports_to(rules, namespace("openshift-dns")) == [("UDP", 5353), ("TCP", 5353)]


def test_no_policy_opens_a_block_of_addresses_but_for_dns() -> None:
    """169.254.169.254 is the cloud's metadata server too, which serves credentials."""
    for policy in policies():
        for rule in policy["spec"].get("egress", []):
            if any("ipBlock" in peer for peer in rule.get("to", [])):
                assert {port["port"] for port in rule["ports"]} == {53}


@BOTH
def test_a_named_resolver_is_let_through(pods: str) -> None:
    rules = egress(policies(network={"dns_cidrs": ["10.96.0.10", "fd00:10::/64"]}), pods)
    for cidr in (*RESOLVERS, "10.96.0.10/32", "fd00:10::/64"):
        assert ports_to(rules, block(cidr)) == [("UDP", 53), ("TCP", 53)]


def test_a_resolver_that_is_known_is_named_once() -> None:
    assert policies(network={"dns_cidrs": ["169.254.20.10/32"]}) == policies()


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
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"network": {"dns_cidrs": ["10.96.0.10", cidr]}}))
    result = render(tmp_path / "out", "--values", str(tmp_path / "my.yaml"))
    assert result.exit_code == 2
    words = " ".join(line.strip("│ ") for line in result.output.splitlines())
    assert f"network.dns_cidrs: {sentence}" in words
    assert not (tmp_path / "out").exists()


COLLECTORS = {"namespaceSelector": {"matchExpressions": [{"key": "sonograph/collector", "operator": "Exists"}]}}


@pytest.mark.parametrize(
    ("endpoint", "protocol", "peer", "port"),
    [
        ("http://collector.observability:4318", "http/protobuf", COLLECTORS, 4318),
        ("http://collector.observability:4317", "grpc", COLLECTORS, 4317),
        ("http://collector", "http/protobuf", COLLECTORS, 80),
        ("https://collector", "http/protobuf", COLLECTORS, 443),
        ("http://collector", "grpc", COLLECTORS, 443),  # gRPC's own, also without TLS
        ("http://10.0.0.7:4318/otlp", "http/protobuf", block("10.0.0.7/32"), 4318),
        ("http://[fd00::7]:4318", "http/protobuf", block("fd00::7/128"), 4318),
    ],
)
def test_the_ingress_alone_reaches_the_collector_alone(endpoint: str, protocol: str, peer: dict[str, Any], port: int) -> None:
    assert TracingSettings.model_validate({"endpoint": endpoint, "protocol": protocol}).endpoint == endpoint
    *others, policy = policies(settings={"tracing": {"endpoint": endpoint, "protocol": protocol}})
    assert others == policies()
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "sonograph", "ray.io/group": "ingress"}},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{"to": [peer], "ports": [{"protocol": "TCP", "port": port}]}],
    }
    kubernetes_validate.validate(policy, "1.35", strict=True)


@pytest.mark.parametrize(
    "tracing",
    [{}, {"endpoint": ""}, {"ratio": 1}, *({"endpoint": f"http://{host}:4318"} for host in ("localhost", "127.0.0.1", "[::1]"))],
)
def test_without_a_collector_beyond_the_pod_no_traces_are_let_out(tracing: dict[str, Any]) -> None:
    assert policies(settings={"tracing": tracing}) == policies()


def render(out: Path, *options: str, **variables: str) -> Result:
    return CliRunner().invoke(cli, ["render", "cpu", "--out", str(out), *options], env={"TERMINAL_WIDTH": "100", **variables})


def test_opentelemetrys_variables_become_settings_and_a_policy_and_no_header_is_in_a_manifest(tmp_path: Path) -> None:
    variables = {"ENDPOINT": "http://collector.observability:4318", "HEADERS": "x-key=a%20topsecret", "CERTIFICATE": "ca.pem"}
    result = render(
        tmp_path,
        OTEL_TRACES_SAMPLER="always_on",
        OTEL_PROPAGATORS="b3",
        **{f"OTEL_EXPORTER_OTLP_{name}": variables[name] for name in variables},
    )
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert (
        f"OTEL_EXPORTER_OTLP_HEADERS is in none of them: put its content into the Secret {CPU.keys_secret} as otlp-headers"
        in printed
    )
    assert f"the Secret {CPU.keys_secret} as otlp-certificate" in printed
    assert "OTEL_PROPAGATORS: not read here" in printed
    files = {path.name: path.read_text() for path in (tmp_path / "cpu").iterdir()}
    for text in files.values():
        assert "topsecret" not in text
        assert "`sonograph render cpu` from kuberay/profiles/cpu.yaml and OpenTelemetry's variables: " in text.splitlines()[0]
    (service,) = load_all(files["rayservice.yaml"])
    (application,) = load(service["spec"]["serveConfigV2"])["applications"]
    tracing = application["args"]["tracing"]
    files_ = {"headers_file": OTLP_HEADERS, "certificate_file": OTLP_CERTIFICATE}
    assert tracing == {"endpoint": variables["ENDPOINT"], "sample_ratio": 1.0, **files_}
    assert ports_to(egress(load_all(files["network.yaml"]), "traces"), COLLECTORS) == [("TCP", 4318)]
    (ingress,) = (one for one in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "ingress")
    pod = ingress["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if Path(OTLP_HEADERS).is_relative_to(one["mountPath"]))
    assert {"name": mount["name"], "secret": {"secretName": CPU.keys_secret, "optional": True}} in pod["volumes"]
    assert findings(tmp_path / "cpu") == []


def test_without_the_variables_nothing_changes(tmp_path: Path) -> None:
    assert render(tmp_path, OTEL_SERVICE_NAME="drawing").exit_code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "cpu").iterdir()} == rendering.manifests(CPU, Images())


@pytest.mark.parametrize("name", PROFILES)
def test_no_profile_and_no_variable_has_words_written_into_traces(name: str) -> None:
    """Prompts and transcripts are personal data: an operator writes `tracing.message_content` by hand."""
    for text in rendering.manifests(PROFILES[name], Images(), tracing=tracing(dict.fromkeys(READ, "") | VARIABLES)).values():
        for document in load_all(text):
            if document["kind"] == "RayService":
                (application,) = load(document["spec"]["serveConfigV2"])["applications"]
                section = application["args"]["tracing"]
                assert "message_content" not in section
                assert not TracingSettings.model_validate(section).message_content


def test_the_profiles_own_settings_stay() -> None:
    tracing = {"endpoint": "http://a:4318", "headers": {"x-key": "secret"}, "sample_ratio": 1.0}
    own = CPU.changed({"settings": {"tracing": {"sample_ratio": 0.5}}}).with_tracing(tracing)
    assert own.args["tracing"] == {"endpoint": "http://a:4318", "headers_file": OTLP_HEADERS, "sample_ratio": 0.5}
    assert "tracing" not in CPU.args


def test_a_variable_that_cannot_be_used_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    result = render(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="collector:4317")
    assert result.exit_code == 2
    words = " ".join(line.strip("│ ") for line in result.output.splitlines())
    assert "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http://" in words
    assert list(tmp_path.iterdir()) == []


def findings(folder: Path) -> list[str]:
    """The findings of the rule about traces."""
    return [str(one) for one in examine([folder]) if one.rule == "traces_reach_their_collector"]


@pytest.mark.parametrize(
    ("egress", "is_open"),
    [
        ([], False),
        ([{"to": [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]}], False),
        ([{"to": [{"podSelector": {}}]}], True),  # a collector may be in this namespace
        ([{"ports": [{"port": 4318, "protocol": "UDP"}]}], False),
        ([{"ports": [{"port": "otlp"}]}], True),  # a name of the collector's own
        ([{"ports": [{"port": 443}], "to": [block("0.0.0.0/0")]}], False),
        ([{"ports": [{"port": 443}, {"port": 4318}]}], True),
        ([{"ports": [{"protocol": "TCP", "port": 4000, "endPort": 5000}]}], True),
        ([{"ports": [{"protocol": "TCP"}]}], True),
        ([{"to": [block("10.0.0.0/8")]}], True),
        ([{}], True),
    ],
)
def test_the_doctor_reads_policies_written_by_hand(egress: list[dict[str, Any]], is_open: bool, tmp_path: Path) -> None:
    assert render(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318").exit_code == 0
    file = tmp_path / "cpu" / "network.yaml"
    *others, policy = load_all(file.read_text())
    policy["spec"]["egress"] = egress
    file.write_text(yaml.safe_dump_all([*others, policy]))
    assert (findings(tmp_path / "cpu") == []) == is_open
    policy["spec"]["podSelector"] = {"matchLabels": {"ray.io/group": "whisper"}}
    file.write_text(yaml.safe_dump_all([*others, policy]))
    assert len(findings(tmp_path / "cpu")) == 1
    file.unlink()
    assert findings(tmp_path / "cpu") == []
