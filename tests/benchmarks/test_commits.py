"""The arithmetic of `benchmarks.commits`, without a service."""

import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from benchmarks import commits
from benchmarks.commits import Cost
from testing.service import ROOT


def costs(*totals_ms: float, idle_ms: float = 0.0) -> list[Cost]:
    return [Cost({"proxy": total_ms / 4, "replica of ingress": total_ms * 3 / 4}, idle_ms) for total_ms in totals_ms]


def test_the_cpu_of_a_request_is_the_difference_by_the_number_of_requests() -> None:
    found = commits.per_request_ms({"proxy": 1.0, "replica of ingress": 2.0}, {"proxy": 1.4, "replica of ingress": 4.0}, 40)
    assert found == pytest.approx({"proxy": 10.0, "replica of ingress": 50.0})


@pytest.mark.parametrize("after", [{"proxy": 0.5}, {"replica of ingress": 2.0}, {}])
def test_a_process_that_was_replaced_spoils_a_pair(after: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="replaced"):
        commits.per_request_ms({"proxy": 1.0}, after, 40)


def test_a_pair_has_the_mean_of_its_turns() -> None:
    found = commits.mean([*costs(10.0, idle_ms=1.0), *costs(20.0, idle_ms=3.0)])
    assert (found.ms, found.idle_ms) == ({"proxy": 3.75, "replica of ingress": 11.25}, 2.0)


def test_the_ratio_is_the_median_over_pairs_and_not_that_of_the_medians() -> None:
    found = commits.summary(costs(10.0, 20.0, 40.0), costs(11.0, 20.0, 60.0))
    assert found["whole"]["ratios"] == pytest.approx([1.1, 1.0, 1.5])
    assert found["whole"]["ratio"] == pytest.approx(1.1)
    assert (found["whole"]["old_ms"], found["whole"]["new_ms"]) == (20.0, 20.0)
    assert found["old_ms"] == {"proxy": 5.0, "replica of ingress": 15.0}


def test_the_ratio_of_requests_alone_leaves_out_the_idle_cpu() -> None:
    found = commits.summary(costs(20.0, idle_ms=10.0), costs(21.0, idle_ms=10.0))
    assert found["whole"]["ratio"] == pytest.approx(1.05)
    assert found["less_idle"]["ratio"] == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("new_ms", "verdict"),
    [([10.0] * 30, "met"), ([10.3] * 30, "met"), ([10.4] * 30, "not met"), ([10.0, 10.6] * 15, "not decided")],
)
def test_the_goal_is_met_by_the_whole_interval(new_ms: list[float], verdict: str) -> None:
    assert commits.summary(costs(*[10.0] * 30), costs(*new_ms))["verdict"] == verdict


def test_a_benchmark_may_have_another_goal() -> None:
    found = commits.summary(costs(*[10.0] * 30), costs(*[10.4] * 30), goal=1.05)
    assert (found["goal"], found["verdict"]) == (1.05, "met")


def test_the_table_has_every_process_and_the_verdict() -> None:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(commits.table("image", commits.summary(costs(10.0, 20.0), costs(10.0, 20.0))))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines() if "│" in line]
    assert [row[0] for row in rows] == ["proxy", "replica of ingress", "all", "the same, less idle CPU"]
    assert rows[2][3:] == ["1.000", "1.000 to 1.000", "met"]


def test_answers_are_compared_without_ids_and_times() -> None:
    def json(**content: object) -> httpx.Response:
        return httpx.Response(200, json=content)

    def events(data: str) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text=f"event: image\ndata: {data}\n\n")

    one, other = json(seed=7, request_id="a", timings_ms={"decode": 1.0}), json(seed=7, request_id="b", timings_ms={})
    assert commits.comparable(one) == commits.comparable(other) != commits.comparable(json(seed=8))
    one, other = events('{"seed": 7, "request_id": "a"}'), events('{"seed": 7, "request_id": "b"}')
    assert commits.comparable(one) == commits.comparable(other) != commits.comparable(events('{"seed": 8}'))


def test_the_models_of_known_cost_compile_for_both_architectures(tmp_path: Path) -> None:
    old = tmp_path / "graphs" / "stages.py"
    old.parent.mkdir()
    old.touch()
    for checkout, ingress in ((ROOT, "graphs.ingress"), (tmp_path, "graphs.voice_to_image")):
        source = commits.module(checkout)
        compile(source, "known_cost.py", "exec")
        assert f"from {ingress} import" in source
        assert repr(str(checkout)) in source
