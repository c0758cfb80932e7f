"""The hierarchical model of all trainings of a run. It estimates the difference of each plan and shrinks it.

Plans are chosen because their first training gave a good result, so their differences are too large on average. The
model takes into account how many plans were tried, how much they differ, and that plans with the same modules are
similar.

The measured differences d from the bare backbone are normal around 0, with the covariance F + diag(v) + v_bare·11ᵀ.
Here v is the noise variance of each plan, v_bare that of the bare backbone, and F the covariance of the true effects.
The prior of F is a mixture of the following cases, each with its probability. The posterior is a mixture too:

    0.10   no plan differs: F = 0
    0.05   only one module has an effect, with standard deviation 1.5·s or 6·s for each occurrence
    0.80   F = s²·(α²·K₁ + β²·K₂ + γ²·I), α, β, γ each 0.15, 0.35 or 0.7
    0.05   as in the line above, with effects of 4 or 16 times that size

The last case is for clear effects. Without it, if two plans are far better, the model would explain this by unlucky
seeds of the bare backbone. It would then call a plan without an effect WORSE.

K₁ counts the modules that two plans share, and K₂ counts the slots in which they have the same module. All values are
in units of s, the standard deviation between seeds. So no constant depends on the metric.
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
"""For each plan, its (slot, module) pairs. Hyper-parameters are ignored. An expression gives all its modules."""

_NOTHING, _ONE_MODULE, _GRID, _CLEAR = 0.10, 0.05, 0.80, 0.05
_SCALES = (0.15, 0.35, 0.7)
_SPIKES = (1.5, 6.0)
_CLEAR_SIZES = (4.0, 16.0)

_HARM = 0.35
"""Standard deviation, in units of s, of the common effect of all modules. It is used if modules make networks worse."""

_MOST = 0.75
"""The common effect is considered if more than this share of the plans is below the bare backbone.

If no plan truly differs, about half of the plans are below the bare backbone, or all of them if the bare backbone had a
lucky seed. If this value was one half, the common effect would be considered in every second search, which would reduce
the power. `scripts/benchmarks/verdicts.py` simulates both values.
"""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of each plan's true difference from the bare backbone. Values of plans that are left out are NaN.

    Attributes:
        mean: Posterior mean, `(n,)`. More is better.
        sd: Posterior standard deviation, `(n,)`.
        better: Probability that the plan is better than the bare backbone, `(n,)`.
        worse: Probability that the plan is worse, `(n,)`. The rest is the probability that there is no difference.
        left_out: Whether the model leaves the plan out, `(n,)`.
        harmful: Whether more than three quarters of the plans are below the bare backbone. Half of the prior then has a
            common effect of all modules. So no plan is called BETTER only because it is less bad than the others.
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
        The posterior, or None if no plan has two seeds, because the noise is then not known.
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
    """Return the covariance of the errors of the measured differences, and the scale s² of the effects."""
    noise = standing.noise
    of_items = noise.item_variance / 2  # for one plan. V is for the difference of two plans
    of_plans = of_items + noise.seed_variance / standing.seeds[kept]
    of_bare = of_items + noise.seed_variance / standing.bare_seeds
    # If seeds change nothing (a deterministic function), the scale comes from the items, or else from the differences.
    scale = max(noise.seed_variance, of_items) or float(np.mean(standing.difference[kept] ** 2)) or 1.0
    return np.diag(of_plans) + of_bare + 1e-9 * scale * np.eye(len(kept)), scale


def _mixture(d: FloatArray, noise: FloatArray, scale: float, contents: Contents, harmful: bool) -> FloatArray:
    """Return the posterior mean, standard deviation, P(better) and P(worse) of each plan, `(4, n)`."""
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
    # The variance of a mixture is the mean of the squares minus the square of the mean.
    sd = np.sqrt(np.maximum(weight @ (variance + mean**2) - average**2, 0.0))
    return np.stack([average, sd, weight @ better, weight @ np.where(varies, 1 - better, 0.0)])


def _prior(contents: Contents, harmful: bool) -> tuple[FloatArray, FloatArray]:
    """Return the g covariances of the effects in units of s², `(g, n, n)`, and their prior probabilities, `(g,)`."""
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
    """Return how often each plan has each module, `(n, modules)`, and K₂ for each two plans, `(n, n)`."""
    modules = sorted({module for plan in contents for _, module in plan})
    places = sorted({place for plan in contents for place in plan})
    occurrences = np.zeros((len(contents), len(modules)))
    present = np.zeros((len(contents), len(places)))
    for row, plan in enumerate(contents):
        for slot, module in plan:
            occurrences[row, modules.index(module)] += 1
            present[row, places.index((slot, module))] = 1
    return occurrences, present @ present.T
