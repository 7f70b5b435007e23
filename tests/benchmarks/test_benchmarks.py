"""The benchmarks' arithmetic and load generators, without a service."""

import asyncio
import io
import json
import math
import statistics
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor
from rich.console import Console

from benchmarks import chart, overload, padding, recovery, services, transcription
from benchmarks.load import NO_ANSWER, Answer, arrivals, closed_loop, open_loop, per_s, percentile, sender
from benchmarks.services import ARTICLE
from testing.service import ROOT

pytestmark = pytest.mark.torch


class Caller:
    """A fake `send` that counts concurrent requests."""

    def __init__(self, takes_s: float = 0.01) -> None:
        self.numbers: list[int] = []
        self.most = 0
        self._takes_s = takes_s
        self._under_way = 0

    async def send(self, number: int) -> int:
        self.numbers.append(number)
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(self._takes_s)
        self._under_way -= 1
        return 200


def answers(*outcomes: tuple[float, float, int]) -> list[Answer]:
    return [Answer(*outcome) for outcome in outcomes]


def row(load: float = 1.0, **changed: Any) -> overload.Row:
    base = overload.summary(answers((0.0, 1.0, 200), (1.0, 2.0, 200)), load, 1.0, 2.0, (100.0, 100.0), 0.1, 0.0)
    return overload.Row(**(vars(base) | changed))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wrong"),
    [
        ("a castle made of ice cream", "A castle, made of ice-cream.", 0),
        ("a cold hearted man", "a coldhearted man", 0),
        ("the coldhearted man", "the cold hearted man", 0),
        ("icecream", "ice cream", 0),
        ("a cold hearted man", "a coldhearted map", 1),
        ("a bowl of oranges", "a bowl of orange as", 2),
        ("a bowl of oranges", "", 4),
        ("", "a bowl", 2),
        ("red green blue", "green blue black", 2),
    ],
)
def test_wrong_words_count_and_the_spacing_of_compounds_does_not(reference: str, hypothesis: str, wrong: int) -> None:
    assert padding.word_errors(padding.normal(reference), padding.normal(hypothesis)) == wrong


def test_a_percentile_is_one_of_the_values_by_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0, 0.5, 0.95, 0.99, 1)] == [1, 50, 95, 99, 100]
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_bounds_its_share_of_the_values(values: list[float], share: float) -> None:
    at_most = percentile(values, share)
    assert at_most in values
    assert sum(value <= at_most for value in values) >= share * len(values) * (1 - 1e-9)


def test_arrivals_are_a_seeded_poisson_process() -> None:
    due_s = arrivals(50.0, 100.0, seed=1)
    assert due_s == arrivals(50.0, 100.0, seed=1) != arrivals(50.0, 100.0, seed=2)
    assert due_s == sorted(due_s)
    assert 0 < due_s[0] <= due_s[-1] < 100
    assert len(due_s) == pytest.approx(5000, rel=0.05)
    gaps_s = [after - before for before, after in pairwise(due_s)]
    assert statistics.pstdev(gaps_s) == pytest.approx(statistics.mean(gaps_s), rel=0.05)  # as exponential ones are


async def test_the_open_loop_waits_for_no_answer() -> None:
    caller, ended = Caller(takes_s=1.0), list[int]()
    found = await open_loop(caller.send, [0.0001 * number for number in range(10)], lambda: ended.append(1))
    assert caller.most == 10
    assert sorted(caller.numbers) == list(range(10))  # two that are overdue may change places
    assert [answer.due_s for answer in found] == [0.0001 * number for number in range(10)]
    assert all(answer.ended_s >= answer.due_s for answer in found)
    assert len(ended) == 10


async def test_the_closed_loop_runs_one_request_per_caller() -> None:
    caller = Caller()
    found = await closed_loop(caller.send, 4, 0.2)
    assert caller.most == 4
    assert caller.numbers[:8] == list(range(8))
    assert 4 <= len(found) <= len(caller.numbers)
    assert all(answer.ended_s <= 0.2 for answer in found)


async def test_a_request_ends_in_its_status_or_in_no_answer() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        sent = (await request.aread()).split(b"\r\n\r\n")[1].split(b"\r\n")[0]
        if sent == b"slow":
            await asyncio.sleep(60)
        if sent == b"broken":
            raise httpx.ReadError("the connection broke")
        return httpx.Response(int(sent))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as http:
        send = sender(http, [b"200", b"503", b"slow", b"broken"], client_s=0.05)
        assert [await send(number) for number in range(5)] == [200, 503, NO_ANSWER, NO_ANSWER, 200]


def test_a_rate_counts_from_the_first_answer() -> None:
    steady = answers(*((0.0, 3.0 + number, 200) for number in range(5)), (0.0, 20.0, 503))
    assert per_s(steady) == 1.0
    assert per_s(steady, until_s=13.0) == 0.4
    assert per_s(steady[:1]) == 0.0
    assert per_s([]) == 0.0


def test_a_row_counts_every_request_by_its_outcome() -> None:
    load = answers(
        (0.0, 1.0, 200),
        (0.0, 2.0, 200),
        (0.5, 3.0, 200),
        (1.0, 1.05, 503),
        (1.0, 1.02, 503),
        (1.0, 9.0, 504),
        (1.0, 1.5, 500),
        (1.0, 61.0, NO_ANSWER),
    )
    found = overload.summary(load, 2.0, 0.5, 4.0, (100.0, 110.0), 0.1, 0.0)
    assert (found.sent, found.ok, found.refused, found.late, found.other, found.no_answer) == (8, 3, 2, 1, 1, 1)
    assert found.per_s == 2.0
    assert found.goodput == pytest.approx(2 / 60 / 0.5)  # to the end of the last request, which had no answer
    assert (found.p50_s, found.p95_s) == (2.0, 60.0)
    assert found.refused_p99_s == pytest.approx(0.05)


def test_a_load_without_requests_has_no_latencies() -> None:
    found = overload.summary([], 2.0, 1.0, 4.0, (1.0, 1.0), 0.0, 0.0)
    assert (found.sent, found.goodput) == (0, 0.0)
    assert math.isnan(found.p95_s)
    assert math.isnan(found.refused_p99_s)


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({}, [True, True, True, True]),
        ({"goodput": 0.949}, [False, True, True, True]),
        ({"p95_s": 24.7}, [True, True, True, True]),
        ({"p95_s": 24.8}, [True, False, True, True]),
        ({"refused_p99_s": 0.101}, [True, True, False, True]),
        ({"rss_after_mib": 106.0}, [True, True, True, False]),
        ({"refused": 0, "refused_p99_s": math.nan}, [True, True, None, True]),
    ],
)
def test_each_goal_is_met_or_not(changed: dict[str, Any], met: list[bool | None]) -> None:
    good = {"goodput": 0.96, "p95_s": 10.0, "refused": 3, "refused_p99_s": 0.1, "rss_before_mib": 100.0, "rss_after_mib": 104.0}
    rows = [row(1.0), row(2.0, **(good | changed))]
    assert [goal.met for goal in overload.goals(rows, 2.0, 32)] == met  # (32 + 1) / 2 x 1.5 = 24.75 s, for p95


def test_a_goal_without_a_measurement_is_neither_met_nor_missed() -> None:
    assert overload.goals([row(1.0)], 1.0, 32)[0].met is None
    assert [goal.met for goal in overload.goals([], 1.0, 32)] == [None] * 4


def test_overload_lasts_longer_by_the_time_to_fill_the_queue() -> None:
    assert overload.duration_s(20.0, 0.5, 2.0, 32) == 20.0
    assert overload.duration_s(20.0, 1.0, 2.0, 32) == 20.0
    assert overload.duration_s(20.0, 2.0, 2.0, 32) == 36.0
    assert overload.duration_s(20.0, 5.0, 2.0, 32) == 24.0


def test_the_table_has_a_line_for_each_load_and_no_nan() -> None:
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(
        overload.table(overload.Measured("sonograph", 1.25, 0.2, [row(0.5), row(2.0, refused_p99_s=0.0123, refused=4)]))
    )
    printed = console.export_text()
    assert "sonograph: capacity 1.25/s (others' cores: 0.2)" in printed
    lines = [line for line in printed.splitlines() if " x " in line]
    assert [line.split("│")[1].strip() for line in lines] == ["0.5 x", "2 x"]
    assert [line.split("│")[13].strip() for line in lines] == ["-", "12"]
    assert "nan" not in printed


def test_results_are_standard_json(tmp_path: Path) -> None:
    overload._write(tmp_path / "results" / "overload.json", {"p95_s": math.nan, "sent": 3})
    assert json.loads((tmp_path / "results" / "overload.json").read_text()) == {"p95_s": None, "sent": 3}


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (4.0, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (61.0, [0, 10, 20, 30, 40, 50, 60, 70]),
        (0.0, [0, 1]),
    ],
)
def test_the_axis_ends_at_a_round_number(highest: float, ticks: list[float]) -> None:
    assert chart.ticks(highest) == pytest.approx(ticks)


def test_the_chart_shows_both_services(tmp_path: Path) -> None:
    rows = [row(0.5), row(1.0), row(2.0, p95_s=math.nan), row(4.0)]
    results = [overload.Measured(name, 1.0, 0.0, rows) for name in ("sonograph", "article")]
    overload._chart(tmp_path / "results" / "overload.png", results)
    picture = Image.open(tmp_path / "results" / "overload.png").convert("RGB")
    assert picture.size == (2 * chart.WIDTH, chart.HEIGHT)
    colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or ()}
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # blue and vermilion


def test_a_bar_is_as_long_as_its_value(tmp_path: Path) -> None:
    bars = [chart.Bar("article", 1.5, 1), chart.Bar("exact", 0.75, 0)]
    chart.draw(tmp_path / "bars.png", ["this service", "the article's shape"], [chart.Bars("CPU seconds", bars)])
    pixels = np.asarray(Image.open(tmp_path / "bars.png").convert("RGB"))[chart.TOP :]
    longest = {
        colour: (pixels == np.array(ImageColor.getrgb(chart.COLOURS[colour]))).all(axis=2).sum(axis=1).max() for colour in (0, 1)
    }
    assert longest[1] == pytest.approx(2 * longest[0], rel=0.02)


async def test_a_recovery_records_the_outcome_of_each_request() -> None:
    streams = {
        b"good": ["transcript", "done"],
        b"retried": ["retry", "done"],
        b"failed": ["error"],
        b"cut": ["transcript"],
    }

    async def answer(request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        (recording,) = (name for name in (*streams, b"refused", b"broken") if name in body)
        if recording == b"refused":
            return httpx.Response(503)
        if recording == b"broken":
            raise httpx.ReadError("the connection broke")

        async def stream() -> AsyncIterator[bytes]:
            for event in streams[recording]:
                yield f'event: {event}\ndata: {{"problem": {{"status": 504}}}}\n\n'.encode()

        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream())

    sent: list[recovery.SentRequest] = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as http:
        for recording in (b"good", b"retried", b"failed", b"cut", b"refused", b"broken"):
            await recovery.draw(http, recording, sent)
    assert [one.outcome for one in sent] == ["200", "200", "504", "cut", "503", "no answer"]
    assert [one.retried_s is not None for one in sent] == [False, True, False, False, False, False]
    assert all(one.ended_s >= one.sent_s for one in sent)


def test_a_recovery_is_timed_from_the_kill() -> None:
    sent = [
        recovery.SentRequest(7.0, 9.0, "200"),  # before it
        recovery.SentRequest(9.5, 10.5, "200"),  # sent before it
        recovery.SentRequest(9.8, 17.0, "200", retried_s=11.0),
        recovery.SentRequest(10.2, 10.4, "503"),
        recovery.SentRequest(15.5, 16.5, "200"),
    ]
    probes = [(9.0, False), (10.1, True), (12.0, False), (13.0, True), (14.0, False), (15.0, True), (16.0, True)]
    found = recovery.summary(10.0, sent, probes)
    times = (found.noticed_s, found.unready_s, found.ready_s, found.first_200_s, found.longest_s)
    assert times == pytest.approx((0.4, 2.0, 5.0, 6.5, 7.2))
    assert found.outcomes == {"200": 2, "200 at the second try": 1, "503": 1}


def test_an_unnoticed_kill_has_no_times() -> None:
    found = recovery.summary(10.0, [recovery.SentRequest(11.0, 12.0, "200")], [(10.5, True), (11.5, True)])
    assert (found.noticed_s, found.unready_s, found.ready_s, found.first_200_s) == (None, None, None, 2.0)
    console = Console(width=150, file=io.StringIO(), record=True)
    console.print(recovery.table({"whisper's stub": found}))
    (line,) = (line for line in console.export_text().splitlines() if "stub" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["whisper's stub", "-", "-", "-", "2.0", "1.0", "1 x 200"]


@pytest.mark.parametrize(("model", "settings"), [("whisper", "WhisperSettings()"), ("diffusion", "DiffusionSettings()")])
def test_the_article_runs_the_services_models_with_their_default_settings(model: str, settings: str) -> None:
    assert settings in (ARTICLE / "repository" / model / "1" / "model.py").read_text()


def test_a_peer_runs_without_the_services_variables_of_ray() -> None:
    assert [name for name in services.without_rays() if name.startswith("RAY_")] == ["RAY_USAGE_STATS_ENABLED"]
    assert "RAY_SERVE_USE_GRPC_BY_DEFAULT" in services.variables()


def test_the_article_has_the_services_cpus() -> None:
    def cpus(path: Path) -> dict[str, float]:
        (application,) = yaml.safe_load(path.read_text())["applications"]
        return {one["name"].lower(): one.get("ray_actor_options", {}).get("num_cpus", 0) for one in application["deployments"]}

    assert cpus(ARTICLE / "serve.yaml") == cpus(ROOT / "graphs" / "local.yaml")


def test_sixteen_recordings_of_three_to_twelve_seconds_are_whole_sentences() -> None:
    found = transcription.recordings()
    lengths_s = [audio.size / 16_000 for audio, _ in found]
    assert len(found) == 16
    assert min(lengths_s) >= 3
    assert max(lengths_s) < 12, "a longer recording would be cut and lack words"
    assert max(lengths_s) - min(lengths_s) > 5
    assert all(len(words) / length_s > 1 for (_, words), length_s in zip(found, lengths_s, strict=True))


def test_long_recordings_take_one_to_two_minutes_and_differ_in_order() -> None:
    found = transcription.long_recordings()
    lengths_s = [audio.size / 16_000 for audio, _ in found]
    assert len(found) == 10
    assert min(lengths_s) >= 60
    assert max(lengths_s) <= 120
    assert all(1 < len(words) / length_s < 4 for (_, words), length_s in zip(found, lengths_s, strict=True))
    assert len({tuple(words[:10]) for _, words in found}) == 10


def test_wrong_words_are_counted_over_all_recordings() -> None:
    assert transcription.word_error_rate(["a cat", "the dog runs"], [["a", "cat"], ["a", "dog", "run"]]) == pytest.approx(2 / 5)
