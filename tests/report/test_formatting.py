"""How figures and plans are written in a report."""

import numpy as np
import pytest

from nasbench.report.formatting import figure_text, is_missing, plan_name, with_interval
from nasbench.report.tables import Cell, plan_cell, verdict_cell


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "text"),
    [
        (0.41, 0.39, 0.43, "", "0.41 [0.39, 0.43]"),
        (0.41, 0.39, 0.43, "+", "+0.41 [+0.39, +0.43]"),
        (0.41, np.nan, np.nan, "", "0.41"),
        (0.0, 0.0, 0.0, "+", "+0"),
        (1e-17, -0.1, 0.1, "+", "+0 [-0.1, +0.1]"),
        (None, 0.0, 1.0, "", ""),
        (np.nan, 0.0, 1.0, "+", ""),
    ],
)
def test_a_figure_with_its_interval(value, low, high, sign, text):
    assert with_interval(value, low, high, sign) == text


def test_figures_and_what_is_missing():
    assert [figure_text(value) for value in (0.123456, 1_234_567, None, float("nan"))] == ["0.1235", "1.23 M", "", ""]
    assert [is_missing(value) for value in (None, np.nan, 0, "", "nan")] == [True, True, False, False, False]


def test_the_bare_backbone_has_a_name():
    assert plan_name("{}") == "bare backbone"
    assert plan_cell("{}") == Cell("bare backbone")
    assert plan_cell('{"stage1": "se"}') == Cell('{"stage1": "se"}', code=True)


def test_a_verdict_is_styled_by_its_first_word():
    assert verdict_cell("NOT DECIDED") == Cell("NOT DECIDED", verdict="NOT")
    assert verdict_cell("") == Cell("")
