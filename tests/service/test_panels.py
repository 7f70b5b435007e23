"""The dashboards' queries and the rules, in a real Prometheus that scrapes the running service under a short load."""

import asyncio
import math
import shutil
import time
from collections.abc import Iterator

import pytest

from graphs.http.settings import HttpSettings
from kuberay.dashboards import Dashboard, Panel, dashboards
from testing import speech
from testing.client import Call
from testing.prometheus import Prometheus, of_all, scraping
from testing.service import Service

pytestmark = [
    pytest.mark.serve,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus (Debian's package) is not on this machine"),
]
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
LONG = {"steps": "150", "width": "512", "height": "512"}
PANELS = [(dashboard, panel) for dashboard in dashboards() for panel in dashboard.panels]
QUERIES = [expression for _, panel in PANELS if not panel.absent for expression, _ in panel.queries]
WAIT_S = 45


async def load(service: Service) -> None:
    """Send requests that succeed, one that Whisper refuses, and more than there are places, whose clients disconnect."""
    await asyncio.gather(*(asyncio.to_thread(service.draw, CAT, seed=str(seed)) for seed in range(3)))
    refused = await Call(service, CAT, language="fr").finished()
    assert refused.outcome == (422, "invalid_parameter")
    drawn = await Call(service, CAT, **LONG).wait_for("image.step")
    calls = [Call(service, CAT, **LONG) for _ in range(HttpSettings().max_concurrent_requests)]
    await asyncio.to_thread(
        service.wait_until,
        lambda: any(call.problem.get("code") == "overloaded" for call in calls),
        "a refusal for want of a place",
    )
    await asyncio.gather(*(call.disconnect() for call in (drawn, *calls)))


def numbers(prometheus: Prometheus, expression: str) -> list[float]:
    return [float(series["value"][1]) for series in prometheus.now(of_all(expression))]


def wait_until_none_is_empty(prometheus: Prometheus) -> None:
    """Return when each query has data, or after WAIT_S."""
    waiting, deadline_s = list(QUERIES), time.monotonic() + WAIT_S
    while waiting and time.monotonic() < deadline_s:
        waiting = [expression for expression in waiting if not numbers(prometheus, expression)]
        time.sleep(0.5)


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Counters appear under the first load and rise under the second."""
    with scraping(service, tmp_path_factory.mktemp("prometheus")) as prometheus:
        for _ in range(2):
            asyncio.run(load(service))
            wait_until_none_is_empty(prometheus)
        yield prometheus


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda one: getattr(one, "name", None) or one.title)
def test_a_panel_has_data_or_a_reason_that_holds(
    service: Service, prometheus: Prometheus, dashboard: Dashboard, panel: Panel
) -> None:
    for expression, _ in panel.queries:
        if panel.absent:
            assert numbers(prometheus, expression) == [], f"has data, and says: {panel.absent}"
        else:
            service.wait_until(
                lambda expression=expression: any(map(math.isfinite, numbers(prometheus, expression))), expression, 30
            )


def test_each_rule_is_evaluated_and_each_recording_has_data(service: Service, prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(recorded) == 12
    for name in recorded:
        service.wait_until(lambda name=name: any(map(math.isfinite, numbers(prometheus, name))), name, 30)
