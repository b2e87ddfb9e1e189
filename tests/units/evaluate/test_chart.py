"""Charts: any numbers make a picture, the picture says what the numbers say, and scales end on round values."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuyan.evaluate.chart import Axis, Bar, Line, Reference, bar_chart, line_chart, with_mean
from yuyan.evaluate.scale import Scale, smooth, thin, ticks, x_scale, y_scale


def well_formed(chart: str) -> bool:
    """Whether the markup parses, with every piece of a drawing inside a drawing."""
    tree = ElementTree.fromstring(f"<div>{chart}</div>")
    inside = [piece for drawing in tree.iter("svg") for piece in drawing.iter()]
    return all(piece in inside for tag in ("text", "circle", "path", "rect", "line") for piece in tree.iter(tag))


NUMBERS = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.sampled_from([0.0, 1e308, -1e308, 1e-320, 5.0]))


def places(markup: str) -> list[float]:
    """Every number that is drawn with."""
    drawn = re.findall(r' (?:d|points|x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"', markup)
    return [float(n) for text in drawn for n in re.findall(r"-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)", text)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30), st.booleans(), st.booleans(), NUMBERS)
def test_any_numbers_make_a_finite_chart(points: list[tuple[Any, Any]], log: bool, time: bool, level: Any) -> None:
    line = Line("a<b", points, band=[(x, y, y) for x, y in points])
    chart = line_chart([line], Axis("x", log=log, time=time), Axis("y"), references=[Reference("r&", level)])
    assert well_formed(chart) and "a<b" not in chart
    assert all(abs(place) < 1e5 for place in places(chart))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=8))
def test_any_numbers_make_finite_bars(values: list[tuple[Any, Any, Any]]) -> None:
    chart = bar_chart([Bar("<b>", *three) for three in values], title="t")
    assert well_formed(chart) and chart.count("<rect") <= len(values) <= chart.count("&lt;b&gt;")
    assert all(abs(place) < 1e5 for place in places(chart))


def test_bars_are_as_long_as_their_values() -> None:
    chart = bar_chart([Bar("a", 4.0, 3.5, 4.5), Bar("b", 1.0)], title="t")
    long, short = (float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)%"', chart))
    assert long == pytest.approx(4 * short)
    low, high = re.findall(r'class="whisker">.*?class="halo" x1="([\d.]+)%" x2="([\d.]+)%"', chart)[0]
    assert float(low) == pytest.approx(long * 3.5 / 4, abs=0.02) and float(high) == pytest.approx(
        long * 4.5 / 4, abs=0.02
    )
    assert chart.count('class="whisker"') == 1


def test_a_bar_far_beyond_the_others_is_cut_and_says_so() -> None:
    chart = bar_chart([Bar("a", 2.0), Bar("b", 2.2), Bar("c", 900.0)], title="t")
    widths = [float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)%"', chart)]
    assert widths[2] == 100 and widths[0] > 15 and 'class="beyond"' in chart and "900.000" in chart


def test_a_curve_goes_through_its_points() -> None:
    chart = line_chart([Line("a", [(0, 0.0), (5, 10.0), (10, 5.0)])], Axis("x"), Axis("y"), height=100)
    path = re.search(r'class="curve s0" d="M([^"]*)"', chart)
    assert path and path[1].split("L") == ["0.0,100.0", "500.0,0.0", "1000.0,50.0"]


def test_a_gap_stays_a_gap_and_is_owned_up_to() -> None:
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, 2.0), (4, 1.0)]
    chart = line_chart([Line("a", points)], Axis("x"), Axis("y"))
    paths = re.findall(r'class="curve s0" d="M([^"]*)"', chart)
    assert (
        [path.count("L") for path in paths] == [1, 1]
        and paths[0].startswith("0.0,")
        and paths[1].endswith("1000.0,300.0")
    )
    assert "left as gaps: 1" in chart


def test_an_outlier_does_not_flatten_the_curve() -> None:
    points = [(float(i), 1 + math.sin(i)) for i in range(100)]
    points[50] = (50.0, 1e9)
    chart = line_chart([Line("a", points)], Axis("x"), Axis("y"))
    assert "not shown: 1" in chart
    assert y_scale([y for _, y in points]).high < 10


@pytest.mark.parametrize("first", [0.004, 1.0, -3e7, 5e-200])
@pytest.mark.parametrize("apart", [1e-16, 3e-16, 1e-14, 1e-12, 1e-8])
def test_values_that_differ_by_rounding_are_drawn(first: float, apart: float) -> None:
    values = [first, first * (1 + apart)]
    for scale in (y_scale(values), x_scale(values)):
        assert scale.low < scale.high and all(scale.holds(value) for value in values)
        assert 2 <= len(ticks(scale)) <= 13


@pytest.mark.parametrize("last", [1.0, 5.0, 9.0])
def test_curves_that_end_close_together_keep_their_names_apart(last: float) -> None:
    lines = [Line(name, [(0, 10.0 - last), (1, last + i / 1000)]) for i, name in enumerate("abcde")]
    chart = line_chart(lines, Axis("x"), Axis("y"), height=200)
    heights = sorted(float(y) for y in re.findall(r'class="label s0" x="100%" dx="8" y="([\d.]+)"', chart))
    assert len(heights) == 5 and min(b - a for a, b in pairwise(heights)) >= 15.9
    assert heights[-1] <= 205


def test_a_chart_without_points_says_so() -> None:
    for points in ([], [(math.nan, 1.0)], [(1.0, math.nan)]):
        assert "No curve was recorded." in line_chart([Line("a", points)], Axis("x"), Axis("y"))
    assert "没有记录曲线" in line_chart([], Axis("x"), Axis("y"), language="zh")
    assert "<circle" in line_chart([Line("a", [(1.0, 2.0)])], Axis("x"), Axis("y"))


def test_a_noisy_curve_gets_its_mean() -> None:
    noisy = Line("a", [(float(i), (-1.0) ** i) for i in range(1000)])
    faint, mean = with_mean(noisy)
    assert faint.faint and all(abs(y) < 0.2 for _, y in mean.points)
    assert with_mean(Line("a", noisy.points[:100])) == [Line("a", noisy.points[:100])]
    assert smooth([(0.0, 1.0), (1.0, math.nan), (2.0, 3.0)], 3) == [(1.0, 2.0)]


# ---------------------------------------------------------------- scales and ticks


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, max_size=20), st.booleans())
def test_scales_hold_their_values_and_ticks_stand_inside(values: list[Any], log: bool) -> None:
    across = x_scale(values, log=log)
    assert across.low < across.high
    for scale, time in ((across, True), (across, False), (y_scale(values), False)):
        marks = ticks(scale, 5, time=time)
        assert 1 <= len(marks) <= 13 and all(-1e-6 <= mark.at <= 1 + 1e-6 for mark in marks)
        assert [m.at for m in marks] == sorted(m.at for m in marks)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=15))
def test_a_vertical_axis_ends_on_ticks(values: list[float]) -> None:
    marks = ticks(y_scale(values))
    assert marks[0].at == pytest.approx(0, abs=1e-6) and marks[-1].at == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "time", "labels"),
    [
        (Scale(0, 5), False, ["0", "1", "2", "3", "4", "5"]),
        (Scale(2, 2.5), False, ["2.0", "2.1", "2.2", "2.3", "2.4", "2.5"]),
        (Scale(0, 1e-3), False, ["0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"]),
        (Scale(12_000, 16_000), False, ["12k", "13k", "14k", "15k", "16k"]),
        (Scale(0, 300), True, ["0 s", "1 min", "2 min", "3 min", "4 min", "5 min"]),
        (Scale(1, 100, True), False, ["1", "5", "20", "100"]),
    ],
)
def test_ticks_are_round(scale: Scale, time: bool, labels: list[str]) -> None:
    assert [tick.label for tick in ticks(scale, 5, time=time)] == labels


def test_ticks_of_things_that_are_counted() -> None:
    assert [tick.label for tick in ticks(Scale(0, 3), 6)] == ["0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
    assert [float(tick.label) for tick in ticks(Scale(0, 3), 6, whole=True)] == [0, 1, 2, 3]


def test_an_interval_is_not_cut_and_what_hardly_changes_looks_so() -> None:
    """The ends of the vertical axis, by its ticks."""

    def ends(line: Line, axis: Axis) -> tuple[float, ...]:
        labels = re.findall(r'<text class="tick end"[^>]*>([^<]*)<', line_chart([line], Axis("x"), axis))
        return tuple(float(label.replace(",", "")) for label in (labels[0], labels[-1]))

    curve = [(0.0, 2.0), (1.0, 1.6)]
    assert ends(Line("a", curve), Axis("y")) == (1.6, 2.0)
    low, high = ends(Line("a", curve, band=[(0.0, 1.8, 2.3), (1.0, 1.5, 1.7)]), Axis("y"))
    assert low <= 1.5 and high >= 2.3
    flat = Line("a", [(0.0, 905.0), (1.0, 907.0)])
    assert ends(flat, Axis("y"))[0] > 900
    assert ends(flat, Axis("y", from_zero=True))[0] == 0


def test_shares_are_drawn_of_the_whole() -> None:
    """One that is nearly all is not cut at some times the middle one."""
    bars = [Bar("a", 0.97), Bar("b", 0.02), Bar("c", 0.01)]
    assert "beyond" in bar_chart(bars, title="share")
    drawn = bar_chart(bars, title="share", most=1.0)
    assert "beyond" not in drawn and 'width="97.00%"' in drawn


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=3, max_size=400), st.integers(20, 60))
def test_thinning_keeps_order_ends_and_extremes(values: list[float], limit: int) -> None:
    points = [(float(i), y) for i, y in enumerate(values)]
    thinned = thin(points, limit)
    assert len(thinned) <= max(limit, 0) + 2 and [x for x, _ in thinned] == sorted({x for x, _ in thinned})
    assert thinned[0][0] == 0 and thinned[-1][0] == len(points) - 1
    real = [y for y in values if not math.isnan(y)]
    if real:
        kept = [y for _, y in thinned if not math.isnan(y)]
        assert min(kept) == min(real) and max(kept) == max(real)
