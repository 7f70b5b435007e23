"""Rules: the monitors find pods and ports, and the Prometheus operator takes them."""

from collections.abc import Iterator
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.folder import KubernetesService, documents, seconds, services
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import PodTemplate, pod_templates
from kuberay.doctor.selectors import selects, shown
from kuberay.doctor.untyped import at, mappings

ENDPOINTS = {"PodMonitor": "podMetricsEndpoints", "ServiceMonitor": "endpoints"}


@rule(
    "SG770",
    "a monitor selects pods or Services that there are, in their namespace",
    "Use the labels of the pods (PodMonitor) or of the Service itself (ServiceMonitor), and their namespace.",
)
def a_monitor_selects_what_there_is(service: Service) -> Iterator[Finding]:
    for document, labelled in _monitors(service):
        selector = document.spec.get("selector")
        chosen = [one for one in labelled if selects(selector, one.labels)]
        what = "pod" if document.kind == "PodMonitor" else "Service"
        if not chosen:
            sentence = (
                f"it selects {shown(selector)}, which no {what} of the folder has: nothing is scraped, and no alert can fire"
            )
            yield document.finding(a_monitor_selects_what_there_is, "spec.selector", sentence, WARNING)
            continue
        looked = _namespaces(document)
        spaces = {one.namespace for one in chosen} - {""}
        if looked is not None and spaces and not spaces & looked:
            sentence = (
                f"it looks into {' and '.join(sorted(looked))}, and what it selects is in {' and '.join(sorted(spaces))}: "
                "nothing is scraped, name that namespace"
            )
            place = "spec.namespaceSelector" if "namespaceSelector" in document.spec else "metadata.namespace"
            yield document.finding(a_monitor_selects_what_there_is, place, sentence, WARNING)


@rule(
    "SG771",
    "a monitor scrapes ports that there are",
    "Use the name of a container's port (PodMonitor) or of the Service's (ServiceMonitor).",
)
def a_monitor_scrapes_ports_that_there_are(service: Service) -> Iterator[Finding]:
    for document, labelled in _monitors(service):
        chosen = [one for one in labelled if selects(document.spec.get("selector"), one.labels)]
        names = sorted({name for one in chosen for name in one.ports})
        numbers = {number for one in chosen for number in one.ports.values()}
        kind = ENDPOINTS[document.kind]
        for index, endpoint in mappings(document.spec.get(kind)):
            port = endpoint.get("port")
            if chosen and port is not None and str(port) not in names:
                like = near(str(port), names)
                remedy = f"did you mean {like}?" if like else f"there are {', '.join(names)}"
                what = "no container that it selects" if document.kind == "PodMonitor" else "no Service that it selects"
                sentence = f"{what} has a port {port}, so nothing is scraped there: {remedy}"
                yield document.finding(a_monitor_scrapes_ports_that_there_are, f"spec.{kind}[{index}].port", sentence, WARNING)
            number = endpoint.get("portNumber")
            if chosen and isinstance(number, int) and number not in numbers:
                sentence = f"no container that it selects names port {number}, so nothing is scraped there"
                yield document.finding(
                    a_monitor_scrapes_ports_that_there_are, f"spec.{kind}[{index}].portNumber", sentence, WARNING
                )


@rule(
    "SG772",
    "a scrape ends before the next one begins",
    "Make scrapeTimeout no longer than interval.",
)
def a_scrape_ends_before_the_next(service: Service) -> Iterator[Finding]:
    for document, _ in _monitors(service):
        kind = ENDPOINTS[document.kind]
        for index, endpoint in mappings(document.spec.get(kind)):
            interval, timeout = seconds(endpoint.get("interval")), seconds(endpoint.get("scrapeTimeout"))
            if interval is not None and timeout is not None and timeout > interval:
                sentence = (
                    f"it is {endpoint['scrapeTimeout']}, longer than the interval ({endpoint['interval']}): the Prometheus operator "
                    "refuses the whole monitor, and nothing is scraped"
                )
                place = f"spec.{kind}[{index}].scrapeTimeout"
                yield document.finding(a_scrape_ends_before_the_next, place, sentence, WARNING)


def _monitors(service: Service) -> Iterator[tuple[Document, list[PodTemplate] | list[KubernetesService]]]:
    for document in documents(service, "PodMonitor", "ServiceMonitor"):
        yield document, (pod_templates(service) if document.kind == "PodMonitor" else services(service))


def _namespaces(document: Document) -> set[str] | None:
    """The namespaces that it looks into; None for all, and where the context decides."""
    selector: Any = at(document.content, "spec", "namespaceSelector")
    if at(selector, "any") is True:
        return None
    names = at(selector, "matchNames")
    if isinstance(names, list) and names:
        return set(map(str, names))
    return {document.namespace} if document.namespace else None
