"""The worth of proxies, on made-up studies whose correlations are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasbench.report.analysis.proxies import BASELINES, proxy_agreement
from nasbench.runs.evaluation import Evaluation


def study(count, seed=0, **figures):
    """Evaluations whose accuracy is `quality`; each figure is a function of (quality, rng)."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        quality = float(rng.normal())
        proxies = {name: float(figure(quality, rng)) for name, figure in figures.items() if name not in BASELINES}
        costs = {name: float(figures.get(name, lambda q, r: r.normal())(quality, rng)) for name in BASELINES}
        found.append(
            Evaluation("{}", str(index), 0, 5, "complete", metrics={"accuracy": quality}, costs=costs, proxies=proxies)
        )
    return found


def row(table, predictor):
    return table.set_index("predictor").loc[predictor]


def test_rows_and_correlations():
    noisy = study(30, exact=lambda q, r: 3 * q, exact_retest=lambda q, r: -q, wild=lambda q, r: q + r.normal())
    table = proxy_agreement(noisy, "accuracy", "maximize", resamples=200)
    assert table["predictor"].tolist() == ["params", "macs", "exact", "wild"]
    assert row(table, "exact")["spearman"] == pytest.approx(1.0)
    assert row(table, "exact")["retest"] == pytest.approx(-1.0)
    assert row(table, "exact")["verdict"] == "BETTER"
    assert (table["n"] == 30).all()
    assert table["verdict"].tolist()[:2] == ["BASELINE"] * 2
    expected = spearmanr([e.proxies["wild"] for e in noisy], [e.metrics["accuracy"] for e in noisy]).statistic
    assert row(table, "wild")["spearman"] == pytest.approx(expected)
    assert row(table, "wild")["low"] < expected < row(table, "wild")["high"]
    assert np.isnan(row(table, "wild")["retest"])
    over = expected - max(row(table, "params")["spearman"], row(table, "macs")["spearman"])
    assert row(table, "wild")["over_baseline"] == pytest.approx(over)


def test_an_error_turns_the_sign():
    flipped = study(20, exact=lambda q, r: -q)
    assert row(proxy_agreement(flipped, "accuracy", "minimize", resamples=50), "exact")["spearman"] == pytest.approx(1)


def test_a_proxy_that_is_no_better_than_macs():
    same = study(40, macs=lambda q, r: q + 0.1 * r.normal(), good=lambda q, r: q + 0.1 * r.normal(),
                 bad=lambda q, r: r.normal())  # fmt: skip
    table = proxy_agreement(same, "accuracy", "maximize", resamples=300)
    assert row(table, "good")["verdict"] == "NOT DECIDED"
    assert row(table, "bad")["verdict"] == "NOT BETTER"


def test_missing_scores_and_few_plans():
    some = study(10, exact=lambda q, r: q)
    missing = [Evaluation(**{**e.to_dict(), "proxies": {} if i < 3 else e.proxies}) for i, e in enumerate(some)]
    table = proxy_agreement(missing, "accuracy", "maximize", resamples=50)
    assert row(table, "exact")["n"] == 7
    assert row(table, "params")["n"] == 10
    few = proxy_agreement(some[:3], "accuracy", "maximize")
    assert few["spearman"].isna().all()
    assert row(few, "exact")["verdict"] == "NOT DECIDED"
    assert len(proxy_agreement([], "accuracy", "maximize")) == 2
    constant = proxy_agreement(study(10, exact=lambda q, r: 1.0), "accuracy", "maximize", resamples=50)
    assert np.isnan(row(constant, "exact")["spearman"])


def test_the_interval_holds_the_truth():
    """Normal pairs with correlation 0.6 have a Spearman correlation of 6/π·arcsin(0.3) = 0.582."""
    truth, held = 6 / np.pi * np.arcsin(0.3), 0
    for seed in range(60):
        some = study(40, seed, half=lambda q, r: 0.6 * q + 0.8 * r.normal())
        found = row(proxy_agreement(some, "accuracy", "maximize", resamples=200), "half")
        held += found["low"] <= truth <= found["high"]
    assert held / 60 >= 0.85
