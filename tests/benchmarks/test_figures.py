"""Spreads, ratios turn by turn, straight lines: against numbers worked out by hand and SciPy."""

import pytest
from benchmarks.figures import Line, Spread, least, middle, ratio
from scipy.stats import linregress

MEASURED = {
    "slow": [{"seconds": [4.0, 6.0, 5.0], "peak_mib": 300}, {"seconds": [9.0, 9.0, 9.0], "peak_mib": 300}],
    "fast": [{"seconds": [2.0, 2.0, 2.5], "peak_mib": 400}, {"seconds": [3.0, 2.9, 9.0], "peak_mib": 600}],
}


def test_a_spread_is_a_median_and_its_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread(2.388, 2.0, 2.5).text() == "2.39x (2.00 - 2.50)"
    assert Spread(12.4, 10.0, 13.6).text("", digits=0) == "12 (10 - 14)"


def test_a_ratio_is_taken_within_a_turn() -> None:
    assert ratio(MEASURED, "slow", "fast") == Spread(2.75, 2.5, 3.0)  # 5 / 2 and 9 / 3
    assert ratio(MEASURED, "fast", "slow", key="peak_mib").high == 2.0  # 600 / 300


def test_a_figure_may_be_measured_once_or_several_times() -> None:
    assert middle({"seconds": [1.0, 7.0, 2.0]}, "seconds") == 2.0
    assert middle({"seconds": 3}, "seconds") == 3.0


def test_the_least_is_asked_for_by_figure() -> None:
    assert least(MEASURED, ["slow", "fast"]) == "fast"
    assert least(MEASURED, ["slow", "fast"], key="peak_mib") == "slow"


def test_a_line_is_the_one_that_scipy_finds() -> None:
    x, y = [1.0, 2.0, 4.0, 8.0], [1.1, 1.9, 4.4, 7.7]
    line, expected = Line.through(x, y), linregress(x, y)
    assert line.slope == pytest.approx(expected.slope)
    assert line.intercept == pytest.approx(expected.intercept)
    assert line.r_squared == pytest.approx(expected.rvalue**2)


def test_points_on_a_line_have_an_r_squared_of_one() -> None:
    assert Line.through([0.0, 1.0, 2.0], [3.0, 5.0, 7.0]).r_squared == pytest.approx(1)
    assert Line.through([0.0, 1.0], [3.0, 3.0]).r_squared == 1.0
