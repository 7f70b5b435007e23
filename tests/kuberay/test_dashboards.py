"""The dashboards: every query is PromQL about metrics that exist, and every metric of ours has its panel."""

import json
import re
from pathlib import Path

import pytest
import ray

from graphs.core.metrics import DECLARED, METRICS
from kuberay import dashboards
from kuberay.dashboards import Dashboard, Panel
from kuberay.manifest import foreign_metrics as foreign
from testing.prometheus import of_all
from testing.promtool import promtool
from tests.kuberay.normal_hour import SCRAPE_S, normal_hour

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "dashboards"
PANELS = [(dashboard, panel) for dashboard in dashboards.dashboards() for panel in dashboard.panels]
EACH = pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda one: getattr(one, "name", None) or one.title)
NAMES = {name for metric in METRICS for name in metric.series} | {name for names in foreign.SOURCES.values() for name in names}
WORD = re.compile(r"\b(?:ray|autoscaler|kube|container|DCGM|up)\w*\b(?![^{]*\})")
"""A metric's name: outside of the braces of labels."""


def read(expression: str) -> set[str]:
    return {word for word in WORD.findall(expression) if not re.search(rf"by \([^)]*\b{word}\b", expression)}


@EACH
def test_a_panel_names_only_metrics_that_are_defined(dashboard: Dashboard, panel: Panel) -> None:
    for expression, _ in panel.queries:
        assert read(expression)
        assert read(expression) <= NAMES
    assert {"GPUs" in dashboard.title} == {any(name.startswith("DCGM") for query, _ in panel.queries for name in read(query))}


def test_every_query_is_promql(tmp_path: Path) -> None:
    queries = [expression for _, panel in PANELS for expression, _ in panel.queries]
    rules = [{"record": f"query:{number}", "expr": of_all(one)} for number, one in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    succeeds, output = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert succeeds, output
    assert f"{len(queries)} rules found" in output


def in_a_normal_hour(folder: Path, expected: dict[str, int]) -> str:
    """The output of promtool, empty where each query has data in a normal hour (1), or has none (0)."""
    recorded = [{"series": name, "values": values} for name, values in normal_hour().items()]
    queries = [
        {
            "expr": f"(count({query}) or vector(0)) > bool 0",
            "eval_time": "15m",
            "exp_samples": [{"labels": "{}", "value": has_data}],
        }
        for query, has_data in expected.items()
    ]
    test = {"interval": f"{SCRAPE_S}s", "input_series": recorded, "promql_expr_test": queries}
    (folder / "tests.yaml").write_text(json.dumps({"rule_files": [], "tests": [test]}))
    succeeds, output = promtool(folder, "test", "rules", "tests.yaml")
    return "" if succeeds else output


def test_every_query_has_data_in_a_normal_hour(tmp_path: Path) -> None:
    queries = [of_all(expression) for _, panel in PANELS for expression, _ in panel.queries]
    assert in_a_normal_hour(tmp_path, dict.fromkeys(queries, 1)) == ""


def test_no_query_has_data_of_another_installation_than_the_chosen_one(tmp_path: Path) -> None:
    """But those of the GPUs, whose exporter knows no installation; and of the nodes, which have no application."""
    queries = [expression for dashboard, panel in PANELS if dashboard.name != "gpu" for expression, _ in panel.queries]
    of_namespace = [of_all(expression.replace("$namespace", "studio")) for expression in queries]
    of_name = [of_all(one.replace("$application", "paint")) for one in queries if "$application" in one]
    assert len(of_name) > 40
    assert in_a_normal_hour(tmp_path, dict.fromkeys([*of_namespace, *of_name], 0)) == ""


def test_every_metric_of_ours_has_a_panel() -> None:
    found = {name for _, panel in PANELS for expression, _ in panel.queries for name in read(expression)}
    for metric in DECLARED:
        wanted = {metric.series[0], *(counter.exported for counter in metric.counters)}
        assert wanted <= found, metric.name
    stubs = [path.read_text() for path in (ROOT / "deployments").glob("*/repository/*/1/model.py")]
    of_models = {f"ray_{name}_total" for stub in stubs for name in re.findall(r'Counter\("(\w+)"', stub)}
    assert of_models == set(foreign.SOURCES["the diffusion model"])
    assert of_models <= found


def test_the_metrics_of_rays_nodes_that_they_read_exist() -> None:
    package = Path(ray.__file__).parent
    own = (package / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text()
    for name in foreign.SOURCES["Ray"]:
        assert f'"{name.removeprefix("ray_")}"' in own


def test_the_files_are_what_grafana_reads_and_each_has_an_id_and_a_place_of_its_own() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(dashboards.files())
    models = [json.loads(text) for text in dashboards.files().values()]
    assert len({model["uid"] for model in models}) == len(models) == 5
    for model in models:
        variables = {one["name"] for one in model["templating"]["list"]}
        text = json.dumps(model["panels"])
        assert set(re.findall(r"\$\{?(\w+)", text)) <= variables
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in model["panels"]]
        assert len(set(places)) == len(places) == len({panel["id"] for panel in model["panels"]})
        for panel in model["panels"]:
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references)
            assert all(
                set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped(target["expr"])
                for target in panel["targets"]
            )


def grouped(expression: str) -> set[str]:
    """Labels that the query's result has."""
    return {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}


def test_a_panel_that_is_empty_on_one_machine_says_why() -> None:
    """Whether the reasons hold, and whether all others have data, is tested by tests/service/test_panels.py."""
    for dashboard, panel in PANELS:
        if dashboard.name == "gpu":
            assert panel.absent == dashboards.NEEDS_GPU
    empty = {panel.title for _, panel in PANELS if panel.absent == dashboards.NEEDS_ROLLOUT}
    assert len(empty) == sum("_rollout_" in metric.name for metric in DECLARED)
