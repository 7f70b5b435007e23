"""The configurations in docs/observability: they parse, fit each other, and label logs by bounded names alone. Nothing runs them here."""

import json
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.alloy import Block, Reference, parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "observability"
DASHBOARDS = ROOT / "docs" / "dashboards"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
ALLOY = [path for path in FILES if path.suffix == ".alloy"]
YAML = [path for path in FILES if path.suffix == ".yaml"]
OPERATIONS, LOGS, RUNBOOKS = ((ROOT / "docs" / name).read_text() for name in ("operations.md", "logs.md", "runbooks.md"))
LABELS = {"namespace", "pod", "container", "level"}
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
EXPORTS = {"discovery.kubernetes": "targets", "discovery.relabel": "output", "local.file_match": "targets"}
"""Export that another component takes of these; of others it is `receiver`."""
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_says_that_it_is_not_run_and_is_documented(path: Path) -> None:
    assert path in ALLOY + YAML, "a file that no test parses"
    marks = "".join(line for line in path.read_text().splitlines() if line.startswith(("#", "//")))
    assert "NOT RUN by this" in marks
    assert f"(observability/{path.relative_to(FOLDER)})" in LOGS


@pytest.mark.parametrize("path", ALLOY, ids=lambda path: path.name)
def test_each_alloy_component_refers_to_one_that_exists_and_none_is_unused(path: Path) -> None:
    components = parse(path.read_text())
    names = {f"{block.name}.{block.label}": EXPORTS.get(block.name, "receiver") for block in components}
    assert len(names) == len(components) >= 4
    found = {value.name for block in components for value in block.values() if isinstance(value, Reference)}
    assert found <= {f"{name}.{export}" for name, export in names.items()}
    sources = {name for name in names if name.startswith("loki.source")}
    assert {one.rpartition(".")[0] for one in found} | sources == set(names)


@pytest.mark.parametrize("path", ALLOY, ids=lambda path: path.name)
def test_the_labels_are_bounded(path: Path) -> None:
    components = parse(path.read_text())
    (process,) = (block for block in components if block.name == "loki.process")
    (kept,) = process.all("stage.label_keep")
    assert set(kept.attributes["values"]) == LABELS
    assert process.blocks[-1] is kept, "a later stage could add labels"
    (labels,) = process.all("stage.labels")
    assert labels.attributes["values"] == {"level": ""}
    assert set_by_targets(components) == LABELS - {"level"}
    (regex,) = process.all("stage.regex")
    found = re.compile(regex.attributes["expression"])
    assert [level for level in (*LEVELS, "NOTICE", "INFO2", "f00") if found.search(level)] == LEVELS
    (parsed,) = process.all("stage.json")
    assert regex.attributes["source"] in parsed.attributes["expressions"]
    assert set(parsed.attributes["expressions"].values()) == {"level", "timestamp"}, "fields of each line"


def set_by_targets(components: list[Block]) -> set[str]:
    """Labels that the log's entries have before they are processed."""
    relabelled = {rule.attributes["target_label"] for one in components for rule in one.all("rule")}
    matched = {name for one in components for target in one.attributes.get("path_targets", []) for name in target}
    return relabelled | {name for name in matched if not name.startswith("__")}


def test_both_alloy_configurations_process_lines_alike() -> None:
    one, other = (next(block for block in parse(path.read_text()) if block.name == "loki.process") for path in ALLOY)
    assert one == other


@pytest.mark.parametrize(
    "wrong", ["a {", 'a "b" { c = }', "a { b = 1 b = 2 }", "a = 1", "a { b = [1 2] }", "a { b = 'c' }", "a } "]
)
def test_what_is_no_alloy_syntax_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_pinned_by_its_version(name: str) -> None:
    assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_recipes_name_the_version_of_alloy_that_compose_runs() -> None:
    minor = SERVICES["alloy"]["image"].rpartition(":v")[2].rpartition(".")[0]
    for path in ALLOY:
        assert f"Grafana Alloy {minor} " in path.read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_of_compose_mounts_files_that_exist_and_waits_for_services_that_exist(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= {"image", "network_mode", "user", "command", "volumes", "depends_on", "environment"}
    for volume in service.get("volumes", []):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        assert source == target == "/tmp/ray" or (FOLDER / source).is_file() or (FOLDER / source).resolve() == DASHBOARDS
    assert set(service.get("depends_on", [])) <= set(SERVICES)


def test_each_configuration_that_compose_mounts_is_the_one_that_its_program_reads() -> None:
    for name in ("prometheus", "loki", "alloy"):
        (mounted,) = (volume.split(":")[1] for volume in SERVICES[name]["volumes"] if volume.startswith("./"))
        assert any(option.rpartition("=")[2] == mounted for option in SERVICES[name]["command"]), name


def test_whatever_reads_rays_files_is_the_user_who_may() -> None:
    for service in SERVICES.values():
        assert any(volume.startswith("/tmp/ray:") for volume in service.get("volumes", [])) == ("user" in service)


def test_everything_listens_on_loopback_alone() -> None:
    assert {service["network_mode"] for service in SERVICES.values()} == {"host"}
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert "--server.http.listen-addr=127.0.0.1:3101" in SERVICES["alloy"]["command"]
    assert SERVICES["jaeger"]["environment"]["JAEGER_LISTEN_HOST"] == "127.0.0.1"
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    server = load("loki.yaml")["server"]
    assert (server["http_listen_address"], server["grpc_listen_address"]) == ("127.0.0.1", "127.0.0.1")


def test_grafanas_sources_are_those_that_compose_starts() -> None:
    sources = {one["uid"]: one for one in load("grafana/datasources.yaml")["datasources"]}
    assert set(sources) == {"prometheus", "loki", "jaeger"}
    assert sources["prometheus"]["url"].endswith(":9090")
    assert sources["loki"]["url"].endswith(f":{load('loki.yaml')['server']['http_listen_port']}")
    (local,) = (block for block in parse((FOLDER / "local.alloy").read_text()) if block.name == "loki.write")
    assert local.all("endpoint")[0].attributes["url"] == f"{sources['loki']['url']}/loki/api/v1/push"
    (field,) = sources["loki"]["jsonData"]["derivedFields"]
    found = re.search(field["matcherRegex"], json.dumps({"request_id": "abc", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}))
    assert found is not None
    assert (found[1], field["datasourceUid"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "jaeger")
    assert re.search(field["matcherRegex"], json.dumps({"trace_id": None})) is None


def test_grafana_finds_the_dashboards_and_each_a_source_of_its_type() -> None:
    mounted = {target: source for source, target, _ in (volume.split(":") for volume in SERVICES["grafana"]["volumes"])}
    for kind in ("datasources", "dashboards"):
        assert mounted[f"/etc/grafana/provisioning/{kind}/sonograph.yaml"] == f"./grafana/{kind}.yaml"
    (provider,) = load("grafana/dashboards.yaml")["providers"]
    assert (provider["type"], mounted[provider["options"]["path"]]) == ("file", "../dashboards")
    types = {one["type"] for one in load("grafana/datasources.yaml")["datasources"]}
    files = list(DASHBOARDS.glob("*.json"))
    assert len(files) == 5
    for path in files:
        (source,) = (one for one in json.loads(path.read_text())["templating"]["list"] if one["type"] == "datasource")
        assert source["query"] in types


def test_the_queries_of_the_docs_select_by_labels_that_exist() -> None:
    queries = [*LOGS.split("```logql\n")[1].split("```")[0].splitlines()]
    queries.append(load("grafana/datasources.yaml")["datasources"][2]["jsonData"]["tracesToLogsV2"]["query"])
    assert len(queries) == 4
    for query in queries:
        selector, _, rest = query.partition("} | json | ")
        assert rest
        assert set(re.findall(r'(\w+)="', selector)) <= LABELS


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_jq_programs_of_the_docs_find_a_requests_line_in_a_pods_output() -> None:
    hour_s = 3600.0
    requests = [("ID", 7.5, 200, None, 10), ("other", 9, 200, None, 20), ("old", 99, 503, "overloaded", hour_s + 60)]
    requests.append(("limited", 1, 429, "rate_limit_exceeded", hour_s + 90))
    requests += [("refused", 1, 503, "overloaded", 30), ("refused too", 1, 503, "overloaded", 40)]
    lines = ["[2026-11-29] INFO: Ray runtime started."]
    for id, took_ms, status, code, ago_s in requests:
        at = datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "event": "request",
            "timestamp": at,
            "request_id": id,
            "status": status,
            "code": code,
            "took_ms": took_ms,
            "detail": code,
            "key": "alice",
        }
        lines.append(json.dumps({**line, "timings_ms": {"whisper": took_ms}}))
    lines.append(json.dumps({"event": "log", "timestamp": at, "request_id": None, "message": "the keys stay"}))
    commands = [
        line.partition("jq ")[2]
        for line in (OPERATIONS + LOGS + RUNBOOKS).splitlines()
        if line.startswith("$ ") and "jq " in line
    ]
    found = []
    for command in commands:
        ((options, program),) = re.findall(r"^(-\w+) '([^']*)'", command)
        done = subprocess.run(
            ["jq", options, program], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=True
        )
        found.append(json.loads(done.stdout))
    slowest, refused, *by_id, limited = found
    assert slowest == {"request_id": "other", "took_ms": 9, "timings_ms": {"whisper": 9}}
    assert refused == [2, 503, "overloaded", "overloaded"]
    assert [line["request_id"] for line in by_id] == ["ID", "ID"]
    assert limited == [1, "alice"]
