"""The proxies of a run beside its parameters and MACs."""

from types import SimpleNamespace

import numpy as np

from nasbench.report.proxy_table import proxy_table
from nasbench.runs.evaluation import Evaluation


def run_of(evaluations, metric="accuracy"):
    return SimpleNamespace(metric=metric, directions={"accuracy": "maximize"}, evaluations=lambda: evaluations)


def evaluation(index, fidelity=5, **proxies):
    costs = {"params": 10 - index, "macs": 7}
    name = f"plan {index}"
    metrics = {"accuracy": float(index)}
    return Evaluation(name, name, 0, fidelity, "complete", metrics=metrics, costs=costs, proxies=proxies)


def test_scores_and_their_retests_become_columns():
    found = [evaluation(i, naswot=float(i), naswot_retest=float(-i), rare=1.0 * i) for i in range(5)]
    found += [evaluation(5, naswot=0.0), evaluation(6, fidelity=1, naswot=9.0)]  # one without a retest, one not in full
    table = proxy_table(run_of(found), resamples=50).set_index("predictor")
    assert table.index.tolist() == ["params", "macs", "naswot", "rare"]
    assert table["n"].tolist() == [6, 6, 6, 5]
    assert table.loc["params", "spearman"] == -1.0
    assert np.isnan(table.loc["macs", "spearman"])  # it does not vary
    assert table.loc["naswot", ["retest", "retest_n"]].tolist() == [-1.0, 5]
    assert table.loc["rare", "retest_n"] == 0


def test_where_every_objective_is_a_cost_the_table_is_empty():
    assert proxy_table(run_of([evaluation(0)], metric=None)).empty
