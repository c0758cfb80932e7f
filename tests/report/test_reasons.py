"""Equal reasons are one row, with the numbers in which they differ left open."""

from nasbench.report.reasons import ReasonGroup, grouped


def test_reasons_that_differ_in_numbers_are_one():
    reasons = [
        (1, "macs 1.48e+08 breaks macs<=1.1x (limit 1.4e+08)"),
        (2, "ValueError: odd"),
        (3, "macs 1.51e+08 breaks macs<=1.1x (limit 1.4e+08)"),
        (4, "shape (2, 16, 8)"),
        (4, "shape (2, 16, 8)"),
        (5, "shape (2, 32, 8)"),
    ]
    assert grouped(reasons) == [
        ReasonGroup("shape (2, …, 8)", (4, 5), 3),
        ReasonGroup("macs … breaks macs<=1.1x (limit 1.4e+08)", (1, 3), 2),
        ReasonGroup("ValueError: odd", (2,), 1),
    ]


def test_numbers_at_the_ends_and_no_reason():
    assert grouped([(1, "3 of 4"), (2, "5 of 4")]) == [ReasonGroup("… of 4", (1, 2), 2)]
    assert grouped([]) == []
    assert grouped([(7, "")]) == [ReasonGroup("", (7,), 1)]
