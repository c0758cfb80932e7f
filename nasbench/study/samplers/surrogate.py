"""The surrogate models of the default sampler: known costs are exact, every other value has a Gaussian process.

A plan is feasible if its evaluation succeeds and breaks no bound. The chance of success is Φ((mean - ½) / sd) of a
process that is fitted to 1 for success and 0 for failure. The chance to keep a bound is that of the process of the
bounded value. Expected improvement times these chances is the constrained expected improvement.

Source: Gardner et al., "Bayesian optimization with inequality constraints", ICML 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasbench.library.plan import Plan
from nasbench.study.samplers.gaussian import Gaussian, Hyper, Points, Repeats, fit
from nasbench.study.samplers.history import History
from nasbench.study.samplers.improvement import expected_improvement
from nasbench.study.samplers.knowledge import Knowledge, stream

__all__ = ["Surrogate"]

FloatArray = NDArray[np.float64]
Blocks = tuple[FloatArray, ...]

PRIOR = Hyper(weights=(0.4, 0.4, 0.1, 0.1), interaction=0.2, length=1.0, noise=0.05)
"""Centre of the prior of the hyper-parameters, for targets of unit variance. The order of the weights is that of
`features.BLOCKS`."""

OF_EPOCHS = 0.2
"""Centre of the prior of the weight of the number of epochs, where trainings have several."""

MOST_FITTED, MOST_OPTIMISED = 300, 150
"""Largest number of plans to which a Gaussian process is fitted, and largest number of plans with which its
hyper-parameters are optimised."""

REFITS, MAX_HYPERS = 10, 64
"""The hyper-parameters are optimised again when there are a tenth more plans. So many optima are remembered."""

MARGIN_ONE, MARGIN_MORE = 0.1, 0.5
"""Distance of the reference point from the worst value of an objective, as a share of the range of its values.

The first number is for exactly one modelled objective, the second for any other number. One of several modelled
objectives can be a cost, and a plan that is more expensive than all plans so far can still be on the front.
"""


class Surrogate:
    """The models for one proposal: of each objective, of each bounded value, and of success.

    All are Gaussian processes on the same features. Known values have no model. Rejected plans are fitted with the
    values that they returned.

    Args:
        knowledge: The knowledge of the space.
        history: The evaluated plans. There must be a value of every objective that is not known before an evaluation.
    """

    def __init__(self, knowledge: Knowledge, history: History) -> None:
        self._knowledge, self._history, self._readings = knowledge, history, history.readings
        self._known = np.array([name in knowledge.known_names for name in knowledge.directions])
        self._modelled = [column for column, name in enumerate(knowledge.names) if name not in knowledge.known_names]
        self._scales = knowledge.scales(self._readings.values)
        self._values = np.stack(
            [scale(column) for scale, column in zip(self._scales, self._readings.values.T, strict=True)], axis=1
        )
        self._bounds = [
            bound
            for bound in knowledge.bounds
            if bound.name in [knowledge.names[column] for column in self._modelled]
            and (bound.name in history.bare or not bound.relative)
        ]
        # trainings of several lengths have a feature more, so that short ones inform the model of the longest
        self._longest = float(self._readings.epochs.max(initial=0.0))
        self._timed = len(np.unique(self._readings.epochs)) > 1
        self._points: dict[Any, Points] = {}
        self._slopes: dict[int, float] = {}  # of the metric on what is expected of a plan, in units of the value
        self.models = {column: self._fitted(column) for column in self._modelled}
        self.success = self._success_model()
        self.front = self._front()
        self.reference = self._reference()
        running = [plan for plan in history.pending if np.isfinite(knowledge.costs(plan)).all()]
        if running:
            self._believe(running)

    def gains(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the expected hypervolume improvement of each plan times its chance to be feasible, `(plans,)`."""
        blocks = self._blocks(plans)
        mean, deviation = self._objectives(plans, blocks)
        return expected_improvement(self.front, self.reference, mean, deviation) * self._chance(plans, blocks)

    def chance(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the probability of each plan that it succeeds and breaks no bound, `(plans,)`."""
        return self._chance(plans, self._blocks(plans))

    def predict(self, plans: Sequence[Plan]) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the objectives, `(plans, m)` each.

        All objectives are minimised. The standard deviation of a known value is 0.
        """
        return self._objectives(plans, self._blocks(plans))

    def _means(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the means of `predict`, without the standard deviations, which take longer."""
        blocks = self._blocks(plans)
        mean = self._exact(plans)
        for column in self._modelled:
            if column < len(self._known):
                mean[:, column] = self.models[column].mean(blocks) + self._trend(column, plans)
                for row, value in self._known_of(column, plans):
                    mean[row, column] = value
        return mean

    def _exact(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the known objectives, and 0 for the others, `(plans, m)`."""
        values = np.zeros((len(plans), len(self._known)))
        costs = np.array([self._knowledge.costs(plan) for plan in plans]).reshape(len(plans), -1)
        if np.isnan(costs).any():  # that all drawn plans have a value that this one lacks is rare, so it has no model
            usual = np.array([self._knowledge.costs(plan) for plan in self._knowledge.sample]).mean(axis=0)
            costs = np.where(np.isnan(costs), usual, costs)
        values[:, self._known] = costs
        return values

    def _objectives(self, plans: Sequence[Plan], blocks: Blocks) -> tuple[FloatArray, FloatArray]:
        mean = self._exact(plans)
        deviation = np.zeros_like(mean)
        for column in self._modelled:
            if column < len(self._known):
                mean[:, column], deviation[:, column] = self._value(column, plans, blocks)
        return mean, deviation

    def _value(self, column: int, plans: Sequence[Plan], blocks: Blocks) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of a modelled value. Where a plan's value is known, it is used."""
        mean, deviation = self.models[column].predict(blocks)
        mean = mean + self._trend(column, plans)
        for row, value in self._known_of(column, plans):
            mean[row], deviation[row] = value, 0.0
        return mean, deviation

    def _known_of(self, column: int, plans: Sequence[Plan]) -> Iterator[tuple[int, float]]:
        """Yield the index of each plan of which a modelled value is known, with this value."""
        name = self._knowledge.names[column]
        for row, plan in enumerate(plans):
            if name in (known := self._knowledge.some(plan)):
                yield row, float(self._scales[column](known[name]))

    def _chance(self, plans: Sequence[Plan], blocks: Blocks) -> FloatArray:
        chance = np.ones(len(blocks[0]))
        for bound in self._bounds:
            column = self._knowledge.names.index(bound.name)
            mean, deviation = self._value(column, plans, blocks)
            limit = float(self._scales[column](bound.limit(self._history.bare)))
            # a value that is maximised changes its sign on its scale
            below = bound.operator.startswith("<") == (self._scales[column].sign > 0)
            known = deviation == 0  # and then it breaks no bound, because such plans are not proposed
            gap = limit - mean if below else mean - limit
            chance *= np.where(known, 1.0, ndtr(gap / np.where(known, 1.0, deviation)))
        if self.success is not None:
            mean, deviation = self.success.predict(blocks)
            chance *= ndtr((mean - 0.5) / deviation)
        return chance

    def _blocks(self, plans: Sequence[Plan], epochs: FloatArray | None = None) -> Blocks:
        """Return the features of plans at the full budget, or after these numbers of epochs."""
        blocks = self._knowledge.features(plans)
        if not self._timed:
            return blocks
        if epochs is None:
            epochs = np.full(len(plans), self._longest)
        return (*blocks, np.log((epochs[:, None] + 1.0) / (self._longest + 1.0)))

    def _shared(self, plans: Sequence[Plan], epochs: FloatArray) -> Points:
        """Return the features of plans after these numbers of epochs. The models of equal plans share one object."""
        key = tuple(plans), epochs.tobytes()
        if key not in self._points:
            self._points[key] = Points(self._blocks(plans, epochs))
        return self._points[key]

    def _prior(self) -> Hyper:
        return replace(PRIOR, weights=(*PRIOR.weights, OF_EPOCHS)) if self._timed else PRIOR

    def _fitted(self, column: int) -> Gaussian:
        """Fit a Gaussian process to one of the values that are not known before an evaluation."""
        there = np.flatnonzero(np.isfinite(self._values[:, column]))
        name, targets = self._knowledge.names[column], self._values[there, column]
        bounded = any(bound.name == name for bound in self._bounds)
        limited = clipped if name in self._knowledge.directions and not bounded else np.asarray
        # The differences between seeds are in the units of the value, so they are used only where its scale is linear.
        linear = self._scales[column].power == 1.0
        counts = self._readings.counts[there]
        repeats = Repeats(
            counts,
            float(self._readings.squares[there, column].sum()) if linear else 0.0,
            float((counts - 1).sum()) if linear else 0.0,
        )
        plans = [self._readings.plans[i] for i in there.tolist()]
        if name == self._knowledge.metric and self._knowledge.leaning is not None:
            first = _rounded(len(plans))
            known = limited(targets[:first])
            self._slopes[column] = self._knowledge.leaning.slope(plans[:first], known) * float(np.std(known))
            targets = targets - self._trend(column, plans)
        return self._learned(plans, self._readings.epochs[there], targets, repeats, limited)

    def _trend(self, column: int, plans: Sequence[Plan]) -> FloatArray:
        """Return what is expected of plans before any evaluation, on the scale of the value, `(n,)`: mostly 0."""
        leaning = self._knowledge.leaning
        if leaning is None or column not in self._slopes:
            return np.zeros(len(plans))
        return self._slopes[column] * leaning(plans)

    def _success_model(self) -> Gaussian | None:
        """Fit a Gaussian process to 1 for plans that succeeded and 0 for plans that failed. None if none failed."""
        labels = np.array([float(succeeded) for _, succeeded in self._history.outcomes])
        if labels.all():
            return None
        plans = [plan for plan, _ in self._history.outcomes]
        longest = np.full(len(plans), self._longest)
        return self._learned(plans, longest, labels, Repeats.none(len(plans)), np.asarray)

    def _learned(
        self,
        plans: Sequence[Plan],
        epochs: FloatArray,
        targets: FloatArray,
        repeats: Repeats,
        limited: Callable[[FloatArray], FloatArray],
    ) -> Gaussian:
        """Fit a Gaussian process to at most `MOST_FITTED` plans, with hyper-parameters from at most `MOST_OPTIMISED`.

        Args:
            plans: The plans, in the order of their trials.
            epochs: Their training epochs, `(n,)`.
            targets: Their values, `(n,)`.
            repeats: Their repeats.
            limited: Replaces extreme values of targets.
        """
        # Each iteration of the optimiser factorises an n x n matrix for n plans. So the hyper-parameters are those of
        # fewer plans, and of the first nine tenths at least, so that most proposals find them remembered.
        first = _rounded(len(plans))
        fewer = np.sort(self._shuffled(first)[:MOST_OPTIMISED])
        some = replace(repeats, counts=repeats.counts[fewer])
        points, known = self._shared([plans[i] for i in fewer], epochs[fewer]), limited(targets[:first])[fewer]
        key = tuple(a.tobytes() for a in (*points.blocks, known, some.counts)), some.squares, some.freedom
        hypers = self._knowledge.hypers
        if key not in hypers:
            if len(hypers) >= MAX_HYPERS:
                hypers.clear()
            hypers[key] = fit(points, known, self._prior(), repeats=some).hyper
        chosen = np.sort(self._important(plans)[:MOST_FITTED])
        every = replace(repeats, counts=repeats.counts[chosen])
        kept = self._shared([plans[i] for i in chosen], epochs[chosen])
        return fit(kept, limited(targets)[chosen], hypers[key], optimise=False, repeats=every)

    def _shuffled(self, count: int) -> list[int]:
        order = list(range(count))
        # with a random stream of its own, so that the same history gives the same choice
        stream(self._knowledge.seed, "learn").shuffle(order)
        return order

    def _important(self, plans: Sequence[Plan]) -> list[int]:
        """Return the indices of plans: first those of the front, then the others in a fixed random order."""
        front: set[Plan] = set()
        if self._history.plans:
            best = moocore.is_nondominated(self._history.values, keep_weakly=False)
            front = {plan for plan, on_front in zip(self._history.plans, best, strict=True) if on_front}
        return sorted(self._shuffled(len(plans)), key=lambda i: plans[i] not in front)

    def _front(self) -> FloatArray:
        """Return the means of the feasible plans, `(n, m)`. The noise of their evaluations is not part of them."""
        plans = [*self._history.plans, *self._history.others]
        return self._means(plans) if plans else np.zeros((0, len(self._known)))

    def _reference(self) -> FloatArray:
        """Return the reference point, `(m,)`. Its costs exceed those of every allowed plan of the sample."""
        sample = self._knowledge.sample
        allowed = [plan for plan in sample if self._knowledge.allowed(plan)]
        known = np.array([self._knowledge.costs(plan) for plan in allowed or sample])
        values = self._values[:, : len(self._known)]
        few = sum(column < len(self._known) for column in self._modelled) == 1
        margin = np.full(len(self._known), MARGIN_ONE if few else MARGIN_MORE)
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        if self._known.any():
            low[self._known], high[self._known] = known.min(axis=0), known.max(axis=0)
        return high + margin * np.maximum(high - low, 1e-9)

    def _believe(self, pending: list[Plan]) -> None:
        """Use the predictions of running plans as their results, so that other workers choose different plans."""
        # the "kriging believer" strategy of Ginsbourger et al. (2010)
        self.front = np.concatenate([self.front, self._means(pending)])
        blocks = self._blocks(pending)
        self.models = {column: model.extended(blocks, model.mean(blocks)) for column, model in self.models.items()}


def _rounded(count: int) -> int:
    """Return the number of the first plans whose hyper-parameters are used: at least nine tenths of all."""
    return count - count % max(1, count // REFITS)


def clipped(targets: FloatArray) -> FloatArray:
    """Replace very bad values by a limit. Values of diverged trainings would make all other differences negligible.

    Smaller values are better. The limit is the median plus six times the distance from the lower quartile to the
    median. If this distance is 0, nothing is replaced.
    """
    # the limit is based on quartiles, because diverged trainings would distort a mean and a standard deviation
    low, middle = np.quantile(targets, [0.25, 0.5])
    return np.minimum(targets, middle + 6.0 * (middle - low)) if middle > low else targets
