"""Pictures of the dashboards' panels: each query's series, at its panel's place, in its unit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from benchmarks import chart, dashboard, panels
from kuberay.dashboards import Dashboard, Panel, grafana

START_S, END_S = 1_800_000_000.0, 1_800_000_480.0
STEP_S = (END_S - START_S) / dashboard.POINTS
DOCS = Path(__file__).parents[2] / "docs"


class Answers(dict[str, list[dict[str, Any]]]):
    """The series that Prometheus has, by the query."""

    def now(self, expression: str) -> list[dict[str, Any]]:
        return self.get(expression, [])

    def over(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        assert (start_s, end_s, step_s) == (START_S, END_S, STEP_S)
        return self.get(expression, [])


def constant(value: float, until_s: float = END_S, **labels: str) -> dict[str, Any]:
    times = [START_S + number * STEP_S for number in range(dashboard.POINTS + 1)]
    return {"metric": labels, "values": [[at_s, str(value)] for at_s in times if at_s <= until_s]}


def drawn(answers: Answers, *of: Panel) -> NDArray[np.uint8]:
    return np.asarray(dashboard.draw(grafana(Dashboard("one", "One", of)), answers, START_S, END_S))


def coloured(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of the first series, above the legend."""
    near = np.abs(picture.astype(int) - ImageColor.getrgb(chart.COLOURS[0])).max(axis=2) < 40
    return near[: -2 * dashboard.ROW_PX]


def test_a_series_is_drawn_in_its_panel_at_its_height_until_it_ends() -> None:
    empty, filled = Panel("empty", (("a", ""),)), Panel("filled", (('b{application=~"$application"}', "b"), ("c", "c")))
    half_s = (START_S + END_S) / 2
    answers = Answers({'b{application=~".+"}': [constant(2, half_s)], "c": [constant(4)]})
    picture = drawn(answers, empty, filled)
    middle = picture.shape[1] // 2
    assert not coloured(picture)[:, :middle].any()
    rows, columns = np.nonzero(coloured(picture)[:, middle:])
    left, right = dashboard.LEFT + 4, middle - 4 - dashboard.RIGHT
    assert (columns.min(), columns.max()) == pytest.approx((left, (left + right) / 2), abs=4)
    assert np.ptp(rows) <= 4, "a line"
    top, bottom = dashboard.TOP + 4, picture.shape[0] - 4 - 8 - dashboard.LINE - 28
    assert rows.mean() == pytest.approx((top + bottom) / 2, abs=4), "half of the other, which ends the axis"


def test_an_empty_panel_says_why() -> None:
    reason, none = (drawn(Answers(), Panel("GPU", (("a", ""),), absent=absent)) for absent in ("no data without a GPU", ""))
    assert (reason != none).any()


def test_a_table_has_a_line_for_each_series() -> None:
    table = Panel("Replicas", (("a", ""),), is_table=True)
    rows = [{"metric": {"replica": str(number)}, "value": [END_S, "1"]} for number in range(3)]
    inks = [np.count_nonzero(drawn(Answers({"a": rows[:count]}), table) < 128) for count in (1, 2, 3)]
    assert inks == sorted(set(inks))


def series(answers: Answers, panel: Panel) -> list[dashboard.Series]:
    (model,) = grafana(Dashboard("one", "One", (panel,)))["panels"]
    return dashboard.series_of(answers, panel.queries, model, START_S, END_S)


def test_a_series_has_its_legend_and_its_unit() -> None:
    answers = Answers({"a": [constant(0.25, stage="whisper", code="internal"), constant(float("nan"), stage="decode")]})
    (found,) = series(answers, Panel("Share", (("a", "{{stage}} {{code}}{{other}}"),), unit="percentunit"))
    assert found.name == "whisper internal"
    assert {value for _, value in found.points} == {25}


def test_series_of_the_same_labels_share_a_colour_only_where_there_are_more_than_colours() -> None:
    def colours(stages: int) -> list[tuple[int, ...]]:
        of_stages = [constant(1, stage=str(number)) for number in range(stages)]
        panel = Panel("Two", (("a", "{{stage}}"), ("b", "{{stage}}")))
        return [one.colour for one in series(Answers({"a": of_stages, "b": of_stages}), panel)]

    assert len(set(colours(4))) == 8
    many = colours(5)
    assert len(set(many)) == 10
    for first, second in zip(many[:5], many[5:], strict=True):
        assert second == tuple(round(255 - (255 - part) * dashboard.SHADES[1]) for part in first)


@pytest.mark.parametrize("name", panels.DASHBOARDS)
def test_a_picture_of_the_docs_is_small_and_shows_every_panel(name: str) -> None:
    path = DOCS / f"dashboard-{name}.webp"
    places = [panel["gridPos"] for panel in json.loads((DOCS / "dashboards" / f"{name}.json").read_text())["panels"]]
    size = dashboard.COLUMNS * dashboard.COLUMN_PX, max(place["y"] + place["h"] for place in places) * dashboard.ROW_PX
    assert Image.open(path).size == size, "draw it again: python -m benchmarks.panels"
    assert path.stat().st_size < 150_000
    assert f'src="{path.name}"' in (DOCS / "metrics.md").read_text()
