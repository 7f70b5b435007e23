"""Rules: the Secrets, ConfigMaps and other objects that pods name are those of the folder, and have the keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import ERROR, NOTE, WARNING, Finding, rule
from kuberay.doctor.folder import documents
from kuberay.doctor.manifest import Service
from kuberay.doctor.near import near
from kuberay.doctor.pod_templates import pod_templates
from kuberay.doctor.untyped import at, mapping, mappings

REFERENCES = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap", "secretRef": "Secret", "configMapRef": "ConfigMap"}
OF_POD = {"serviceAccountName": "ServiceAccount", "priorityClassName": "PriorityClass", "runtimeClassName": "RuntimeClass"}
DATA = ("data", "stringData", "binaryData")
ENDS = {
    "Secret": "its pods stay in CreateContainerConfigError, or in ContainerCreating",
    "ConfigMap": "its pods stay in CreateContainerConfigError, or in ContainerCreating",
    "ServiceAccount": "no pod of it is made",
    "PriorityClass": "no pod of it is made",
    "RuntimeClass": "no pod of it is made",
}


@dataclass(frozen=True)
class Reference:
    """A place that names another object, and perhaps a key of it."""

    document: Document
    field: str
    kind: str
    name: str
    keys: tuple[str, ...] = ()
    optional: bool = False
    pulls: bool = False
    """Whether it is a registry's secret: without it only private images fail."""


@rule(
    "SG720",
    "an object that pods name is the one in the folder",
    "Use the name of the object.",
)
def a_named_object_is_there(service: Service) -> Iterator[Finding]:
    found = references(service)
    for one in found:
        names = {other.name for other in documents(service, one.kind)}
        unused = names - {other.name for other in found if other.kind == one.kind}
        like = "" if one.name in names else near(one.name, names, unused)
        if like and not (one.kind == "ServiceAccount" and one.name == "default"):
            ends = "it is left out silently" if one.optional else "private images are not pulled" if one.pulls else ENDS[one.kind]
            sentence = f"there is no {one.kind} {one.name} in the folder, so {ends}: did you mean {like}?"
            yield one.document.finding(a_named_object_is_there, one.field, sentence, WARNING if one.optional else ERROR)


@rule(
    "SG721",
    "a Secret or ConfigMap of the folder has the keys that pods name",
    "Add the key, or name one that it has.",
)
def a_named_key_is_there(service: Service) -> Iterator[Finding]:
    known = {(one.kind, one.name): one for one in documents(service, "Secret", "ConfigMap")}
    for one in references(service):
        document = known.get((one.kind, one.name))
        if document is None or one.optional:
            continue
        keys = [str(key) for part in DATA for key in mapping(document.content.get(part))]
        for key in one.keys:
            if key not in keys:
                like = near(key, keys)
                remedy = f"did you mean {like}?" if like else f"it has {', '.join(sorted(keys)) or 'none'}"
                sentence = (
                    f"{document.title} has no key {key}, so the container is not made (CreateContainerConfigError): {remedy}"
                )
                yield one.document.finding(a_named_key_is_there, one.field, sentence)


@rule(
    "SG722",
    "a binding of roles names a ServiceAccount and a role that there are",
    "Use their names; the autoscaler's own ServiceAccount and role are KubeRay's.",
)
def a_binding_names_what_there_is(service: Service) -> Iterator[Finding]:
    accounts = {one.name for one in documents(service, "ServiceAccount")}
    for binding in documents(service, "RoleBinding", "ClusterRoleBinding"):
        for index, subject in mappings(binding.content.get("subjects")):
            name, place = str(subject.get("name", "")), f"subjects[{index}].name"
            if subject.get("kind") != "ServiceAccount" or name in accounts or name == "default":
                continue
            like = near(name, accounts)
            sentence = f"no ServiceAccount {name} is in the folder: its pods have these rights only where it is in the namespace"
            sentence += f". Did you mean {like}?" if like else ""
            yield binding.finding(a_binding_names_what_there_is, place, sentence, WARNING if like else NOTE)
        role = mapping(binding.content.get("roleRef"))
        roles = (
            {one.name for one in documents(service, str(role.get("kind")))}
            if role.get("kind") in ("Role", "ClusterRole")
            else set()
        )
        name = str(role.get("name", ""))
        if name not in roles and (like := near(name, roles)):
            sentence = (
                f"there is no {role.get('kind')} {name} in the folder, and the binding gives no rights: did you mean {like}?"
            )
            yield binding.finding(a_binding_names_what_there_is, "roleRef.name", sentence, WARNING)


def references(service: Service) -> list[Reference]:
    """Return what the workloads of the folder name."""
    found = list[Reference]()
    for document in documents(service):
        found += _walk(document, document.content, "")
    for one in pod_templates(service):
        for name, kind in OF_POD.items():
            if one.spec.get(name):
                found.append(Reference(one.document, one.at(name), kind, str(one.spec[name])))
        for index, secret in mappings(one.spec.get("imagePullSecrets")):
            if secret.get("name"):
                place = one.at(f"imagePullSecrets[{index}].name")
                found.append(Reference(one.document, place, "Secret", str(secret["name"]), pulls=True))
        for index, volume in one.volumes:
            found += _of_volume(one.document, volume, one.at(f"volumes[{index}]"))
    return found


def _walk(document: Document, value: Any, place: str) -> Iterator[Reference]:
    """Each reference to a key or to all keys, wherever it stands: variables, Redis' password and user name."""
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from _walk(document, item, f"{place}[{index}]")
    for key, item in mapping(value).items():
        below = f"{place}.{key}".lstrip(".")
        if key in REFERENCES and isinstance(item, dict) and "name" in item:
            keys = (str(item["key"]),) if "key" in item else ()
            yield Reference(document, f"{below}.name", REFERENCES[key], str(item["name"]), keys, item.get("optional") is True)
        else:
            yield from _walk(document, item, below)


def _of_volume(document: Document, volume: dict[str, Any], place: str) -> Iterator[Reference]:
    parts = [(volume, place)] + [
        (one, f"{place}.projected.sources[{index}]") for index, one in mappings(at(volume, "projected", "sources"))
    ]
    for part, where in parts:
        for source, kind, key in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            stated = mapping(part.get(source))
            key = "name" if part is not volume else key
            if stated.get(key):
                keys = tuple(str(one["key"]) for _, one in mappings(stated.get("items")) if "key" in one)
                optional = stated.get("optional") is True
                yield Reference(document, f"{where}.{source}.{key}", kind, str(stated[key]), keys, optional)


def of_namespace(reference: Reference) -> str:
    """Return the namespace where the object has to be; an empty one for an object of the whole cluster."""
    return "" if reference.kind.endswith("Class") else reference.document.namespace
