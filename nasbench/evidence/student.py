"""Student's t distribution, with any number of degrees of freedom above 0.

scipy.stats has it too, but importing scipy.stats takes a second.
"""

from __future__ import annotations

from scipy.special import stdtr, stdtrit

__all__ = ["t_p_value", "t_probability", "t_quantile"]


def t_quantile(probability: float, freedom: float) -> float:
    """Return the value below which t is with this probability.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom. If infinite, the distribution is normal.
    """
    return float(stdtrit(freedom, probability))


def t_probability(value: float, freedom: float) -> float:
    """Return the probability that t is below a value."""
    return float(stdtr(freedom, value))


def t_p_value(value: float, freedom: float) -> float:
    """Return the probability that t is at least as far from 0 as a value: the p-value of a two-sided test."""
    return float(2 * stdtr(freedom, -abs(value)))
