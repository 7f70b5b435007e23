"""The doctor's input and output: folders, lists and streams in; text, JSON, SARIF and statuses out."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from kuberay.doctor import output
from kuberay.doctor.finding import PAGE, REGISTRY
from sonograph.cli import cli
from testing.manifests import Manifests

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, given: str = "") -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, words)], input=given)


def found(*words: str | Path, given: str = "") -> list[dict[str, Any]]:
    result = run("--json", *words, given=given)
    findings: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return findings


def broken() -> Manifests:
    manifests = Manifests()
    manifests.pod("whisper")["toleration"] = []
    manifests.group("diffusion")["suspend"] = True
    return manifests


def text(manifests: Manifests) -> str:
    return yaml.safe_dump_all(manifests.documents())


def test_the_page_has_every_rule_with_its_anchor() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == output.page(page), "python -m kuberay.doctor.output writes it"
    for rule in output.rules():
        assert f"\n### {rule.anchor.partition('#')[2].upper()}\n" in page


def test_a_rule_says_what_holds_and_what_to_do() -> None:
    for rule in output.rules():
        assert re.fullmatch(r"SG\d{3}", rule.number)
        assert not rule.demand.endswith(".")
        assert rule.remedy.endswith("."), rule
        assert "|" not in rule.demand + rule.remedy


def test_the_rules_are_listed() -> None:
    listed = run("--rules").stdout
    assert all(rule.number in listed for rule in REGISTRY.values())


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_a_finding_has_file_line_and_number(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"all.{ending}"
    file.write_text(text(broken()))
    lines = file.read_text().splitlines()
    unknown, remedy, order = run(tmp_path).stdout.splitlines()[:3]
    assert remedy.startswith("  Write the field as `kubectl explain KIND.FIELD` has it.")
    for line, key, number in ((unknown, "toleration:", "SG011"), (order, "suspend: true", "SG105")):
        place = re.match(rf"error: {re.escape(str(file))}:(\d+): ", line)
        assert place, line
        assert key in lines[int(place[1]) - 1]
        assert line.endswith(f"[{number}]")
    assert "did you mean tolerations?" in unknown


def test_a_field_of_the_serve_config_has_its_own_line_in_a_block(tmp_path: Path) -> None:
    rendered = (ROOT / "kuberay/manifests/cpu/rayservice.yaml").read_text(encoding="utf-8")
    file = tmp_path / "rayservice.yaml"
    file.write_text(rendered.replace("whisper: 1\n", "wisper: 1\n"))
    (line,) = {one["line"] for one in found(file) if one["rule"] == "SG302"}
    assert file.read_text().splitlines()[line - 1 : line + 1] == ["          resources:", "            wisper: 1"]


def test_a_list_a_stream_and_a_folder_are_read_alike(tmp_path: Path) -> None:
    documents = broken().documents()
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": documents})
    streamed = "---\n# Source: chart/templates/all.yaml\n" + "---\n".join(yaml.safe_dump(one) for one in documents)
    (tmp_path / "some.yaml").write_text(yaml.safe_dump_all(documents[:3]))
    (tmp_path / "others.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents[3:]}))
    (tmp_path / "images.json").write_text('{"whisper": "of another tool"}')
    numbers = [["SG011", "SG105"]] * 3
    assert [
        [one["rule"] for one in each] for each in (found("-", given=listed), found("-", given=streamed), found(tmp_path))
    ] == numbers


@pytest.mark.parametrize("where", ["metadata.annotations", "spec.upgradeStrategy", "spec.rayClusterConfig.upgradeStrategy"])
def test_a_null_is_dropped_as_kubernetes_does(where: str) -> None:
    manifests = Manifests()
    part: Any = manifests.service
    *names, last = where.split(".")
    for name in names:
        part = part[name]
    part[last] = None
    for group in manifests.cluster["workerGroupSpecs"]:
        group["template"]["metadata"]["annotations"] = None
    errors = [one for one in found("-", given=text(manifests)) if one["severity"] == "error"]
    assert errors == []


def test_json_has_what_a_program_needs(tmp_path: Path) -> None:
    printed = json.loads(run("--json", broken().write(tmp_path / "cpu")).stdout)
    assert printed["counts"] == {"error": 2, "warning": 0, "note": 0}
    assert {key: type(value).__name__ for key, value in printed["findings"][0].items()} == {
        **dict.fromkeys(("rule", "name", "severity", "file", "field", "sentence", "remedy", "documentation"), "str"),
        "line": "int",
        "commands": "list",
    }


def test_sarif_names_rules_and_lines(tmp_path: Path) -> None:
    (run_of,) = json.loads(run("--sarif", broken().write(tmp_path / "cpu")).stdout)["runs"]
    described = run_of["tool"]["driver"]["rules"]
    assert [one["id"] for one in described] == ["SG011", "SG105"]
    for result in run_of["results"]:
        assert described[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
        (place,) = (one["physicalLocation"] for one in result["locations"])
        assert Path(place["artifactLocation"]["uri"]).name == "all.yaml"
        assert place["region"]["startLine"] > 1


def test_a_rule_can_be_left_out(tmp_path: Path) -> None:
    folder = broken().write(tmp_path / "cpu")
    assert [one["rule"] for one in found("--ignore", "sg011", folder)] == ["SG105"]
    result = run("--ignore", "SG011,SG105", folder)
    assert (result.exit_code, result.stdout) == (0, "No errors, no warnings, no notes.\n")
    assert run("--ignore", "SG000", folder).exit_code == 2


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("kind: [", "cannot be read"),
        ("{{ if .Values.on }}\nkind: RayService\n{{ end }}", "cannot be read"),
        ("kind: &a [*a]", "cannot be read"),
        (BOMB, "aliases"),
        ("a: 1\nb: \x00", "cannot be read"),
        (f"{'[' * 50_000}", "nested deeper than 100 levels"),
    ],
    ids=["no-yaml", "a-template", "an-alias-of-itself", "aliases-of-aliases", "a-null-byte", "deep"],
)
def test_a_file_that_cannot_be_read_is_named_and_ends_with_status_2(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(content)
    folder = broken().write(tmp_path)
    result = run(folder)
    assert (result.exit_code, result.exception) == (2, result.exception if isinstance(result.exception, SystemExit) else None)
    assert says in result.stdout.splitlines()[0]
    assert "SG105" in result.stdout, "the other files are examined"


def test_a_path_that_is_not_there_ends_with_status_2(tmp_path: Path) -> None:
    result = run(tmp_path / "nothing.yaml")
    assert result.exit_code == 2
    assert "nothing.yaml cannot be read" in result.stderr


def test_a_key_that_stands_twice_is_found_with_its_line(tmp_path: Path) -> None:
    rendered = (ROOT / "kuberay/manifests/cpu/rayservice.yaml").read_text(encoding="utf-8")
    (tmp_path / "a.yaml").write_text(rendered.replace("spec:\n", "spec:\n  excludeHeadPodFromServeSvc: true\n", 1))
    numbers = [(one["rule"], one["field"]) for one in found(tmp_path) if one["severity"] == "error"]
    assert numbers == [("SG002", "excludeHeadPodFromServeSvc")]


@pytest.mark.parametrize(
    ("version", "kind", "number", "says"),
    [
        ("apps/v1beta1", "Deployment", "SG010", "but in apps/v1"),
        ("v1", "Deployment", "SG010", "but in apps/v1"),
        ("ray.io/v1", "RayServise", "SG010", "did you mean RayService?"),
        ("apps/v1", "Deploymnt", "SG010", "did you mean Deployment?"),
        ("cilium.io/v2", "CiliumNetworkPolicy", "SG010", "does not know"),
    ],
)
def test_a_kind_that_there_is_not_is_found_and_one_of_an_extension_is_a_note(
    version: str, kind: str, number: str, says: str
) -> None:
    manifests = Manifests()
    manifests.beside.append({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": {}})
    (finding,) = (one for one in manifests.findings() if one.field in ("kind", "apiVersion"))
    assert (finding.number, finding.severity) == (number, "note" if "know" in says else "error")
    assert says in finding.sentence


def test_a_rule_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = Manifests()
    own = REGISTRY["the_head_takes_no_work"]

    def fails(service: Any) -> Any:
        raise KeyError("groupName")

    fails.__name__ = own.name
    monkeypatch.setitem(REGISTRY, own.name, dataclasses.replace(own, examine=fails))
    fails.__module__ = own.examine.__module__
    (finding,) = manifests.findings()
    assert (finding.number, finding.severity) == ("SG003", "warning")
    assert "SG312 cannot judge it: KeyError: 'groupName'" in finding.sentence
