"""Findings and rules as text for programs: JSON, SARIF 2.1.0, and the list of the documentation."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kuberay.doctor import examine, live
from kuberay.doctor.finding import PAGE, REGISTRY, Finding, Rule, Severity
from kuberay.versions import RELEASE

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
BEGIN, END = "<!-- rules: python -m kuberay.doctor.output writes them -->", "<!-- end of the rules -->"
REGISTERED = (examine, live)
"""Importing them registers every rule."""
GROUPS = {
    "0": "Files and schemas",
    "1": "The RayService",
    "2": "Serve's config and its app",
    "3": "Pins and resources of deployments",
    "4": "Pods",
    "5": "Images and versions",
    "6": "Times",
    "7": "Objects beside the RayService",
    "9": "Running clusters",
}
"""Headings of the rules by the first digit of their numbers."""


def rules() -> list[Rule]:
    """Return every rule, by number."""
    return sorted(REGISTRY.values(), key=lambda one: one.number)


def as_json(findings: Sequence[Finding]) -> str:
    """Return an object with `findings` and the number of each severity."""
    counts = {one.value: sum(finding.severity is one for finding in findings) for one in Severity}
    return json.dumps({"findings": [_plain(one) for one in findings], "counts": counts}, indent=2)


def _plain(finding: Finding) -> dict[str, Any]:
    own = REGISTRY[finding.rule]
    return {
        "rule": own.number,
        "name": own.name,
        "severity": finding.severity.value,
        "file": str(finding.file),
        "line": finding.line,
        "field": finding.field,
        "sentence": finding.sentence,
        "remedy": own.remedy,
        "documentation": own.anchor,
        "commands": list(finding.commands),
    }


def as_sarif(findings: Sequence[Finding]) -> str:
    """Return a log of SARIF with one run."""
    used = [one for one in rules() if any(finding.rule == one.name for finding in findings)]
    number = {one.name: index for index, one in enumerate(used)}
    driver = {"name": "sonograph doctor", "version": RELEASE, "rules": [_described(one) for one in used]}
    results = [
        {
            "ruleId": finding.number,
            "ruleIndex": number[finding.rule],
            "level": finding.severity.value,
            "message": {"text": f"{finding.field}: {finding.sentence}"},
            "locations": [{"physicalLocation": _location(finding)}],
        }
        for finding in findings
    ]
    return json.dumps(
        {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}, indent=2
    )


def _described(own: Rule) -> dict[str, Any]:
    return {
        "id": own.number,
        "name": own.name,
        "shortDescription": {"text": f"{own.demand[:1].upper()}{own.demand[1:]}."},
        "help": {"text": f"{own.remedy} {own.anchor}"},
    }


def _location(finding: Finding) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": finding.file.as_posix()}}
    return place if finding.line is None else {**place, "region": {"startLine": finding.line}}


def listing() -> str:
    """Return the rules as Markdown: a heading for each group, and below it one for each rule, its number."""
    parts = []
    for digit, own in itertools.groupby(rules(), key=lambda one: one.number.removeprefix("SG")[0]):
        parts.append(f"## {GROUPS[digit]}")
        for one in own:
            house = " A custom of this project: a note for another's app." if one.house else ""
            parts.append(f"### {one.number}\n\n**{one.demand[:1].upper()}{one.demand[1:]}.** {one.remedy}{house}")
    return "\n\n".join(parts)


def page(text: str) -> str:
    """Return the documentation's page with the present rules between its marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{listing()}\n\n{END}{after}"


if __name__ == "__main__":
    file = Path(__file__).parents[2] / PAGE
    file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
