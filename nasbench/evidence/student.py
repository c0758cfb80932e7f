"""Student's t distribution, with any number of degrees of freedom above 0.

scipy.stats has it too. It takes a second to import, which a command that only compares two runs would wait for.
"""

from __future__ import annotations

from scipy.special import stdtr, stdtrit

__all__ = ["t_p_value", "t_probability", "t_quantile"]


def t_quantile(probability: float, freedom: float) -> float:
    """Return the value below which t lies with this probability.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom. Infinite ones give the normal distribution.
    """
    return float(stdtrit(freedom, probability))


def t_probability(value: float, freedom: float) -> float:
    """Return the probability that t lies below a value."""
    return float(stdtr(freedom, value))


def t_p_value(value: float, freedom: float) -> float:
    """Return the probability that t lies at least as far from 0 as a value: the p-value of a two-sided test."""
    return float(2 * stdtr(freedom, -abs(value)))
