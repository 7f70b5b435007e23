"""Rules: the network policies select pods that there are, and let the Job of the weights, Prometheus and traces through."""

from collections.abc import Iterator
from typing import Any

from kuberay import app
from kuberay.doctor import reach
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import NOTE, WARNING, Finding, rule
from kuberay.doctor.folder import documents
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import PodTemplate, of_document, pod_templates
from kuberay.doctor.reach import EGRESS, INGRESS, Policy, is_open, number, of_pods, policies
from kuberay.doctor.rules.policies import is_filling
from kuberay.doctor.selectors import selects, shown
from kuberay.doctor.untyped import mapping, mappings, texts
from kuberay.manifest.network import collector
from kuberay.manifest.objects import NAMESPACE_NAME
from kuberay.worker_groups import INGRESS as INGRESS_GROUP

LIKE_A_NAME = ("name", "kubernetes.io/name", "namespace", "metadata.name", "kubernetes.io/metadata-name")


@rule(
    "SG711",
    "a network policy lets traces out",
    "Render with OTEL_EXPORTER_OTLP_ENDPOINT.",
)
def traces_reach_their_collector(service: Service) -> Iterator[Finding]:
    """A policy that selects the ingress's pods cuts all that no policy names. No error: requests are answered without traces too."""
    every = pod_templates(service)
    ingress = [one for one in of_document(service.document) if one.group == INGRESS_GROUP.name]
    for index, application in enumerate(service.config["applications"]):
        try:
            wanted = collector(app.settings(application).tracing.model_dump())
        except Exception:  # rules of their own report it
            continue
        (port,) = (one["port"] for one in wanted["ports"]) if wanted else (None,)
        if port and any(
            not is_open(of_pods(service, one, EGRESS), EGRESS, reach.elsewhere(every), number(port)) for one in ingress
        ):
            sentence = f"no network policy lets the ingress reach port {port}, so traces are lost: render with OTEL_EXPORTER_OTLP_ENDPOINT"
            field = f"{SERVE_CONFIG}: applications[{index}].args.tracing.endpoint"
            yield service.finding(traces_reach_their_collector, field, sentence, WARNING)


@rule(
    "SG740",
    "a network policy selects pods that there are",
    "Use the labels of the pods: `kubectl get pods --show-labels` lists them, KubeRay's own too.",
)
def a_policy_selects_pods(service: Service) -> Iterator[Finding]:
    everything = pod_templates(service)
    for policy in policies(service):
        selector = policy.document.spec.get("podSelector")
        if not any(selects(selector, one.labels) for one in everything):
            sentence = (
                f"it selects {shown(selector)}, which no pod of the folder has, so it applies to none of them: neither is anything cut, "
                f"nor is what it names let through{_meant(selector, everything)}"
            )
            yield policy.document.finding(a_policy_selects_pods, "spec.podSelector", sentence, WARNING)


@rule(
    "SG741",
    "a peer of a network policy that is meant to be the folder's pods selects some of them",
    "Use the labels of the pods.",
)
def a_peer_selects_pods(service: Service) -> Iterator[Finding]:
    everything = pod_templates(service)
    for policy in policies(service):
        for direction, key in ((INGRESS, "from"), (EGRESS, "to")):
            for index, routed in policy.rules(direction):
                for number_, peer in mappings(routed.get(key)):
                    selector = peer.get("podSelector")
                    if "namespaceSelector" in peer or not _is_meant(selector, everything):
                        continue
                    if not any(selects(selector, one.labels) for one in everything):
                        place = f"spec.{direction.lower()}[{index}].{key}[{number_}].podSelector"
                        sentence = f"it selects {shown(selector)}, which no pod of the folder has: nothing is let through by it"
                        sentence += _meant(selector, everything)
                        yield policy.document.finding(a_peer_selects_pods, place, sentence, WARNING)


@rule(
    "SG747",
    "the network policies let the Job of the weights out to its hub",
    "Let TCP 443 out, or the port of HF_ENDPOINT, to any address or to the hub's.",
)
def the_job_reaches_its_hub(service: Service) -> Iterator[Finding]:
    for one in pod_templates(service):
        found = of_pods(service, one, EGRESS) if is_filling(one) else []
        endpoint = next((str(value) for value in _env(one, "HF_ENDPOINT")), "")
        takes, port = (_anything_outside, _is_of_a_hub) if endpoint else (reach.internet, number(443))
        if found and not is_open(found, EGRESS, takes, port):
            names = " and ".join(policy.document.name for policy in found)
            sentence = (
                f"{names} cut {one.name} from the internet, where it fetches the weights: the groups wait for them forever. "
                "Let its port out, 443 for a public hub"
            )
            yield found[-1].document.finding(the_job_reaches_its_hub, "spec.egress", sentence, WARNING)


@rule(
    "SG749",
    "the network policies let Prometheus reach the ports that a PodMonitor names",
    "Let the namespace of Prometheus in at the ports of the metrics.",
)
def prometheus_reaches_the_metrics(service: Service) -> Iterator[Finding]:
    everything = pod_templates(service)
    for monitor in documents(service, "PodMonitor"):
        chosen = [one for one in everything if selects(monitor.spec.get("selector"), one.labels)]
        for index, endpoint in mappings(monitor.spec.get("podMetricsEndpoints")):
            cut = []
            for one in chosen:
                port = one.port(endpoint.get("port", endpoint.get("portNumber")))
                found = of_pods(service, one, INGRESS)
                if port is not None and not is_open(found, INGRESS, reach.elsewhere(everything), number(port, names=one.ports)):
                    cut.append(one.name)
            if cut:
                sentence = (
                    f"no network policy lets Prometheus reach this port of {' and '.join(cut)}: it is not scraped. Let it in"
                )
                place = f"spec.podMetricsEndpoints[{index}].port"
                yield monitor.finding(prometheus_reaches_the_metrics, place, sentence, WARNING)


@rule(
    "SG750",
    "a namespace is selected by a label that it has",
    "Use kubernetes.io/metadata.name, which Kubernetes sets, or set the label: `kubectl label namespace NAME KEY=VALUE`.",
)
def a_namespace_is_selected_by_its_label(service: Service) -> Iterator[Finding]:
    labelled = [texts(one.metadata.get("labels")) for one in documents(service, "Namespace")]
    for policy in policies(service):
        for direction, key in ((INGRESS, "from"), (EGRESS, "to")):
            for index, routed in policy.rules(direction):
                for number_, peer in mappings(routed.get(key)):
                    for label, value in texts(mapping(peer.get("namespaceSelector")).get("matchLabels")).items():
                        if label in LIKE_A_NAME and not any(one.get(label) == value for one in labelled):
                            place = f"spec.{direction.lower()}[{index}].{key}[{number_}].namespaceSelector.matchLabels"
                            sentence = (
                                f"Kubernetes gives no namespace the label {label}: it is let through only where somebody has set it. "
                                f"The label of the name is {NAMESPACE_NAME}"
                            )
                            yield policy.document.finding(a_namespace_is_selected_by_its_label, place, sentence, NOTE)


def _is_meant(selector: Any, everything: list[PodTemplate]) -> bool:
    """Whether it looks as if it were for the folder's own pods: a label of KubeRay's, one that they have, or nearly."""
    labels = texts(mapping(selector).get("matchLabels"))
    keys = [*labels, *(str(one.get("key")) for _, one in mappings(mapping(selector).get("matchExpressions")))]
    if any(key.startswith("ray.io/") for key in keys):
        return True
    pairs = {pair for one in everything for pair in one.labels.items()}
    return any(pair in pairs for pair in labels.items()) or bool(_meant(selector, everything))


def _meant(selector: Any, everything: list[PodTemplate]) -> str:
    """A question with the label that is meant."""
    known = {pair for one in everything for pair in one.labels.items()}
    for key, value in texts(mapping(selector).get("matchLabels")).items():
        if like := near(value, [other for name, other in known if name == key]):
            return f". Did you mean {key}={like}?"
    keys = {key for key, _ in known}
    for key in [*texts(mapping(selector).get("matchLabels")), *_keys(selector)]:
        if key not in keys and (like := near(key, keys)):
            return f". Did you mean {like}?"
    return ""


def _keys(selector: Any) -> list[str]:
    return [str(one.get("key")) for _, one in mappings(mapping(selector).get("matchExpressions"))]


def _env(one: PodTemplate, name: str) -> list[Any]:
    found = [entry for container in one.containers for _, entry in container.env if entry.get("name") == name]
    return [entry["value"] for entry in found if entry.get("value")]


def _anything_outside(policy: Policy, peer: dict[str, Any]) -> bool:
    """Whether it may be a mirror in the cluster, or beside it."""
    return reach.addresses(policy, peer) or "namespaceSelector" in peer or "podSelector" in peer


def _is_of_a_hub(entry: dict[str, Any]) -> bool:
    """Whether it may be the port of a mirror: any of TCP but that of DNS, as one in the cluster has its own."""
    return entry.get("protocol", "TCP") == "TCP" and entry.get("port") not in (53, 5353)
