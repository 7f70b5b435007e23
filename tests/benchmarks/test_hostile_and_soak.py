"""The benchmarks of hostile recordings and of a long mixed run: their tables are the documents', and a leak is found."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import hostile, soak
from testing.hostile import KINDS
from testing.service import ROOT

README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def row(memory_mib: float, honest_s: float) -> dict[str, float]:
    return {"upload_mib": 1.0, "memory_mib": memory_mib, "cpu_s": 0.5, "honest_s": honest_s, "status": 422}


def test_the_readme_shows_the_results() -> None:
    results = ROOT / "benchmarks" / "results"
    assert "\n".join(hostile.table(json.loads((results / "hostile.json").read_text()))) in README
    assert "\n".join(soak.table(json.loads((results / "soak.json").read_text()))) in README


def test_the_results_are_of_every_kind() -> None:
    for result in json.loads((ROOT / "benchmarks" / "results" / "hostile.json").read_text()).values():
        assert list(result["rows"]) == list(KINDS)


def test_a_table_of_two_commits_has_both(tmp_path: Path) -> None:
    results = {name: {"rows": {kind: row(memory, 1.5) for kind in KINDS}} for name, memory in (("before", 2000.0), ("now", 80.0))}
    head, _, first, *_ = hostile.table(results)
    assert "memory, MiB: before | memory, MiB: now" in head
    assert first == "| large indexes | 1.00 | 2000 | 80 | 0.5 | 0.5 | 1.5 | 1.5 |"
    hostile.plot(tmp_path / "chart.png", results)
    assert Image.open(tmp_path / "chart.png").size[0] > 1000


def run_of(pss_mib: list[float], files: list[float]) -> dict[str, object]:
    return {
        "requests": 1000,
        "samples": [
            {"ingress": {"pss_mib": pss, "rss_mib": pss, "files": count, "threads": 30.0}}
            for pss, count in zip(pss_mib, files, strict=True)
        ],
    }


def test_growth_between_the_windows_is_found_and_noise_is_not(tmp_path: Path) -> None:
    flat = run_of([120.0 + number % 3 for number in range(20)], [70.0] * 20)
    leak = run_of([120.0 + 2 * number for number in range(20)], [70.0 + number for number in range(20)])
    assert [soak.grown(figure, *pair) for figure, pair in soak.growth(flat)["ingress"].items()] == [False] * 4
    found = {figure for figure, pair in soak.growth(leak)["ingress"].items() if soak.grown(figure, *pair)}
    assert found == {"pss_mib", "rss_mib", "files"}
    soak.plot(tmp_path / "chart.png", leak)
    assert "| ingress | 129 to 155 " in "\n".join(soak.table(leak))


@pytest.mark.serve
def test_a_short_run_loses_nothing(tmp_path: Path) -> None:
    soak.main(["--requests", "150", "--deaths", "2", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "soak.json").read_text())
    assert (result["wrong"], result["lost"], result["left"]) == ([], [], 0)
    assert result["requests"] >= 150
    assert result["deaths"] == 2
    assert {name.split()[0] for name in result["answers"]} == set(soak.MIX)
