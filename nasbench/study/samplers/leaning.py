"""How the default sampler leans on what is expected of modules: a slope on the expected effect of a plan.

The expected effect f of a plan is the sum of the expected effects of its modules, over all slots. f is centred and
scaled with a uniform sample of plans of the space. The metric z of the evaluated plans is centred and scaled too, with
its sign so that more is better. The slope of z on f is

    c = max(0, (k m + sum f z) / (k + sum f²))

over the evaluated plans, each centred. m is the slope before any evaluation, and k is the number of evaluations it
counts for. m is the correlation of f with the effects that the expectations describe: the square root of a / (a + b),
where a is the variance of f over the sample, and b the mean variance of the sum of the errors. So uncertain
expectations have little weight, and expectations that do not hold are soon without weight. The Gaussian process models
what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.atlas_prior import Expected
from nasbench.library.expression import Expression
from nasbench.library.plan import Plan

__all__ = ["Leaning"]

FloatArray = NDArray[np.float64]

WEIGHT = 5.0
"""Number of evaluations that the slope before any evaluation counts for."""


class Leaning:
    """The expected effects of plans, and the slope of a metric on them.

    Args:
        expected: The expected effect of each module that has one, by name. Of other modules nothing is expected.
        sample: Plans drawn uniformly from the space.

    Attributes:
        start: The slope before any evaluation. 0 if nothing is expected, or the same of every plan.
    """

    def __init__(self, expected: Mapping[str, Expected], sample: Sequence[Plan]) -> None:
        self._expected = expected
        self._sums: dict[Expression, float] = {}
        raw = self._raw(sample)
        self._center, spread = (float(raw.mean()), float(raw.std())) if len(raw) else (0.0, 0.0)
        known = spread > 1e-9
        self._unit = spread if known else 1.0
        self.start = spread / (spread**2 + self._doubt(sample)) ** 0.5 if known else 0.0

    def __call__(self, plans: Sequence[Plan]) -> FloatArray:
        """Return the expected effects of plans, centred and scaled, `(n,)`. Higher is better."""
        return (self._raw(plans) - self._center) / self._unit

    def slope(self, plans: Sequence[Plan], targets: FloatArray) -> float:
        """Return the slope of targets on expected effects, for targets that are centred, and scaled to unit variance.

        Args:
            plans: The evaluated plans, `(n,)`.
            targets: Their targets. Smaller is better, so a useful expectation has a negative slope.
        """
        spread = float(np.std(targets))
        if self.start == 0.0 or not spread > 0.0:
            return 0.0
        effects = self(plans)
        effects = effects - effects.mean()
        better = -(targets - targets.mean()) / spread
        return -max(0.0, float(WEIGHT * self.start + effects @ better) / float(WEIGHT + effects @ effects))

    def _raw(self, plans: Sequence[Plan]) -> FloatArray:
        return np.array([sum(self._of(part) for part in plan.values()) for plan in plans], dtype=float)

    def _of(self, expression: Expression) -> float:
        if expression not in self._sums:
            means = [self._expected[leaf.name].mean for leaf in expression.leaves() if leaf.name in self._expected]
            self._sums[expression] = sum(means)
        return self._sums[expression]

    def _doubt(self, sample: Sequence[Plan]) -> float:
        """Return the mean variance over the sample of the sum of the errors. Unknown modules have the largest error."""
        names = [[leaf.name for part in plan.values() for leaf in part.leaves()] for plan in sample]
        most = max(one.error for one in self._expected.values())
        total = 0.0
        for name in sorted({name for of_plan in names for name in of_plan}):
            counts = np.array([of_plan.count(name) for of_plan in names])
            error = self._expected[name].error if name in self._expected else most
            total += error**2 * float(counts.var())
        return total
