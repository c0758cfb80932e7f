"""Agreement of the zero-cost proxies, parameters and MACs of a run with the metric after training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.evidence.proxy_agreement import BASELINES, COLUMNS, proxy_agreement
from nasbench.objectives import RETEST
from nasbench.report.run_effects import first_full_evaluations
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run

__all__ = ["proxy_table"]


def proxy_table(run: Run, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return how well each proxy, parameters and MACs rank the plans of a run (see `proxy_agreement`).

    The plans are those trained with the full budget. Each counts once, with its result for the seed of the search. The
    table is empty if every objective is a cost.
    """
    if run.metric is None:
        return pd.DataFrame(columns=list(COLUMNS))
    known = list(first_full_evaluations(run.evaluations()).values())
    scores = dict.fromkeys(name for evaluation in known for name in evaluation.proxies)
    proxies = [name for name in scores if not name.endswith(RETEST)]
    return proxy_agreement(
        {name: _column(known, name) for name in (*BASELINES, *proxies)},
        _column(known, run.metric),
        run.directions[run.metric],
        retests={name: _column(known, name + RETEST) for name in proxies},
        resamples=resamples,
        seed=seed,
    )


def _column(evaluations: Iterable[Evaluation], name: str) -> NDArray[np.float64]:
    """Return one value of each evaluation. NaN if an evaluation does not have it."""
    values = [evaluation.values.get(name) for evaluation in evaluations]
    return np.array([np.nan if value is None else float(value) for value in values], dtype=float)
