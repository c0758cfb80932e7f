"""The share of a training that waits for data, with a clock of whole seconds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nasbench.report.training_state import data_wait
from nasbench.training.waiting import Waiting


def test_share_by_hand():
    now = [0.0]

    def slow_items():
        for item in "ab":
            now[0] += 3  # the wait for this item
            yield item

    waiting = Waiting(lambda: now[0])
    taken = []
    for item in waiting.watch(slow_items()):
        taken.append(item)
        now[0] += 1  # the step
    assert taken == ["a", "b"]
    assert waiting.share() == pytest.approx(6 / 8)


def test_the_report_takes_the_median_of_the_epochs():
    def run(*histories):
        return SimpleNamespace(evaluations=lambda: [SimpleNamespace(history=history) for history in histories])

    shares = [{"epoch": i, "data_wait": share} for i, share in enumerate((0.1, 0.2, 0.9), 1)]
    assert data_wait(run(shares[:1], shares[1:])) == pytest.approx(0.2)
    assert data_wait(run([{"epoch": 1}])) is None
