"""Student's t distribution, with any number of degrees of freedom above 0.

scipy.stats has this distribution too, but it takes a second to import scipy.stats.
"""

from __future__ import annotations

from scipy.special import stdtr, stdtrit

__all__ = ["t_p_value", "t_probability", "t_quantile"]


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile: the value below which t lies with the given probability.

    Args:
        probability: The probability, in (0, 1).
        freedom: Number of degrees of freedom. If it is infinite, the distribution is normal.
    """
    return float(stdtrit(freedom, probability))


def t_probability(value: float, freedom: float) -> float:
    """Return the probability that t is below a value."""
    return float(stdtr(freedom, value))


def t_p_value(value: float, freedom: float) -> float:
    """Return the probability that t is at least as far from 0 as a value: the p-value of a two-sided test."""
    return float(2 * stdtr(freedom, -abs(value)))
