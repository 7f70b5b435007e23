"""The benchmark of the two numbers, over tasks of known times."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from rich.console import Console

from benchmarks import chart, lanes, two_numbers
from benchmarks.two_numbers import Run, Side
from sonograph.compare.measured import Measured


def task(started_s: float, took_s: float, side: Side | None = None, **changed: Any) -> Measured:
    asked = side or Side("one", "openai-whisper", 1, 1)
    one = Measured(
        key="",
        role="speech-to-text",
        candidate=asked.name,
        model="tiny.en",
        engine=asked.engine,
        settings={},
        input="8 recordings",
        length_s=20.0,
        asked_cpus=asked.asked_cpus,
        asked_bytes=asked.asked_bytes,
        node="node",
        pid=1,
        cores=(0,),
        started_s=started_s,
        ended_s=started_s + took_s,
        load_s=0.0,
        wall_s=took_s,
        cpu_s=took_s,
        threads=asked.threads,
        peak_bytes=1 << 30,
        text=None,
        mean_log_probability=None,
    )
    return replace(one, **changed)


def known(costs: dict[str, float]) -> Callable[[Side], Run]:
    """Return a node whose tasks take so long by their side, as many at once as two CPUs allow."""

    def run(side: Side) -> Run:
        at_once = int(2 // side.asked_cpus)
        took_s = costs[side.name] * side.recordings
        return Run([task(number // at_once * took_s, took_s, side) for number in range(two_numbers.TASKS)], 10 * side.threads)

    return run


def found(costs: dict[str, float]) -> dict[str, Any]:
    of = [replace(side, recordings=1) for side in two_numbers.sides("openai-whisper", 2)]
    two_numbers.console.quiet = True
    return two_numbers.summarized(two_numbers.rounds(known(costs), of, 3))


STORY, ONE, ALL = "asks for 1 CPU, runs 8 threads", "asks for 1 CPU, runs 1 thread", "asks for 2 CPUs, runs 2 threads"


def test_the_sides_are_the_story_and_the_two_ways_to_ask_for_what_is_used() -> None:
    assert [(side.name, side.asked_cpus, side.threads) for side in two_numbers.sides("faster-whisper", 2)] == [
        (STORY, 1, 8),
        (ONE, 1, 1),
        (ALL, 2, 2),
    ]
    assert len(two_numbers.sides("faster-whisper", 1)) == 2


@pytest.mark.parametrize(("all_s", "best", "ratio"), [(0.6, ONE, 2.5), (0.4, ALL, 3.125)])
def test_the_story_is_compared_with_the_best_of_the_others(all_s: float, best: str, ratio: float) -> None:
    result = found({STORY: 2.5, ONE: 1.0, ALL: all_s})
    assert result["best"] == best
    assert result["wall"]["ratio"] == pytest.approx(ratio)
    assert result["sides"][STORY]["at_once"] == 2
    assert result["sides"][ALL]["at_once"] == 1
    assert result["sides"][STORY]["core_s"] == pytest.approx(15)
    assert result["switches"]["ratio"] == pytest.approx(8 if best == ONE else 4)
    assert f"{ratio:.2f} times the wall time" in two_numbers.sentence(result)


def test_the_first_round_does_not_count_and_has_one_recording() -> None:
    asked = list[int]()

    def run(side: Side) -> Run:
        asked.append(side.recordings)
        return Run([task(0, 1, side)], 0)

    two_numbers.console.quiet = True
    of = two_numbers.sides("openai-whisper", 2)
    ran = two_numbers.rounds(run, of, 2)
    assert asked == [1] * 3 + [two_numbers.RECORDINGS["openai-whisper"]] * 6
    assert {len(runs) for runs in ran.values()} == {2}


def test_the_table_has_a_line_for_each_side() -> None:
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(two_numbers.table(found({STORY: 2.5, ONE: 1.0, ALL: 0.6})))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines() if "│" in line]
    assert lines[0] == [STORY, "7.5", "15.0", "80", "2", "8", "2.5"]
    assert [line[0] for line in lines] == [STORY, ONE, ALL]


def test_memory_that_tasks_ask_for_bounds_how_many_run_at_once_and_not_what_they_use() -> None:
    def run(side: Side) -> Run:
        assert side.asked_bytes is not None
        at_once = min(two_numbers.TASKS, two_numbers.NODE_BYTES // side.asked_bytes)
        return Run([task(number // at_once * 2.0, 2.0, side) for number in range(two_numbers.TASKS)], 0)

    result = two_numbers.memory(run)
    assert result["used_bytes"] == 1 << 30
    assert {name: (one["at_once"], one["together_bytes"] >> 30) for name, one in result["sides"].items()} == {
        "too small": (6, 6),
        "right-sized": (3, 3),
    }
    assert (
        result["sides"]["right-sized"]["together_bytes"] <= result["node_bytes"] < result["sides"]["too small"]["together_bytes"]
    )


def test_a_bar_of_the_timeline_is_as_long_as_its_task(tmp_path: Path) -> None:
    run = Run([task(0, 2), task(0, 4), task(2, 1)], 0)
    rows = [two_numbers.row("one", run), lanes.Row("other", "", [(0, 8, 0)])]
    lanes.draw(tmp_path / "lanes.png", {"group": rows})
    pixels = np.asarray(Image.open(tmp_path / "lanes.png").convert("RGB"))
    widths = [
        int((pixels == np.array(ImageColor.getrgb(chart.COLOURS[colour]))).all(axis=2).sum(axis=1).max()) for colour in (0, 1)
    ]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.02)
    assert rows[0].lanes == 2


def test_the_middle_round_is_drawn() -> None:
    runs = [Run([task(0, took_s)], 0) for took_s in (5, 1, 3)]
    assert two_numbers.middle(runs).wall_s == 3
