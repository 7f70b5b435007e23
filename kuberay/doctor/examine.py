"""The doctor's rules, applied to manifests: each object alone, then each RayService with the objects beside it."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kuberay.doctor import rules as package
from kuberay.doctor import schema
from kuberay.doctor.documents import Document, Unreadable, read
from kuberay.doctor.finding import NOTE, REGISTRY, WARNING, Finding, Rule, rule
from kuberay.doctor.manifest import Service, a_ray_service_can_be_read

for _module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{_module.name}")  # it registers its rules
OF_KUSTOMIZE = ("kustomization.yaml", "kustomization.yml")
PATHS = {"argoproj.io": ("spec", "source", "path"), "kustomize.toolkit.fluxcd.io": ("spec", "path")}
"""By the API's group: the field of an Argo CD Application and of a Flux Kustomization that names the folder of the manifests."""


def rules() -> list[Rule]:
    """Return the rules on a RayService, by number."""
    found = [one for one in REGISTRY.values() if one.examine.__module__.startswith(f"{package.__name__}.")]
    return sorted(found, key=lambda one: one.number)


def examine(paths: Iterable[Path]) -> list[Finding]:
    """Return every finding in these files, and in the files of these folders. Raises Unreadable where there is no RayService at all."""
    findings: list[Finding] = []
    folders: dict[Path, list[Document]] = {}
    for one in read(paths):
        if isinstance(one, Finding):
            findings.append(one)
        else:
            folders.setdefault(one.file.parent, []).append(one)
    if not any(one.kind == "RayService" for folder in folders.values() for one in folder) and not findings:
        pointers = [finding for folder in folders.values() for finding in the_manifests_are_elsewhere(folder)]
        if not pointers:
            raise Unreadable("these paths hold no RayService: name a rendered folder such as kuberay/manifests/cpu")
        return pointers
    for folder in folders.values():
        findings += of_folder(folder)
    return findings


def of_folder(folder: Sequence[Document]) -> list[Finding]:
    """Return the findings in objects that are applied together."""
    findings = list(the_manifests_are_elsewhere(folder))
    objects = [one for one in folder if not _is_for_another_tool(one)]
    refused = {id(one): schema.refused(one) for one in objects}
    findings += [finding for one in objects for finding in refused[id(one)]]
    for document in (one for one in objects if one.kind == "RayService"):
        beside = [one for one in objects if one is not document]
        for service in a_ray_service_can_be_read(document, beside):
            if isinstance(service, Finding):
                findings += [] if refused[id(document)] else [service]  # the schema's sentence says it already
            elif not any(schema.is_of_type(finding) for finding in refused[id(document)]):
                findings += diagnose(service)
    return list(dict.fromkeys(findings))  # two RayServices of one folder have the same documents beside them


def diagnose(service: Service) -> list[Finding]:
    """Return what the rules find; of a manifest that the first ones object to, what those find."""
    for first in (True, False):
        found = [finding for one in rules() if one.first is first for finding in _applied(one, service)]
        if found:
            return found
    return []


@rule(
    "SG003",
    "every rule can judge what it reads",
    "Fix the other findings first; where there is none, the doctor is at fault: report it.",
)
def a_rule_can_judge(service: Service, own: Rule, error: Exception) -> Finding:
    sentence = f"the rule {own.number} cannot judge it: {type(error).__name__}: {' '.join(str(error).split())}"
    return service.finding(a_rule_can_judge, "spec", sentence, WARNING)


def _applied(own: Rule, service: Service) -> Iterator[Finding]:
    try:
        for finding in own.examine(service):
            yield _noted(finding) if own.house and not service.is_ours else finding
    except Exception as error:  # of a manifest that the rule's author has not thought of
        yield a_rule_can_judge(service, own, error)


def _noted(finding: Finding) -> Finding:
    return Finding(finding.file, finding.field, finding.sentence, finding.rule, NOTE, finding.commands, finding.line)


@rule("SG004", "what is applied is what was examined", "Give the doctor what the tool makes of the files.")
def the_manifests_are_elsewhere(folder: Sequence[Document]) -> Iterator[Finding]:
    """Name where these documents have the manifests from."""
    for document in folder:
        path = PATHS.get(_group(document))
        if path:
            where = _value(document.content, path) or "FOLDER"
            sentence = f"says where the manifests are: `sonograph doctor {where}` examines them"
            yield document.finding(the_manifests_are_elsewhere, ".".join(path), sentence, WARNING)
        elif document.file.name in OF_KUSTOMIZE:
            sentence = f"is for kustomize: `kubectl kustomize {document.file.parent} | sonograph doctor -` examines what it makes"
            yield document.finding(the_manifests_are_elsewhere, "resources", sentence, WARNING)


def _is_for_another_tool(document: Document) -> bool:
    return _group(document) in PATHS or document.file.name in OF_KUSTOMIZE


def _group(document: Document) -> str:
    return str(document.content.get("apiVersion")).partition("/")[0]


def _value(content: Any, path: Sequence[str]) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content
