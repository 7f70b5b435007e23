"""The alerts in Prometheus' own unit tests: each fires in its case, and none in a normal hour."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.prom_metrics import AutoscalerPrometheusMetrics

from graphs.core.metrics import ERRORS, INGRESS, METRICS, QUEUE_DURATION, REQUEST_DURATION
from graphs.core.metrics import REQUESTS as REQUESTS_TOTAL
from kuberay.manifest import foreign_metrics as foreign
from kuberay.manifest.alerts import POD_LABELS, alerts
from kuberay.manifest.monitoring import monitoring
from kuberay.manifest.objectives import FAST, REQUESTS_RATE, SLOW, WINDOWS, bound, objectives
from kuberay.manifest.selectors import job
from kuberay.profiles import CPU, NAME, Profile
from testing.promtool import promtool
from tests.kuberay.normal_hour import (
    REQUESTS,
    SCRAPE_S,
    SCRAPED,
    SCRAPES,
    Series,
    constant,
    histogram,
    normal_hour,
    of_another,
    phases,
    rising,
    series,
    up,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OPERATIONS, RUNBOOKS = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("operations.md", "runbooks.md"))
NORMAL = normal_hour()
RECORDED = ROOT / "tests" / "kuberay" / "recorded_hour.json"
"""Written by `benchmarks.recorded_hour`."""
OURS = re.compile("ray_(sonograph|serve)_")
"""Names of the metrics that it records."""
READ = {name for name in (key.split("{")[0] for key in NORMAL) if re.search(rf"\b{name}\b", str(monitoring(CPU)))}
"""Names of the series that a rule reads: promtool's time goes with their number."""


BESIDE = pytest.mark.parametrize(
    "other",
    [CPU.changed({"name": "paint"}), CPU.changed({"namespace": "studio"})],
    ids=["two names in one namespace", "one name in two namespaces"],
)
RATIOS = (0, 0.5), (0, 0.9)
"""Recorded shares of a normal hour, and of the other installation."""


def rules(profile: Profile = CPU, split: bool = False) -> dict[str, Any]:
    _, rule = monitoring(profile, split)
    spec: dict[str, Any] = rule["spec"]
    return spec


def failures(folder: Path, tests: list[dict[str, Any]], split: bool = False, beside: tuple[Profile, ...] = ()) -> str:
    """The output of `promtool test rules`, empty where all of them pass. `beside`: further installations with rules."""
    written = {f"rules-{number}.yaml": rules(profile, split) for number, profile in enumerate((CPU, *beside))}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    groups = [group["name"] for content in written.values() for group in content["groups"]]
    order = list(dict.fromkeys(groups))  # otherwise promtool's is another one each time
    file = {"rule_files": list(written), "evaluation_interval": "1m", "group_eval_order": order, "tests": tests}
    (folder / "tests.yaml").write_text(json.dumps(file))
    succeeds, output = promtool(folder, "test", "rules", "tests.yaml")
    return "" if succeeds else output


def firing(recorded: Series, expected: dict[str, set[str]], of: Profile = CPU) -> dict[str, Any]:
    """A test that at each time exactly these alerts fire, all of them of one installation."""
    labels = f'namespace="{of.namespace}",job="{job(of)}"'
    return {
        "interval": f"{SCRAPE_S}s",
        "input_series": [{"series": name, "values": values} for name, values in recorded.items() if name.split("{")[0] in READ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname, namespace, job) (ALERTS{alertstate="firing"})',
                "eval_time": time,
                "exp_samples": [{"labels": f'{{alertname="{name}",{labels}}}', "value": 1} for name in sorted(names)],
            }
            for time, names in expected.items()
        ],
    }


def without(matching: str) -> Series:
    """The normal hour without the series whose names with labels match."""
    return {name: values for name, values in NORMAL.items() if not re.search(matching, name)}


def failing(code: str, per_scrape: float, stage: str = "whisper") -> Series:
    """More requests of each ingress replica that fail."""
    labels = {"application": NAME, "deployment": "ingress", **SCRAPED, "stage": stage, "code": code}
    return {series(ERRORS.exported, **labels, replica=f"ingress#{number}"): rising(per_scrape) for number in (1, 2)}


def slow(metric: Any, scale_s: float, stage: str, integers: bool = False) -> Series:
    labels = {"application": NAME, "deployment": "ingress", **SCRAPED, "stage": stage}
    kept = without(rf"^{metric.exported}_(bucket|sum|count)\{{.*stage=\"{stage}\"")
    made = [histogram(metric, {**labels, "replica": f"ingress#{number}"}, scale_s, integers) for number in (1, 2)]
    return kept | made[0] | made[1]


def status(value: int) -> Series:
    return {series(foreign.APPLICATION_STATUS, application=NAME, **SCRAPED): constant(value)}


@dataclass(frozen=True)
class Case:
    """Series with one fault from the beginning."""

    recorded: Callable[[], Series]
    silent_at: str
    """Before the fault has lasted long enough."""
    firing_at: str
    also: frozenset[str] = frozenset()
    """Alerts of the same fault."""


ALL_FAIL = frozenset({"SonographErrors", "SonographErrorsSlowly"})
CASES = {
    "SonographErrors": Case(lambda: NORMAL | failing("internal", 0.1 * REQUESTS), "1m", "30m", ALL_FAIL),
    "SonographErrorsSlowly": Case(lambda: NORMAL | failing("internal", 0.05 * REQUESTS), "14m", "1h"),
    "SonographLatency": Case(lambda: slow(REQUEST_DURATION, 200.0, INGRESS), "1m", "30m", frozenset({"SonographLatencySlowly"})),
    "SonographLatencySlowly": Case(lambda: slow(REQUEST_DURATION, 60.0, INGRESS, integers=True), "14m", "1h"),
    "SonographDown": Case(lambda: without('^up.*ray_io_group="ingress"'), "2m", "5m"),
    "SonographIngressDown": Case(lambda: without('^ray_serve_deployment_replica_healthy.*"ingress"'), "4m", "6m"),
    "SonographHeadDown": Case(
        # Its own series go with it, and those of the controller.
        lambda: without('^up.*ray_io_node_type="head"|^ray_serve|^autoscaler'),
        "4m",
        "6m",
    ),
    "SonographStatusMissing": Case(lambda: without("^ray_serve_application_status"), "9m", "11m"),
    "SonographModelUnavailable": Case(lambda: NORMAL | failing("model_unavailable", 0.01), "4m", "10m"),
    "SonographQueue": Case(lambda: slow(QUEUE_DURATION, 20.0, "diffusion"), "4m", "10m"),
    "SonographOverloaded": Case(lambda: NORMAL | failing("overloaded", 0.06 * REQUESTS, INGRESS), "4m", "10m"),
    "SonographRateLimited": Case(lambda: NORMAL | failing("rate_limit_exceeded", 0.3 * REQUESTS, INGRESS), "14m", "18m"),
    "SonographDeployFailed": Case(lambda: NORMAL | status(1), "30s", "2m"),
    "SonographUnhealthy": Case(lambda: NORMAL | status(2), "9m", "11m"),
    "SonographDeployStuck": Case(lambda: NORMAL | status(5), "29m", "31m"),
    "SonographUpgradeStuck": Case(
        lambda: NORMAL | {series(foreign.UPGRADE_IN_PROGRESS, namespace=NAME, name=NAME, condition="true"): constant(1)},
        "59m",
        "61m",
    ),
    "SonographReplicasMissing": Case(
        lambda: NORMAL | {series(foreign.DEPLOYMENT_STATUS, application=NAME, deployment="whisper", **SCRAPED): constant(4)},
        "29m",
        "31m",
    ),
    "SonographAutoscalerDown": Case(
        # It starts again and again: one scrape in three succeeds.
        lambda: NORMAL | {up("head", "head"): constant(1), up("head", "head", "as-metrics"): "0 0 1 " * 80},
        "4m",
        "20m",
    ),
    "SonographPodsPending": Case(
        lambda: NORMAL | {series(foreign.PENDING_NODES, NodeType="diffusion", SessionName="s", **SCRAPED): constant(2)},
        "29m",
        "31m",
    ),
    "SonographRedisDown": Case(
        lambda: NORMAL | {series(foreign.STATEFUL_SET_READY, namespace=NAME, statefulset=f"{NAME}-redis"): constant(0)},
        "4m",
        "6m",
    ),
    "SonographRedisMemory": Case(
        lambda: (
            NORMAL | {series(foreign.CONTAINER_RSS, namespace=NAME, pod=f"{NAME}-redis-0", container="redis"): constant(170e6)}
        ),
        "14m",
        "16m",
    ),
}


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    assert set(CASES) == {alert.name for alert in alerts(CPU, split=True)}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_in_its_case_alone_and_not_before_it_has_lasted(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    expected = {case.silent_at: set[str](), case.firing_at: {name} | case.also}
    assert failures(tmp_path, [firing(case.recorded(), expected)]) == ""


def both(other: Profile, faulty: Callable[[], Series] = lambda: NORMAL) -> Series:
    """A normal hour of the profile's installation, and the other one's series beside it."""
    return NORMAL | of_another(other, faulty())


@BESIDE
@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_one_of_two_installations_raises_its_own_alert_alone(name: str, other: Profile, tmp_path: Path) -> None:
    case = CASES[name]
    expected = {case.silent_at: set[str](), case.firing_at: {name} | case.also}
    assert failures(tmp_path, [firing(both(other, case.recorded), expected, other)], beside=(other,)) == ""


@BESIDE
def test_an_installation_that_is_gone_or_fails_every_request_is_seen_beside_another(other: Profile, tmp_path: Path) -> None:
    gone = {"SonographDown", "SonographHeadDown", "SonographStatusMissing"}
    if other.namespace == CPU.namespace:
        gone.add("SonographRedisDown")  # kube-state-metrics reports the namespace, and no StatefulSet of the other in it
    failing_all = both(other, lambda: NORMAL | failing("overloaded", REQUESTS, INGRESS))
    tests = [
        firing(both(other), {"1h": set()}),
        firing(NORMAL, {"20m": gone}, other),
        firing(failing_all, {"20m": {"SonographOverloaded", *ALL_FAIL}}, other),
    ]
    assert failures(tmp_path, tests, beside=(other,)) == ""


@BESIDE
def test_what_is_recorded_of_two_installations_is_apart_and_right(other: Profile, tmp_path: Path) -> None:
    """The other one has twice the requests, half of which fail, and slow answers."""

    def busy() -> Series:
        twice = {name: rising(2 * REQUESTS) for name in NORMAL if name.startswith(f"{REQUESTS_TOTAL.exported}{{")}
        return slow(REQUEST_DURATION, 200.0, INGRESS) | twice | failing("internal", REQUESTS)

    recorded = {REQUESTS_RATE: (2, 4), **{one.recorded: values for one, values in zip(objectives(CPU), RATIOS, strict=True)}}
    expected = [
        {
            "expr": f"round({name}5m, 0.1)",
            "eval_time": "15m",
            "exp_samples": [
                {"labels": f'{{application="{one.service}",namespace="{one.namespace}",job="{job(one)}"}}', "value": value}
                for one, value in zip((CPU, other), values, strict=True)
            ],
        }
        for name, values in recorded.items()
    ]
    test = firing(both(other, busy), {}) | {"promql_expr_test": expected}
    assert failures(tmp_path, [test], beside=(other,)) == ""


def test_in_a_normal_hour_none_fires(tmp_path: Path) -> None:
    times = {f"{minute}m": set[str]() for minute in range(0, 61)}
    assert failures(tmp_path, [firing(NORMAL, times)]) == ""


def test_in_an_hour_of_a_real_services_metrics_none_fires(tmp_path: Path) -> None:
    """Four recorded minutes, repeated; the series of Kubernetes' programs and of the scrapes are the normal hour's."""
    ours = {name: values for name, values in NORMAL.items() if not OURS.match(name)}
    times = {f"{minute}m": set[str]() for minute in range(0, 61)}
    assert failures(tmp_path, [firing(ours | recorded_hour(), times)]) == ""


def test_the_recorded_series_are_those_that_the_rules_read() -> None:
    names = {name.split("{")[0] for name in recorded_hour()}
    assert names == {name for name in READ if OURS.match(name)}
    answered = [values for name, values in recorded_hour().items() if "requests_total" in name and 'stage="ingress"' in name]
    assert len(answered) == 1
    first, *_, last = map(float, answered[0].split())
    assert last - first > 500, "an hour of requests"


def recorded_hour() -> Series:
    """The recording in promtool's notation: counters rise on as in its minutes, and gauges repeat.

    It is of a service outside of Kubernetes: it gets the labels that the PodMonitor gives to the series of pods.
    """
    found: Series = {}
    scraped = ",".join(f'{label}="{value}"' for label, value in SCRAPED.items())
    for name, values in json.loads(RECORDED.read_text()).items():
        period = len(values) - 1
        rise = values[-1] - values[0] if name.split("{")[0].endswith(("_total", "_count", "_bucket")) else 0
        hour = (values[at % period] + at // period * rise for at in range(SCRAPES + 1))
        found[name.replace("}", f",{scraped}}}")] = " ".join(f"{value:g}" for value in hour)
    return found


def test_the_tests_fail_where_an_alert_fires_that_should_not(tmp_path: Path) -> None:
    assert "SonographDown" in failures(tmp_path, [firing(without('^up.*ray_io_group="ingress"'), {"10m": set[str]()})])


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("", {"SonographDown", "SonographHeadDown", "SonographStatusMissing"}),
        ("kube_statefulset", {"SonographRedisDown"}),
    ],
    ids=["no series at all", "no StatefulSet"],
)
def test_series_that_are_missing_raise_an_alert(gone: str, expected: set[str], tmp_path: Path) -> None:
    assert failures(tmp_path, [firing(without(gone), {"20m": expected})]) == ""


def test_a_cluster_without_kube_state_metrics_has_no_alert_on_redis(tmp_path: Path) -> None:
    assert failures(tmp_path, [firing(without("^kube_"), {"20m": set[str]()})]) == ""


def test_all_ingress_pods_that_fail_their_scrape_are_an_outage(tmp_path: Path) -> None:
    failed = NORMAL | {name: constant(0) for name in NORMAL if name.startswith("up{") and 'ray_io_group="ingress"' in name}
    assert failures(tmp_path, [firing(failed, {"5m": {"SonographDown"}})]) == ""


def test_every_request_refused_is_an_outage_of_its_objective(tmp_path: Path) -> None:
    """In the first version of the alerts an hour of it raised none."""
    refused = NORMAL | failing("overloaded", REQUESTS, INGRESS)
    assert failures(tmp_path, [firing(refused, {"20m": {"SonographOverloaded", *ALL_FAIL}})]) == ""


def test_an_objectives_critical_alert_ends_soon_after_its_fault(tmp_path: Path) -> None:
    """The hour's share stays above the threshold for long."""
    counted = 20 * 60 // SCRAPE_S
    (failed, *_) = failing("internal", 1)
    fault = {failed: f"0+{REQUESTS}x{counted} {REQUESTS * counted:g}x100"}
    expected = {"19m": set(ALL_FAIL), "30m": {"SonographErrorsSlowly"}}
    assert failures(tmp_path, [firing(NORMAL | fault, expected)]) == ""


def test_a_rollouts_candidate_that_fails_raises_none(tmp_path: Path) -> None:
    labels = {"application": NAME, "deployment": "ingress", "replica": "ingress#1", **SCRAPED}
    candidate = {
        series(ERRORS.exported, **labels, stage="whisper-candidate", code=code): rising(REQUESTS)
        for code in ("internal", "model_unavailable")
    }
    assert failures(tmp_path, [firing(NORMAL | candidate, {"1h": set[str]()})]) == ""


def test_of_two_services_each_is_watched(tmp_path: Path) -> None:
    """The first one's pods say nothing about the candidate's, nor the other way."""
    ingress, head = up("c-1", "worker", revision="candidate", group="ingress"), up("c-head", "head", revision="candidate")
    scraped = SCRAPED | {"ray_io_cluster": f"{CPU.candidate}-1"}
    deployed = series(foreign.APPLICATION_STATUS, application=CPU.candidate, **scraped)
    healthy = series(foreign.REPLICA_HEALTHY, application=CPU.candidate, deployment="ingress", replica="ingress#3", **scraped)
    both = NORMAL | {ingress: constant(1), head: constant(1), deployed: constant(6), healthy: constant(1)}
    of_first = {name for name in both if name.startswith("up{") and 'ray_io_group="ingress"' in name} - {ingress}
    assert len(of_first) == 2
    tests = [firing(both, {"20m": set()})]
    for gone in ({ingress}, of_first):
        tests.append(firing({name: values for name, values in both.items() if name not in gone}, {"20m": {"SonographDown"}}))
    assert failures(tmp_path, tests, split=True) == ""


def test_each_alert_has_a_section_of_its_name_and_no_section_is_left_over() -> None:
    sections = re.findall(r"^## (Sonograph\w+)$", RUNBOOKS, re.MULTILINE)
    names = [alert.name for alert in alerts(CPU)]
    assert sorted(sections) == sorted(names)
    assert len(set(names)) == len(names)
    _, rule = monitoring(CPU, split=True)
    links = {
        one["alert"]: one["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for one in group["rules"]
        if "alert" in one
    }
    headings = {heading.lower() for heading in sections}
    for name, link in links.items():
        address, _, anchor = link.partition("#")
        assert (ROOT / address).read_text(encoding="utf-8") == RUNBOOKS
        assert anchor == name.lower() in headings


def test_every_runbook_has_its_parts_in_one_order() -> None:
    units = {"m": "min", "h": "h"}
    meaning, look, note = r"\n\w[^\n]+\.\n", r"\n```(console|promql)\n[^`]+\n```\n", r"(\n\w[^\n]+\.\n)?"
    causes = r"\n\| cause \| what to do \|\n\|---\|---\|\n(\|[^\n]+\|\n?)+"
    for alert in alerts(CPU):
        hold = f"{alert.hold[:-1]} {units[alert.hold[-1]]}"
        assert f"| [{alert.name}](#{alert.anchor}) | `{alert.severity}` | {hold} |\n" in RUNBOOKS
        section = RUNBOOKS.split(f"\n## {alert.name}\n")[1].split("\n## ")[0]
        assert re.fullmatch(meaning + look + note + causes, section), f"{alert.name}: its meaning, a first look, its causes"


def test_the_queries_of_the_runbooks_are_promql_of_metrics_that_exist(tmp_path: Path) -> None:
    queries = [query for block in re.findall(r"```promql\n(.*?)```", RUNBOOKS, re.DOTALL) for query in block.splitlines()]
    assert len(queries) >= 5
    exported = {metric.exported for metric in METRICS}
    for name in re.findall(r"ray_\w+", " ".join(queries)):
        assert name.removesuffix("_bucket") in exported
    recorded = [{"record": f"runbook:query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "runbooks", "rules": recorded}]}))
    done, output = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert done, output


def test_every_link_between_the_sections_leads_to_one() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", RUNBOOKS, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOKS)) <= anchors


def test_the_objectives_and_their_thresholds_are_documented() -> None:
    for objective in objectives(CPU):
        (row,) = re.findall(rf"^\| `{objective.name}` \| ([\d.]+)% \| .* \| `([\w:]+)` and the window", OPERATIONS, re.MULTILINE)
        assert (float(row[0]) / 100, row[1]) == (objective.target, objective.recorded)
        for burn, name in ((FAST, objective.name), (SLOW, f"{objective.name}Slowly")):
            section = RUNBOOKS.split(f"\n## {name}\n")[1].split("\n## ")[0]
            assert section.strip().startswith(f"More than {objective.threshold(burn) * 100:g}% of the requests")
    assert "a quarter of `http.deadline_s` (30 s)" in OPERATIONS
    assert "`5m`, `30m`, `1h`, `6h`" in OPERATIONS
    assert WINDOWS == ("5m", "30m", "1h", "6h")


@pytest.mark.parametrize(("most_s", "expected"), [(30.0, 30), (29.9, 20), (0.001, 0.01), (1e6, 300)])
def test_the_objective_of_times_is_at_a_bound_of_the_buckets(most_s: float, expected: float) -> None:
    assert bound(most_s) == expected


def test_the_exporters_that_the_alerts_need_are_documented() -> None:
    rows = dict(re.findall(r"^\| (Ray|KubeRay's|kube-state|the kubelet)[^|]*\| ([^|]*) \|$", RUNBOOKS, re.MULTILINE))
    exporters = {"KubeRay's operator": "KubeRay's", "kube-state-metrics": "kube-state", "the kubelet (cAdvisor)": "the kubelet"}
    for source, row in exporters.items():
        needing = {
            alert.name
            for alert in alerts(CPU)
            for metric in foreign.SOURCES[source]
            if re.search(rf"\b{metric}\b", alert.expression)
        }
        assert set(re.findall(r"`(Sonograph\w+)`", rows[row])) == needing, source


def test_the_metrics_of_ray_exist_in_its_version() -> None:
    import ray

    source = "".join(path.read_text() for path in (Path(ray.__file__).parent / "serve" / "_private").glob("*.py"))
    for name in foreign.SOURCES["Ray Serve"]:
        assert f'"{name.removeprefix("ray_")}"' in source
    families = {family.name for family in AutoscalerPrometheusMetrics("session").registry.collect()}
    assert set(foreign.SOURCES["Ray's autoscaler"]) <= families


def test_the_values_of_a_status_are_rays() -> None:
    from ray.serve._private.common import DeploymentStatus
    from ray.serve.schema import ApplicationStatus

    numbers = {"DeployFailed": "DEPLOY_FAILED", "Unhealthy": "UNHEALTHY", "DeployStuck": "DEPLOYING"}
    expressions = {alert.name.removeprefix("Sonograph"): alert.expression for alert in alerts(CPU)}
    for name, state in numbers.items():
        assert expressions[name].endswith(f" == {ApplicationStatus(state).to_numeric()}")
    assert expressions["ReplicasMissing"].endswith(f" == {DeploymentStatus('UPSCALING').to_numeric()}")


def test_both_objects_have_the_labels_by_which_prometheus_selects_them() -> None:
    for one in monitoring(CPU):
        assert one["metadata"]["labels"] == {"release": "kube-prometheus-stack"}
    own = {"labels": {"release": "prometheus", "team": "voice"}, "runbooks": "https://wiki.example.org/sonograph"}
    pods, rule = monitoring(CPU.changed({"monitoring": own}))
    assert pods["metadata"]["labels"] == rule["metadata"]["labels"] == {"release": "prometheus", "team": "voice"}
    links = [one["annotations"]["runbook_url"] for one in rule["spec"]["groups"][1]["rules"]]
    assert "https://wiki.example.org/sonograph#sonographdown" in links


def test_without_monitoring_nothing_is_for_the_prometheus_operator() -> None:
    assert monitoring(CPU.changed({"monitoring": {"enabled": False}})) == []


def test_the_series_have_the_labels_of_their_pods_that_the_alerts_read() -> None:
    pods, _ = monitoring(CPU)
    assert pods["spec"]["podTargetLabels"] == list(POD_LABELS)
    exported = {re.sub(r"\W", "_", label) for label in POD_LABELS}
    read = {
        label
        for alert in alerts(CPU, split=True)
        for label in re.findall(r"\b(ray_io_\w+|sonograph_revision)\b", alert.expression)
    }
    assert read <= exported


def test_series_in_the_normal_hour_are_apart() -> None:
    """A copy of the hour with a fault does not change the hour itself."""
    before = copy.deepcopy(NORMAL)
    for case in CASES.values():
        case.recorded()
    assert before == NORMAL
    assert phases((1, 1), (2, 100)).split()[0] == "1x1"
