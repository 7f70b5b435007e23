"""Rules: Services and autoscalers of pods lead to pods and ports that there are."""

from collections.abc import Iterator

from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.folder import documents, services
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import OF_KUBERAY, pod_templates
from kuberay.doctor.selectors import selects, shown
from kuberay.doctor.untyped import at, mapping, mappings


@rule(
    "SG726",
    "a Service selects pods that there are",
    "Use the labels of the pods: `kubectl get pods --show-labels` lists them.",
)
def a_service_selects_pods(service: Service) -> Iterator[Finding]:
    everything, named = pod_templates(service), _named(service)
    for target in services(service):
        if not target.selector:
            continue
        selector = {"matchLabels": target.selector}
        if not any(selects(selector, one.labels) for one in everything):
            sentence = f"it selects {shown(selector)}, which no pod of the folder has: connections to {target.name} are refused"
            severity = ERROR if target.name in named else WARNING
            yield target.document.finding(a_service_selects_pods, "spec.selector", sentence, severity)


@rule(
    "SG727",
    "a Service leads to a port that its pods have",
    "Use the name or the number of a container's port.",
)
def a_service_leads_to_a_port(service: Service) -> Iterator[Finding]:
    for document in documents(service, "Service"):
        selector = mapping(document.spec.get("selector"))
        chosen = [one for one in pod_templates(service) if selector and selects({"matchLabels": selector}, one.labels)]
        names = {name: port for one in chosen for name, port in one.ports.items()}
        for index, entry in mappings(document.spec.get("ports")):
            target = entry.get("targetPort", entry.get("port"))
            place = f"spec.ports[{index}].{'targetPort' if 'targetPort' in entry else 'port'}"
            if not chosen:
                continue
            if isinstance(target, str) and target not in names:
                like = near(target, names)
                remedy = f"did you mean {like}?" if like else f"there are {', '.join(sorted(names)) or 'none'}"
                sentence = f"no container behind it has a port {target}, so connections are refused: {remedy}"
                yield document.finding(a_service_leads_to_a_port, place, sentence)
            elif isinstance(target, int) and names and target not in names.values():
                sentence = (
                    f"no container behind it names port {target}, only {' and '.join(map(str, sorted(set(names.values()))))}"
                )
                sentence += ": connections are refused where none listens there"
                yield document.finding(a_service_leads_to_a_port, place, sentence, WARNING)


@rule(
    "SG728",
    "a HorizontalPodAutoscaler scales a workload of the folder that is not Ray's",
    "Leave it out for Ray's pods: Ray's autoscaler adds them. For others take kind and name of the workload.",
)
def an_autoscaler_has_a_target(service: Service) -> Iterator[Finding]:
    for document in documents(service, "HorizontalPodAutoscaler"):
        target = mapping(document.spec.get("scaleTargetRef"))
        kind, name = str(target.get("kind", "")), str(target.get("name", ""))
        if kind in OF_KUBERAY:
            sentence = f"a {kind} has no scale subresource, so this scales nothing: Ray's own autoscaler adds the pods"
            yield document.finding(an_autoscaler_has_a_target, "spec.scaleTargetRef.kind", sentence, WARNING)
            continue
        known = [one for one in documents(service) if one.kind in ("Deployment", "StatefulSet", "ReplicaSet")]
        if not any((one.kind, one.name) == (kind, name) for one in known):
            names = [one.name for one in known]
            other = next((one.title for one in known if one.name == name), "")
            like = other or near(name, names)
            sentence = f"no {kind} {name} is in the folder, so this scales nothing" + (f": did you mean {like}?" if like else "")
            yield document.finding(an_autoscaler_has_a_target, "spec.scaleTargetRef.name", sentence, WARNING)


def _named(service: Service) -> set[str]:
    """The Services that others of the folder need."""
    address = str(at(service.document.content, "spec", "rayClusterConfig", "gcsFaultToleranceOptions", "redisAddress"))
    found = {address.rpartition("//")[2].partition(":")[0].partition(".")[0]}
    for one in documents(service, "Ingress"):
        for _, routed in mappings(one.spec.get("rules")):
            found |= {str(at(path, "backend", "service", "name")) for _, path in mappings(at(routed, "http", "paths"))}
    for one in documents(service, "HTTPRoute"):
        for _, routed in mappings(one.spec.get("rules")):
            found |= {str(backend.get("name")) for _, backend in mappings(routed.get("backendRefs"))}
    return found
