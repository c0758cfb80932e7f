"""How figures and plans are written in a report."""

import numpy as np
import pytest

from nasbench.report.diagram import Part, Place
from nasbench.report.formatting import (
    chance_text,
    costs_text,
    figure_text,
    intervals_text,
    is_missing,
    plan_name,
    plan_words,
    what_would_decide,
    with_interval,
)
from nasbench.report.tables import Cell, plan_cell, verdict_cell


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "text"),
    [
        (0.41, 0.39, 0.43, "", "0.410 [0.390, 0.430]"),
        (0.41, 0.39, 0.43, "+", "+0.410 [+0.390, +0.430]"),
        (0.41, np.nan, np.nan, "", "0.41"),
        (0.0, 0.0, 0.0, "+", "+0"),
        (1e-17, -0.1, 0.1, "+", "+0.00 [-0.10, +0.10]"),
        (-0.000929, -0.0991, 0.0972, "+", "-0.001 [-0.099, +0.097]"),  # the error is 0.098
        (0.0247, -0.000373, 0.0497, "+", "+0.025 [-0.0004, +0.050]"),  # contains 0, which +0.000 would hide
        (-0.0247, -0.0497, 0.000373, "+", "-0.025 [-0.050, +0.0004]"),
        (0.0247, 0.000373, 0.0491, "+", "+0.025 [+0.0004, +0.049]"),
        (0.0247, -1e-17, 0.0494, "+", "+0.025 [+0.000, +0.049]"),
        (1234.5, 1100.0, 1370.0, "", "1230 [1100, 1370]"),  # the error is 135, of which 130 is told
        (1.23e-6, 1.1e-6, 1.36e-6, "", "1.23e-06 [1.10e-06, 1.36e-06]"),
        (0.9, -np.inf, np.inf, "", "0.9"),
        (None, 0.0, 1.0, "", ""),
        (np.nan, 0.0, 1.0, "+", ""),
    ],
)
def test_a_figure_with_its_interval(value, low, high, sign, text):
    assert with_interval(value, low, high, sign) == text


def test_figures_and_what_is_missing():
    assert [figure_text(value) for value in (0.123456, 1_234_567, None, float("nan"))] == ["0.1235", "1.23 M", "", ""]
    assert [is_missing(value) for value in (None, np.nan, 0, "", "nan")] == [True, True, False, False, False]


def test_different_costs_have_different_texts():
    assert costs_text([148_100_000, 16_400_000]) == ["148 M", "16.4 M"]
    assert costs_text([148_101_000, 148_120_000, 148_120_000, None]) == ["148.10 M", "148.12 M", "148.12 M", ""]
    assert costs_text([148_000_001.0, 148_000_002.0]) == ["148.000001 M", "148.000002 M"]
    assert costs_text([100.0, 200.0]) == ["100", "200"]
    assert costs_text([1_500_000, 1_230_000]) == ["1.50 M", "1.23 M"]
    assert costs_text([0.5, 1.0869613, None]) == ["0.500", "1.087", ""]


def test_the_numbers_of_a_column_align():
    interval = (0.9034, 0.8851, 0.9212)
    assert intervals_text([interval, (0.89961, np.nan, np.nan)]) == ["0.903 [0.885, 0.921]", "0.900"]
    assert intervals_text([(0.8996, None, None), (0.9, None, None), (None, None, None)]) == ["0.8996", "0.9000", ""]
    assert intervals_text([(0.01, None, None), (0.0, -0.01, 0.01)], "+") == ["+0.010", "+0.000 [-0.010, +0.010]"]
    assert intervals_text([(123.4, None, None), (0.001234, None, None)]) == ["123.4", "0.001234"]
    assert intervals_text([(1e-7, None, None), (0.5, None, None)]) == ["1e-07", "0.5"]


def test_no_chance_is_rounded_to_certainty():
    assert [chance_text(value) for value in (0.99992, 1.0, 0.9994, 0.5, 0.0004, 0.0)] == [
        "> 0.999", "> 0.999", "0.999", "0.500", "< 0.001", "< 0.001",
    ]  # fmt: skip
    assert chance_text(0.999, 2) == "> 0.99"
    assert chance_text(np.nan) == ""


def test_the_bare_backbone_has_a_name():
    assert plan_name("{}") == "bare backbone"
    assert plan_cell("{}") == Cell("bare backbone")
    drawn = (Place(("stage1",), (Part("se", "module"),)),)
    assert plan_cell('{"stage1": "se"}') == Cell('{"stage1": "se"}', code=True, diagram=drawn, typed="stage1=se")


def test_a_verdict_is_styled_by_its_first_word():
    assert verdict_cell("NOT DECIDED") == Cell("NOT DECIDED", verdict="NOT")
    assert verdict_cell("") == Cell("")


@pytest.mark.parametrize(
    ("verdict", "more_seeds", "items_needed", "p_better", "text"),
    [
        ("BETTER", np.nan, np.nan, 0.99, ""),
        ("NOT DECIDED", 1.0, np.nan, 0.9, "1 more seed would decide it"),
        ("NOT DECIDED", 7.0, np.nan, 0.9, "7 more seeds would decide it"),
        ("NOT DECIDED", 740.0, np.nan, 0.5, "over 100 more seeds would decide it"),
        ("NOT DECIDED", np.nan, np.nan, 0.5, "over 100 more seeds would decide it"),
        ("NOT DECIDED", np.nan, 3100.0, 0.6, "no number of seeds is enough: 3,100 items would decide it"),
        ("NOT DECIDED", np.nan, 4e9, 0.5, "no number of seeds is enough, and over 1,000,000 items would be needed"),
        ("NOT DECIDED", np.nan, np.nan, np.nan, ""),  # one evaluation each
    ],
)
def test_what_would_decide(verdict, more_seeds, items_needed, p_better, text):
    row = {"verdict": verdict, "more_seeds": more_seeds, "items_needed": items_needed, "p_better": p_better}
    assert what_would_decide({**row, "difference": 1e-5}) == text


@pytest.mark.parametrize("difference", [0.0, -1.1e-16])  # the second is the rounding of two equal means
def test_no_seeds_decide_a_difference_that_is_exactly_0(difference):
    row = {"verdict": "NOT DECIDED", "more_seeds": np.nan, "items_needed": np.nan, "p_better": 0.5}
    assert what_would_decide({**row, "difference": difference}) == "no number of seeds would decide it"


def test_a_plan_in_words():
    assert (
        plan_words('{"stage1": "se(reduction=4)", "stage3": "eca >> se"}') == "stage1=se(reduction=4); stage3=eca >> se"
    )
    assert plan_words('{"stage1": "se", "stage2": "se", "stage4": "se"}') == "se at stage1, stage2 and stage4"
    assert plan_words('{"stage1": "se"}') == "stage1=se"
    assert plan_words("{}") == "bare backbone"
