import pytest

from nasbench.report.training_state import is_falling, is_near_chance


@pytest.mark.parametrize(
    ("metric", "value", "classes", "near"),
    [
        ("accuracy", 0.15, 10, True),
        ("accuracy", 0.19, 10, True),  # 0.1 + a tenth of 0.9
        ("accuracy", 0.20, 10, False),
        ("accuracy", 0.55, 2, True),
        ("accuracy", 0.56, 2, False),
        ("accuracy", 0.0019, 1000, True),
        ("accuracy", 0.05, 1000, False),  # fifty times chance
        ("loss", 2.2, 10, True),  # log 10 is 2.303
        ("loss", 2.0, 10, False),
        ("ap", 0.01, 10, False),  # nothing is known of it
        ("accuracy", 1.0, 1, False),
    ],
)
def test_near_chance(metric, value, classes, near):
    assert is_near_chance(metric, value, classes) == near


@pytest.mark.parametrize(
    ("losses", "falling"),
    [
        ([2.0, 1.6, 1.2, 0.8, 0.4], True),  # in a line: a quarter of the fall in the last epoch
        ([2.0, 1.0, 0.5, 0.25, 0.2], False),  # 0.05 of 1.8
        ([1.0, 0.0, 0.1], False),
        ([1.0, 2.0, 3.0], False),  # it rose
        ([2.0, 1.0], False),  # too few epochs to see it
        ([2.0, float("nan"), 1.0], False),
        ([100.0 - epoch for epoch in range(51)], True),  # the last five epochs have a tenth of the fall
        ([100.0 * 0.8**epoch for epoch in range(51)], False),
        ([], False),
    ],
)
def test_falling(losses, falling):
    assert is_falling(losses) == falling
