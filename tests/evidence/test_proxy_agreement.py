"""The worth of proxies, on made-up studies whose correlations are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasbench.evidence.proxy_agreement import BASELINES, proxy_agreement


class Study:
    """Plans whose metric is `quality`; each figure of them is a function of (quality, rng), `*_retest` another draw."""

    def __init__(self, count, seed=0, **functions):
        rng = np.random.default_rng(seed)
        self.quality, columns = np.empty(count), {name: np.empty(count) for name in (*BASELINES, *functions)}
        for index in range(count):
            quality = self.quality[index] = float(rng.normal())
            proxies = [name for name in functions if name not in BASELINES]
            for name in (*proxies, *BASELINES):
                columns[name][index] = functions.get(name, lambda q, r: r.normal())(quality, rng)
        self.retests = {n.removesuffix("_retest"): c for n, c in columns.items() if n.endswith("_retest")}
        self.figures = {n: c for n, c in columns.items() if not n.endswith("_retest")}

    def agreement(self, direction="maximize", **options):
        return proxy_agreement(self.figures, self.quality, direction, retests=self.retests, **options)


def row(table, predictor):
    return table.set_index("predictor").loc[predictor]


def test_rows_and_correlations():
    noisy = Study(30, exact=lambda q, r: 3 * q, exact_retest=lambda q, r: -q, wild=lambda q, r: q + r.normal())
    table = noisy.agreement("maximize", resamples=200)
    assert table["predictor"].tolist() == ["params", "macs", "exact", "wild"]
    assert row(table, "exact")["spearman"] == pytest.approx(1.0)
    assert row(table, "exact")["retest"] == pytest.approx(-1.0)
    assert row(table, "exact")["verdict"] == "BETTER"
    assert (table["n"] == 30).all()
    assert table["verdict"].tolist()[:2] == ["BASELINE"] * 2
    expected = spearmanr(noisy.figures["wild"], noisy.quality).statistic
    assert row(table, "wild")["spearman"] == pytest.approx(expected)
    assert row(table, "wild")["low"] < expected < row(table, "wild")["high"]
    assert np.isnan(row(table, "wild")["retest"])
    over = expected - max(row(table, "params")["spearman"], row(table, "macs")["spearman"])
    assert row(table, "wild")["over_baseline"] == pytest.approx(over)


def test_an_error_turns_the_sign():
    flipped = Study(20, exact=lambda q, r: -q)
    assert row(flipped.agreement("minimize", resamples=50), "exact")["spearman"] == pytest.approx(1)


def test_a_proxy_that_is_no_better_than_macs():
    same = Study(40, macs=lambda q, r: q + 0.1 * r.normal(), good=lambda q, r: q + 0.1 * r.normal(),
                 bad=lambda q, r: r.normal())  # fmt: skip
    table = same.agreement("maximize", resamples=300)
    assert row(table, "good")["verdict"] == "NOT DECIDED"
    assert row(table, "bad")["verdict"] == "NOT BETTER"


def test_missing_scores_and_few_plans():
    some = Study(10, exact=lambda q, r: q)
    some.figures["exact"][:3] = np.nan
    table = some.agreement(resamples=50)
    assert row(table, "exact")["n"] == 7
    assert row(table, "params")["n"] == 10
    few = Study(3, exact=lambda q, r: q).agreement()
    assert few["spearman"].isna().all()
    assert row(few, "exact")["verdict"] == "NOT DECIDED"
    assert len(Study(0).agreement()) == 2
    constant = Study(10, exact=lambda q, r: 1.0).agreement(resamples=50)
    assert np.isnan(row(constant, "exact")["spearman"])


def test_the_interval_holds_the_truth():
    """Normal pairs with correlation 0.6 have a Spearman correlation of 6/π·arcsin(0.3) = 0.582."""
    truth, held = 6 / np.pi * np.arcsin(0.3), 0
    for seed in range(60):
        some = Study(40, seed, half=lambda q, r: 0.6 * q + 0.8 * r.normal())
        found = row(some.agreement(resamples=200), "half")
        held += found["low"] <= truth <= found["high"]
    assert held / 60 >= 0.85
