"""Monotone scales for objectives: unchanged, logarithmic, or warped where a logarithm would be skewed or undefined.

A cost spans orders of magnitude, so its logarithm is used. But if a few plans cost almost nothing, they stretch a log
axis, and differences between all other plans become negligible. And the logarithm of a cost of 0 does not exist. Such a
cost gets a Yeo-Johnson transformation, whose power makes the values as normal as possible.

Source: Yeo and Johnson, "A new family of power transformations to improve normality or symmetry", Biometrika 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

__all__ = ["Scale"]

FloatArray = NDArray[np.float64]

MOST_SKEWED = 2.0
"""If the skewness of the logarithms is further from 0 than this, a cost is warped. One value far from seven others has
this skewness."""

_POWERS = (-2.0, 3.0)
"""Smallest and largest power of a Yeo-Johnson transformation. 1 changes nothing, and 0 is log(1 + x) for positive x."""

_LEAST = 1e-300
"""Value used instead of a cost that is not positive, so that its logarithm exists."""


@dataclass(frozen=True)
class Scale:
    """A scale on which smaller values are better.

    Attributes:
        sign: 1, or -1 for values that are maximised.
        power: Power of the Yeo-Johnson transformation. None for a logarithm, 1 for unchanged values.
        unit: Value by which values are divided before a Yeo-Johnson transformation.
    """

    sign: float = 1.0
    power: float | None = 1.0
    unit: float = 1.0

    @classmethod
    def of_cost(cls, values: FloatArray, sign: float = 1.0) -> Scale:
        """Return the scale for a cost, given some of its values, `(n,)`: logarithmic if possible, otherwise warped."""
        values = np.asarray(values, dtype=float)
        positive = bool((values > 0).all())
        if positive and (np.ptp(np.log(values)) < 1e-9 if len(values) else True):
            return cls(sign, None)  # skewness is not defined for constant values
        if positive and abs(stats.skew(np.log(values))) <= MOST_SKEWED:
            return cls(sign, None)
        unit = float(np.median(np.abs(values)) or np.mean(np.abs(values)))  # so that the unit of the cost has no effect
        if np.ptp(values) < 1e-9 * max(unit, 1e-9):
            return cls(sign)
        likelihood: Any = stats.yeojohnson_llf
        best = optimize.minimize_scalar(
            lambda power: -likelihood(power, values / unit), bounds=_POWERS, method="bounded"
        )
        return cls(sign, float(best.x), unit)

    def __call__(self, values: Any) -> FloatArray:
        """Return values on this scale."""
        values = np.asarray(values, dtype=float)
        if self.power is None:
            return np.asarray(self.sign * np.log(np.maximum(values, _LEAST)))
        if self.power == 1.0:
            return self.sign * values
        return np.asarray(self.sign * stats.yeojohnson(values / self.unit, lmbda=self.power))
