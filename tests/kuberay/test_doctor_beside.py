"""Objects beside the RayService: what is healthy has no finding, though it is near a mistake."""

from pathlib import Path
from typing import Any

import pytest

from kuberay import render
from kuberay.doctor.documents import Document
from kuberay.doctor.examine import of_folder, rules
from kuberay.doctor.finding import ERROR, NOTE, WARNING
from kuberay.doctor.near import near
from kuberay.images import Images
from kuberay.profiles import CPU, PROFILES, Profile
from kuberay.values_file import applied
from testing.manifests import Break, Manifests, load_all
from tests.kuberay.mistakes import beside as given
from tests.kuberay.mistakes.beside import MISTAKES, OPTIONS, RAY, add, alone, budget, hpa, ingress, secret, service_monitor

SYSTEM = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
OWN_RULES = {rule.number for rule in rules() if "SG712" <= rule.number < "SG790"}
OWN: dict[str, Any] = {"podSelector": RAY}


def listed(manifests: Manifests) -> list[str]:
    return [str(finding) for finding in manifests.findings()]


def of_values(**content: Any) -> list[Any]:
    texts = render.manifests(applied(content, CPU), Images())
    documents = [Document(Path(name), one) for name, text in texts.items() for one in load_all(text)]
    return of_folder(documents)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_all_that_is_rendered_is_healthy(profile: Profile) -> None:
    manifests = Manifests(profile)
    manifests.gateway()
    manifests.add_the_rest()
    assert {"PodDisruptionBudget", "PodMonitor", "Gateway"} <= {one["kind"] for one in manifests.beside} | {"PodDisruptionBudget"}
    assert listed(manifests) == []


def test_every_rule_is_in_the_table() -> None:
    assert {one.rule for one in MISTAKES} == OWN_RULES


NEAR: dict[str, Break] = {
    "no policy at all": lambda m: setattr(m, "beside", [one for one in m.beside if one["kind"] != "NetworkPolicy"]),
    "one policy that lets all through": lambda m: alone(m, {}, ingress=[{}], egress=[{}]),
    "a policy of ingress alone cuts nothing that goes out": lambda m: alone(m, {}, ingress=[{}]),
    "several policies add up": lambda m: (
        alone(m, {}, policyTypes=["Ingress", "Egress"]),
        given.policy(m, {}, ingress=[{}]),
        given.policy(m, {}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}]),
        given.policy(m, {}, policyTypes=["Egress"], egress=[{"to": [SYSTEM], "ports": [given.UDP, given.TCP]}]),
        given.policy(
            m, {}, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]
        ),
    ),
    "ports as a range and by name": lambda m: alone(
        m,
        RAY,
        ingress=[
            {"from": [OWN], "ports": [{"port": 1024, "endPort": 65535}]},
            {"from": [{"namespaceSelector": {}}], "ports": [{"port": "serve"}, {"port": "dashboard"}, {"port": "metrics"}]},
        ],
    ),
    "ports that Ray is given": lambda m: (
        [
            group["rayStartParams"].update(
                {"node-manager-port": "9001", "object-manager-port": "9002", "min-worker-port": "9100"}
            )
            for group in (m.head, *m.cluster["workerGroupSpecs"])
        ],
        alone(
            m,
            RAY,
            ingress=[
                {"from": [OWN], "ports": [{"port": 6379}, {"port": 9001, "endPort": 9200}]},
                {"from": [{"namespaceSelector": {}}], "ports": [{"port": 8000}, {"port": 8265}]},
            ],
        ),
    ),
    "KubeRay's operator by its labels": lambda m: m.spec("NetworkPolicy", "-head")["ingress"][0].update(
        {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}]}
    ),
    "a client of the namespace, not in the folder": lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][2].update(
        {"from": [{"podSelector": {"matchLabels": {"app": "website"}}}]}
    ),
    "the head's own group": lambda m: given.policy(m, {"matchLabels": {"ray.io/group": "headgroup"}}, ingress=[{}]),
    "a policy of another namespace": lambda m: given.policy(m, {})["metadata"].update(namespace="state"),
    "a claim of one node for one pod": lambda m: m.spec("PersistentVolumeClaim").update(
        accessModes=["ReadWriteOnce", "ReadWriteMany"]
    ),
    "a claim of one node where there is one node": lambda m: (
        m.spec("PersistentVolumeClaim").update(accessModes=["ReadWriteOnce"]),
        m.service["metadata"]["annotations"].update(
            {"sonograph/nodes": '[{"name": "a", "count": 1, "cpus": 64, "memory_gib": 256, "gpus": {}}]'}
        ),
    ),
    "a Redis that is recreated": lambda m: (
        given.as_deployment(m, 1, claim=True),
        m.spec("Deployment").update(strategy={"type": "Recreate"}),
    ),
    "Secrets of the folder": lambda m: (secret(m, "sonograph-redis", "password"), secret(m, "sonograph-keys", "keys")),
    "a Secret of another use": lambda m: secret(m, "sonograph-tls", "tls.crt"),
    "an optional key": lambda m: (
        secret(m, "settings", "a", kind="ConfigMap"),
        given.env(m, {"configMapKeyRef": {"name": "settings", "key": "b", "optional": True}}),
    ),
    "Secrets of two versions": lambda m: (
        secret(m, "token-v1", "a"),
        given.env(m, {"secretKeyRef": {"name": "token-v2", "key": "a"}}),
    ),
    "Redis by its long name": lambda m: m.cluster[OPTIONS].update(
        redisAddress="redis://sonograph-redis.sonograph.svc.cluster.local:6379"
    ),
    "Redis by its namespace": lambda m: m.cluster[OPTIONS].update(redisAddress="sonograph-redis.sonograph:6379"),
    "Redis by the name of its pod": lambda m: m.cluster[OPTIONS].update(
        redisAddress="sonograph-redis-0.sonograph-redis.sonograph.svc:6379"
    ),
    "Redis behind another port": lambda m: (
        m.spec("Service").pop("clusterIP"),
        m.spec("Service")["ports"][0].update(port=6380),
        m.cluster[OPTIONS].update(redisAddress="sonograph-redis:6380"),
    ),
    "Redis that replicates": lambda m: (
        m.spec("StatefulSet").update(replicas=3),
        m.spec("StatefulSet")["template"]["spec"]["containers"][0].update(args=["--replicaof", "sonograph-redis-0", "6379"]),
    ),
    "a budget that keeps none": lambda m: budget(m, {"matchLabels": {"ray.io/group": "whisper"}}, minAvailable=0),
    "a budget of a Deployment in percent": lambda m: (
        given.as_deployment(m, 1),
        budget(m, {"matchLabels": {"app.kubernetes.io/component": "redis"}}, maxUnavailable="50%"),
    ),
    "a monitor of KubeRay's Service": lambda m: service_monitor(m, {"ray.io/node-type": "head"}, "metrics"),
    "a monitor of every namespace": lambda m: (
        m.object("PodMonitor")["metadata"].update(namespace="monitoring"),
        m.spec("PodMonitor").update(namespaceSelector={"any": True}),
    ),
    "a monitor that names the namespace": lambda m: (
        m.object("PodMonitor")["metadata"].update(namespace="monitoring"),
        m.spec("PodMonitor").update(namespaceSelector={"matchNames": ["sonograph"]}),
    ),
    "a scrape of a whole interval": lambda m: m.spec("PodMonitor")["podMetricsEndpoints"][0].update(
        interval="1m", scrapeTimeout="60s"
    ),
    "the folder's Namespace": lambda m: m.beside.append(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sonograph"}}
    ),
    "objects without any namespace": lambda m: [one["metadata"].pop("namespace") for one in (m.service, *m.beside)],
    "one name in two namespaces": lambda m: (
        secret(m, "sonograph-redis", "password")
        and secret(m, "sonograph-redis", "password")["metadata"].update(namespace="backup")
    ),
    "a Gateway of others": lambda m: (
        m.split(),
        m.object("HTTPRoute")["spec"]["parentRefs"][0].update(name="edge", namespace="infra"),
    ),
    "a wildcard's host": lambda m: (given.route(m), m.spec("Gateway")["listeners"][1].update(hostname="*.example.org")),
    "a listener of any host": lambda m: (given.route(m), m.spec("Gateway")["listeners"][1].pop("hostname")),
    "an Ingress that waits": lambda m: ingress(m, proxy_read_timeout="180", proxy_body_size="32m"),
    "an Ingress by the port's name": lambda m: ingress(m, port="serve", proxy_read_timeout="180", proxy_body_size="0"),
    "an Ingress of another controller": lambda m: ingress(m),
    "an Ingress to the dashboard": lambda m: ingress(m, "sonograph-head-svc", 8265),
    "an autoscaler of a workload": lambda m: (
        add(
            m,
            "Deployment",
            "apps/v1",
            "website",
            spec={
                "selector": {"matchLabels": {"app": "website"}},
                "template": {"metadata": {"labels": {"app": "website"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
            },
        ),
        hpa(m, "Deployment", "website"),
    ),
    "a candidate beside": lambda m: (m.split(), m.add_the_rest()),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_near_a_mistake_is_none(name: str) -> None:
    manifests = Manifests()
    NEAR[name](manifests)
    found = [str(one) for one in manifests.findings() if one.number in {*OWN_RULES, "SG405", "SG003"} or one.severity is ERROR]
    assert found == []


@pytest.mark.parametrize(
    ("content", "noted"),
    [
        ({"redis": {"address": "cache:6379"}}, ["SG723"]),
        ({"redis": {"address": "cache.example.org:6380", "cidrs": ["10.0.0.0/24"]}}, []),
        ({"redis": {"address": "cache.state.svc:6379"}}, ["SG723"]),
        ({"weights": {"claim": "models"}}, ["SG730"]),
        ({"weights": {"hub": {"endpoint": "http://mirror.hub.svc:8080", "token_secret": "hub"}}}, []),
        ({"name": "pictures", "namespace": "team-a", "pull_secrets": ["registry"]}, []),
        ({"network": {"dns_cidrs": ["10.96.0.10/32"], "api_cidrs": ["10.0.0.1/32"], "api_ports": [8443]}}, []),
        ({"monitoring": {"enabled": False}}, []),
        ({"route": {"gateway": "infra/edge", "hostnames": ["a.example.org"]}}, []),
    ],
    ids=str,
)
def test_values_that_only_choose_have_neither_errors_nor_warnings(content: dict[str, Any], noted: list[str]) -> None:
    found = [one for one in of_values(**content) if one.number != "SG504"]  # the images have no digests
    assert [str(one) for one in found if one.severity in (ERROR, WARNING)] == []
    assert [one.number for one in found if one.severity is NOTE] == noted


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("sonograph-keys", ["sonograph-redis", "sonograph-tls"], ""),
        ("sonograph-wieghts", ["sonograph-weights"], "sonograph-weights"),
        ("sonograph_weights", ["sonograph-weights"], "sonograph-weights"),
        ("sonographweights", ["sonograph-weights"], "sonograph-weights"),
        ("models-v1", ["models-v2"], ""),
        ("models", ["models"], ""),
        ("redis", ["sonograph-redis"], ""),
    ],
)
def test_a_name_is_near_where_one_word_has_a_slip(name: str, names: list[str], meant: str) -> None:
    assert near(name, names) == meant


def test_a_name_with_a_word_more_is_near_where_nothing_else_uses_it() -> None:
    assert near("redis", ["sonograph-redis"], ["sonograph-redis"]) == "sonograph-redis"
