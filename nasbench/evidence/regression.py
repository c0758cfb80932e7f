"""Least squares, with intervals for estimable contrasts, and the share of the variance that a fit explains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import f as fisher
from scipy.stats import ncf

from nasbench.evidence.student import t_p_value, t_quantile

__all__ = ["Estimate", "Fit", "explained"]

FloatArray = NDArray[np.float64]

_TOLERANCE = 1e-8
"""Limit for values that count as zero.

It is a share of the largest singular value (or of 1, if that is larger) for singular values, and a share of the total
sum of squares for the residual sum of squares."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: The p-value: the probability of an estimate at least this far from 0 if the true value is 0.
    """

    value: float
    low: float
    high: float
    p: float


class Fit:
    """Least squares of a target on features and a constant. Features may be linearly dependent.

    Args:
        features: The features, `(n, p)`, without a column of ones.
        target: The target, `(n,)`.
    """

    def __init__(self, features: FloatArray, target: FloatArray) -> None:
        x = np.asarray(features, dtype=float)
        self.n, self.columns = x.shape
        # Centring the features and the target fits the constant. So the constant uses one degree of freedom, but it has
        # no column.
        self._x = x - x.mean(axis=0)
        self._y = np.asarray(target, dtype=float) - np.mean(target)
        _, sizes, right = np.linalg.svd(self._x, full_matrices=False)
        # Linearly dependent features have singular values near 0. Division by them would turn rounding errors into
        # effects.
        kept = sizes > _TOLERANCE * max(float(sizes.max(initial=0.0)), 1.0)
        self._sizes, self._right = sizes[kept], right[kept]
        self.rank = int(kept.sum())

    @property
    def freedom(self) -> int:
        """Number of residual degrees of freedom."""
        return self.n - 1 - self.rank

    @cached_property
    def _coefficients(self) -> FloatArray:
        return self._right.T @ ((self._right @ (self._x.T @ self._y)) / self._sizes**2)

    @cached_property
    def unexplained(self) -> float:
        """Residual sum of squares."""
        return float(((self._y - self._x @ self._coefficients) ** 2).sum())

    @property
    def total(self) -> float:
        """Sum of squares of the target around its mean."""
        return float((self._y**2).sum())

    def contrast(self, weights: FloatArray) -> Estimate | None:
        """Return a weighted sum of coefficients with its interval.

        Args:
            weights: The weight of each coefficient, `(p,)`.

        Returns:
            The estimate, or None if the data do not determine the sum or if no degree of freedom is left.
        """
        along = self._right @ weights
        # The sum can be estimated only if the weights are in the row space of the features. For example, the effects of
        # two equal columns cannot be separated.
        if self.freedom < 1 or np.linalg.norm(weights - self._right.T @ along) > 1e-6 * np.linalg.norm(weights):
            return None
        value = float(weights @ self._coefficients)
        error = float(np.sqrt(self.unexplained / self.freedom * (along**2 / self._sizes**2).sum()))
        half = t_quantile(0.975, self.freedom) * error
        p = t_p_value(value / error, self.freedom) if error > 0 else float(value == 0)
        return Estimate(value, value - half, value + half, p)


def explained(fit: Fit) -> Estimate | None:
    """Return the share of a target's variance that a fit explains: adjusted R², with the interval of the true share.

    A negative adjusted R² counts as 0. The p-value is that of the F test of no effect. The interval comes from
    inverting the non-central F distribution (Steiger, Psychological Methods 2004). For normal errors it is exact. It
    can be [0, 0].

    Returns:
        The estimate, or None if no degree of freedom is left, if no feature varies, or if the target does not vary.
    """
    if fit.rank < 1 or fit.freedom < 1 or fit.total <= 0:
        return None
    share = 1 - fit.unexplained / fit.total
    value = max(0.0, 1 - (1 - share) * (fit.n - 1) / fit.freedom)
    if fit.unexplained <= _TOLERANCE * fit.total:  # a perfect fit would have an infinite F ratio
        return Estimate(1.0, 1.0, 1.0, 0.0)
    ratio = share / (1 - share) * fit.freedom / fit.rank
    low, high = (_noncentrality(ratio, fit.rank, fit.freedom, chance) for chance in (0.975, 0.025))
    p = float(fisher.sf(ratio, fit.rank, fit.freedom))
    # With n observations, a non-centrality λ means that the true share is λ / (λ + n).
    return Estimate(value, low / (low + fit.n), high / (high + fit.n), p)


def _noncentrality(ratio: float, first: int, second: int, chance: float) -> float:
    """Return the non-centrality λ of an F distribution for which P(F ≤ ratio) is `chance`.

    The result is 0 if there is no such λ, because P(F ≤ ratio) is at most `chance` even for λ = 0.

    Args:
        ratio: The F ratio.
        first: Degrees of freedom of the numerator.
        second: Degrees of freedom of the denominator.
        chance: The probability, in (0, 1).
    """

    def gap(noncentrality: float) -> float:
        return float(ncf.cdf(ratio, first, second, noncentrality)) - chance

    if fisher.cdf(ratio, first, second) <= chance:
        return 0.0
    # The distribution function decreases as the non-centrality grows. `high` is doubled until the root is between 0 and
    # `high`, because brentq needs such an interval.
    high = 1.0
    while gap(high) > 0:
        high *= 2
    return float(brentq(gap, 1e-12, high))
