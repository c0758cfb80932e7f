"""The hierarchical model of all trainings of a run: it estimates the difference of each plan and shrinks it.

Plans are chosen because their first training gave a good result, so their differences are too large on average. The
model takes into account how many plans were tried, how much they differ, and that plans with the same modules are
similar.

The differences d from the bare backbone are normal around 0 with the covariance F + diag(v) + v_bare·11ᵀ. F is that of
the true effects. It is one of these, and the posterior is their mixture:

    0.10   no plan differs: F = 0
    0.05   only one module has an effect, v·s for each occurrence, v 1.5 or 6
    0.80   F = s²·(α²·K₁ + β²·K₂ + γ²·I), α, β, γ each 0.15, 0.35 or 0.7
    0.05   the same with effects of 4 or 16 times that size

The last row is for clear effects. Without it, the model would explain two plans that are far better by a bare backbone
with unlucky seeds, and would call a plan without an effect WORSE.

K₁ counts the modules that two plans share, K₂ the slots with the same module. All values are in units of s, the
standard deviation between seeds, so no constant depends on the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasbench.evidence.standing import Standing

__all__ = ["Contents", "Posterior", "posterior"]

FloatArray = NDArray[np.float64]

Contents = Sequence[Sequence[tuple[str, str]]]
"""For each plan its (slot, module) pairs. A variant counts as its module, an expression gives all its modules."""

_NOTHING, _ONE_MODULE, _GRID, _CLEAR = 0.10, 0.05, 0.80, 0.05
_SCALES = (0.15, 0.35, 0.7)
_SPIKES = (1.5, 6.0)
_CLEAR_SIZES = (4.0, 16.0)

_HARM = 0.35
"""Standard deviation of the common effect of all modules, if modules make the network worse, in units of s."""

_MOST = 0.75
"""Share of plans below the bare backbone above which this effect is considered.

If no plan differs, half of the plans are below the bare backbone, or all of them if the bare backbone had a lucky seed.
With one half, the effect would be considered in every second search, which would reduce the power.
`scripts/benchmarks/verdicts.py` simulates both.
"""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of each plan's true difference from the bare backbone. NaN for a plan that is left out.

    Attributes:
        mean: Posterior mean, `(n,)`. More is better.
        sd: Posterior standard deviation, `(n,)`.
        better: Probability that the plan is better than the bare backbone, `(n,)`.
        worse: Probability that the plan is worse, `(n,)`. The rest is the probability that there is no difference.
        left_out: Plans that the model does not compare, `(n,)`.
        harmful: Whether more than three quarters of the plans are below the bare backbone. Half of the prior then has a
            common effect of all modules, so that no plan is called only because it is less bad than others.
    """

    mean: FloatArray
    sd: FloatArray
    better: FloatArray
    worse: FloatArray
    left_out: NDArray[np.bool_]
    harmful: bool


def posterior(standing: Standing, contents: Contents) -> Posterior | None:
    """Return the posterior of each plan, given all trainings.

    Args:
        standing: The results of all trainings.
        contents: The (slot, module) pairs of each plan.

    Returns:
        The posterior. None if no plan has two seeds, so that the noise is not known.
    """
    if not standing.noise.freedom:
        return None
    left_out = standing.left_out
    kept = np.flatnonzero(~left_out)
    mean, sd, better, worse = columns = np.full((4, len(left_out)), np.nan)
    harmful = False
    if len(kept):
        d = standing.difference[kept]
        harmful = bool((d < 0).mean() > _MOST)
        columns[:, kept] = _mixture(d, *_noise_of(standing, kept), [contents[int(plan)] for plan in kept], harmful)
    return Posterior(mean, sd, better, worse, left_out, harmful)


def _noise_of(standing: Standing, kept: NDArray[np.int64]) -> tuple[FloatArray, float]:
    """Return the covariance of the measured around the true differences, and the scale s² of the effects."""
    noise = standing.noise
    of_items = noise.item_variance / 2  # of one plan. V is that of a difference of two
    of_plans = of_items + noise.seed_variance / standing.seeds[kept]
    of_bare = of_items + noise.seed_variance / standing.bare_seeds
    # If seeds change nothing, as in a deterministic function, the scale comes from the items, or from the differences.
    scale = max(noise.seed_variance, of_items) or float(np.mean(standing.difference[kept] ** 2)) or 1.0
    return np.diag(of_plans) + of_bare + 1e-9 * scale * np.eye(len(kept)), scale


def _mixture(d: FloatArray, noise: FloatArray, scale: float, contents: Contents, harmful: bool) -> FloatArray:
    """Return mean, standard deviation, P(better) and P(worse) of each plan, `(4, n)`."""
    effects, prior = _prior(contents, harmful)
    effects = scale * effects
    precision = np.linalg.inv(effects + noise)
    gain = effects @ precision
    mean = gain @ d
    variance = np.maximum(np.einsum("gii->gi", effects) - np.einsum("gij,gij->gi", gain, effects), 0.0)
    _, log_determinant = np.linalg.slogdet(precision)
    log_weight = np.log(prior) + 0.5 * (log_determinant - np.einsum("i,gij,j->g", d, precision, d))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    varies = np.einsum("gii->gi", effects) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        better = np.where(varies, ndtr(mean / np.sqrt(variance)), 0.0)
    average = weight @ mean
    # the variance of a mixture is the mean of the squares minus the square of the mean
    sd = np.sqrt(np.maximum(weight @ (variance + mean**2) - average**2, 0.0))
    return np.stack([average, sd, weight @ better, weight @ np.where(varies, 1 - better, 0.0)])


def _prior(contents: Contents, harmful: bool) -> tuple[FloatArray, FloatArray]:
    """Return the covariances of the effects in units of s², `(g, n, n)`, and their prior probabilities, `(g,)`."""
    occurrences, shared_slots = _resemblance(contents)
    n, modules = occurrences.shape
    of_modules, one_each = occurrences @ occurrences.T, np.eye(n)
    grid = [
        alpha**2 * of_modules + beta**2 * shared_slots + gamma**2 * one_each
        for alpha, beta, gamma in product(_SCALES, repeat=3)
    ]
    alone = [size**2 * np.outer(column, column) for column in occurrences.T for size in _SPIKES]
    clear = [size**2 * effects for size in _CLEAR_SIZES for effects in grid]
    groups = [(_NOTHING, [np.zeros((n, n))]), (_ONE_MODULE, alone), (_GRID, grid), (_CLEAR, clear)]
    effects = np.stack([one for _, group in groups for one in group])
    prior = np.array([share / len(group) for share, group in groups for _ in group])
    if harmful and modules:
        total = occurrences.sum(axis=1)
        effects = np.concatenate([effects, effects + _HARM**2 * np.outer(total, total)])
        prior = np.concatenate([prior, prior]) / 2
    return effects, prior


def _resemblance(contents: Contents) -> tuple[FloatArray, FloatArray]:
    """Return how often each plan has each module, `(n, modules)`, and how many slots two plans share, `(n, n)`."""
    modules = sorted({module for plan in contents for _, module in plan})
    places = sorted({place for plan in contents for place in plan})
    occurrences = np.zeros((len(contents), len(modules)))
    present = np.zeros((len(contents), len(places)))
    for row, plan in enumerate(contents):
        for slot, module in plan:
            occurrences[row, modules.index(module)] += 1
            present[row, places.index((slot, module))] = 1
    return occurrences, present @ present.T
