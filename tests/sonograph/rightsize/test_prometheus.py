"""A Prometheus that is asked for a service's nodes, and what is none."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sonograph.errors import Failed
from sonograph.rightsize.prometheus import Prometheus
from tests.sonograph.rightsize.figures import MIB


def prometheus(answer: Callable[[httpx.Request], httpx.Response]) -> Prometheus:
    return Prometheus("http://192.0.2.9:9090", httpx.MockTransport(answer))


def series(ip: str, *points: Any) -> dict[str, Any]:
    return {"metric": {"ip": ip}, "values": [*points]}


def success(*result: Any) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": {"resultType": "matrix", "result": [*result]}})


def test_samples_are_joined_by_node_and_time_and_what_cannot_be_true_is_left_out() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        query = request.url.params["query"]
        if "cpu_utilization" in query:
            points = [[60, "0.5"], [120, "1.5"], [180, "NaN"], [240, "-1"], [300, "1e99"], [360], "x", None, [420, None]]
            return success(series("192.0.2.1", *points), {"metric": 5}, "x")
        if "mem_used" in query:
            return success(series("192.0.2.1", [60, str(100 * MIB)]))
        if "gram_used" in query:
            return success(series("192.0.2.1", [120, "10"]))
        return success()

    found = prometheus(answer).nodes(["192.0.2.1", 'evil"}) or vector(1)', "192.0.2.1"], 86_400)
    (samples,) = found.values()
    assert [(one.cpus, one.memory_bytes, one.gpu_bytes) for one in samples] == [(0.5, 100 * MIB, None), (1.5, None, 10 * MIB)]
    assert all(float(one["step"]) * 1_000 >= 86_400 for one in asked)
    assert not any("evil" in one["query"] for one in asked)
    assert '{ip=~"192\\\\.0\\\\.2\\\\.1"}' in asked[0]["query"]


def test_without_an_address_nothing_is_asked() -> None:
    with pytest.raises(Failed, match="no addresses"):
        prometheus(lambda _: success()).nodes(["", "front"], 3600)


def test_requests_are_those_of_the_application_whose_name_is_quoted() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["query"])
        return httpx.Response(200, json={"status": "success", "data": {"result": [{"metric": {}, "value": [1, "12.5"]}]}})

    assert prometheus(answer).requests('a"b\\', 3600) == 12.5
    assert asked == ['sum(increase(ray_sonograph_requests_total{application="a\\"b\\\\",stage="ingress"}[3600s]))']
    assert prometheus(lambda _: success()).requests("a", 3600) is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda _: httpx.Response(404, text="not here"), "does not answer as Prometheus does"),
        (lambda _: httpx.Response(500, json={"status": "error", "error": "too many"}), "refuses .500.: too many"),
        (lambda _: httpx.Response(200, json=[]), "refuses"),
        (lambda _: httpx.Response(200, content=b"\xff\x00"), "does not answer as Prometheus does"),
        (lambda request: (_ for _ in ()).throw(httpx.ConnectError("refused", request=request)), "no Prometheus answers"),
        (lambda request: (_ for _ in ()).throw(httpx.ReadTimeout("", request=request)), "silent for too long"),
    ],
    ids=["404", "500", "a list", "garbage", "refused", "never"],
)
def test_what_is_no_prometheus_is_named(answer: Callable[[httpx.Request], httpx.Response], says: str) -> None:
    with pytest.raises(Failed, match=says):
        prometheus(answer).nodes(["192.0.2.1"], 3600)


@pytest.mark.parametrize("data", [None, 5, {}, {"result": 5}, {"result": [{"metric": {}, "values": 5}]}], ids=repr)
def test_an_answer_of_another_form_has_no_series(data: Any) -> None:
    found = prometheus(lambda _: httpx.Response(200, json={"status": "success", "data": data}))
    assert found.nodes(["192.0.2.1"], 3600) == {}


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(Failed):
        Prometheus("http://[").nodes(["192.0.2.1"], 3600)
