"""The surrogate model of the default sampler. It uses known costs exactly and predicts every other objective."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from nasbench.library.plan import Plan
from nasbench.study.samplers.gaussian import Gaussian, Hyper, fit
from nasbench.study.samplers.history import History
from nasbench.study.samplers.improvement import expected_improvement
from nasbench.study.samplers.knowledge import Knowledge, stream

__all__ = ["Surrogate"]

FloatArray = NDArray[np.float64]

PRIOR = Hyper(weights=(0.4, 0.4, 0.1, 0.1), interaction=0.2, length=1.0, noise=0.05)
"""Centre of the prior of the hyper-parameters, for targets of unit variance. The order of the weights is that of
`features.BLOCKS`."""

MOST_FITTED, MOST_OPTIMISED = 400, 150
"""Largest number of plans to which a Gaussian process is fitted, and largest number of plans with which its
hyper-parameters are optimised."""

MARGIN_ONE, MARGIN_MORE = 0.1, 0.5
"""Distance of the reference point from the worst value of an objective, as a share of the range of its values.

The first number is for exactly one modelled objective, the second for any other number. One of several modelled
objectives can be a cost, and a plan that is more expensive than all plans so far can still be on the front.
"""


class Surrogate:
    """The models of the objectives for one proposal.

    Args:
        knowledge: The knowledge of the space.
        history: The evaluated plans, at least one.
    """

    def __init__(self, knowledge: Knowledge, history: History) -> None:
        self._knowledge, self._history = knowledge, history
        self._known = np.array([name in knowledge.known_names for name in knowledge.directions])
        self._modelled = [column for column, known in enumerate(self._known) if not known]
        self.reference = self._reference()
        self.front = history.values
        self.models = self._fitted()
        running = [plan for plan in history.pending if np.isfinite(knowledge.costs(plan)).all()]
        if running:
            self._believe(running)

    def gains(self, plans: Sequence[Plan]) -> FloatArray:
        """Return each plan's expected hypervolume improvement times its probability of success, `(plans,)`."""
        mean, deviation = self.predict(plans)
        return expected_improvement(self.front, self.reference, mean, deviation) * self._success(plans)

    def predict(self, plans: Sequence[Plan]) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the objectives, `(plans, m)` each.

        All objectives are minimised. The standard deviation of a known objective is 0.
        """
        mean = np.zeros((len(plans), len(self._known)))
        deviation = np.zeros_like(mean)
        mean[:, self._known] = np.array([self._knowledge.costs(plan) for plan in plans]).reshape(len(plans), -1)
        blocks = self._knowledge.features(plans)
        for column, model in zip(self._modelled, self.models, strict=True):
            mean[:, column], deviation[:, column] = model.predict(blocks)
        return mean, deviation

    def _fitted(self) -> list[Gaussian]:
        """Fit a Gaussian process to each objective that is not known before evaluation."""
        values, plans = self._history.values, list(self._history.plans)
        chosen = self._thinned(MOST_FITTED)
        blocks = self._knowledge.features([plans[i] for i in chosen])
        fewer = np.isin(chosen, self._thinned(MOST_OPTIMISED))
        models = []
        for column in self._modelled:
            targets = clipped(values[chosen, column])
            # The hyper-parameters are optimised with fewer plans, because each iteration factorises an n x n matrix for
            # n plans. To condition the process on all plans, one matrix is factorised once.
            hyper = fit([block[fewer] for block in blocks], targets[fewer], PRIOR).hyper
            models.append(fit(blocks, targets, hyper, optimise=False))
        return models

    def _thinned(self, most: int) -> NDArray[np.int64]:
        """Return the indices of the plans to fit: the front, and a fixed random choice of the other plans."""
        values = self._history.values
        if len(values) <= most:
            return np.arange(len(values))
        order = list(range(len(values)))
        # with a random stream of its own, so that the same history gives the same choice
        stream(self._knowledge.seed, "learn").shuffle(order)
        front = moocore.is_nondominated(values, keep_weakly=False)
        return np.sort(sorted(order, key=lambda i: not front[i])[:most])

    def _reference(self) -> FloatArray:
        """Return the reference point, `(m,)`. Its costs exceed those of every allowed plan of the sample."""
        sample = self._knowledge.sample
        allowed = [plan for plan in sample if self._knowledge.allowed(plan)]
        known = np.array([self._knowledge.costs(plan) for plan in allowed or sample])
        values = self._history.values
        margin = np.full(len(self._known), MARGIN_ONE if len(self._modelled) == 1 else MARGIN_MORE)
        low, high = values.min(axis=0), values.max(axis=0)
        if self._known.any():
            low[self._known], high[self._known] = known.min(axis=0), known.max(axis=0)
        return high + margin * np.maximum(high - low, 1e-9)

    def _believe(self, pending: list[Plan]) -> None:
        """Use the predictions of running plans as their results, so that other workers choose different plans."""
        # the "kriging believer" strategy of Ginsbourger et al. (2010)
        mean, _ = self.predict(pending)
        blocks = self._knowledge.features(pending)
        self.models = [model.extended(blocks, mean[:, column])
                       for column, model in zip(self._modelled, self.models, strict=True)]  # fmt: skip
        self.front = np.concatenate([self.front, mean])

    def _success(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the probability that the evaluation of each plan succeeds: the lowest probability of its modules."""
        history = self._history
        # plans that break a known constraint are left out: they are never proposed, and the cause is not one of their
        # modules
        broken = [plan for plan in history.broken if self._knowledge.allowed(plan)]
        if not broken:
            return np.ones(len(plans))
        good, bad = _occurrences(history.plans), _occurrences(broken)
        # the probability of a module that never succeeded is halved by each failure, but stays above 0
        chance = {name: good[name] / (good[name] + bad[name]) if name in good else 0.5 ** bad[name] for name in bad}
        return np.array([min((chance.get(name, 1.0) for name in _modules(plan)), default=1.0) for plan in plans])


def clipped(targets: FloatArray) -> FloatArray:
    """Replace very bad values by a limit. Values of diverged trainings would make all other differences negligible.

    Smaller values are better. The limit is the median plus six times the distance from the lower quartile to the
    median. If this distance is 0, nothing is replaced.
    """
    # the limit is based on quartiles, because diverged trainings would distort a mean and a standard deviation
    low, middle = np.quantile(targets, [0.25, 0.5])
    return np.minimum(targets, middle + 6.0 * (middle - low)) if middle > low else targets


def _modules(plan: Plan) -> set[str]:
    return {leaf.name for expression in plan.values() for leaf in expression.leaves()}


def _occurrences(plans: Sequence[Plan]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for plan in plans:
        for name in _modules(plan):
            counts[name] = counts.get(name, 0) + 1
    return counts
