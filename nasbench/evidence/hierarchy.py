"""The hierarchical model of all trainings of a run. It estimates the difference of each plan and shrinks it.

Plans are chosen because their first training gave a good result, so their differences are too large on average. The
model takes into account how many plans were tried, how much they differ, and that plans with the same modules are
similar.

Given F, the measured differences d from the bare backbone are normal around 0, with the covariance
F + diag(v) + v_bare·11ᵀ. Here v is the noise variance of each plan, v_bare that of the bare backbone, and F the
covariance of the true effects. The prior of F is a mixture of the following cases, each with its probability, which is
divided equally between the combinations of the case. The posterior is a mixture too:

    0.10   no plan differs: F = 0
    0.05   only one module has an effect, the same for each occurrence, with standard deviation 1.5·s or 6·s
    0.80   F = s²·(α²·K₁ + β²·K₂ + γ²·I), α, β, γ each 0.15, 0.35 or 0.7
    0.05   as in the line above, with α, β and γ multiplied by 4 or 16

The last case is for clear effects. Without it, if two plans are far better, the model would explain this by unlucky
seeds of the bare backbone. It would then call a plan without an effect WORSE.

For two plans, K₁ is the sum over the modules of how often one plan has the module times how often the other has it. K₂
is the number of (slot, module) pairs that both have. I is the identity: γ is for the effect specific to each plan.

s² is the larger of two variances: the variance between seeds, and the variance of one plan's metric due to the choice
of the items (half of `Noise.item_variance`). If both are 0 (a deterministic function), s² is the mean squared
difference. So no constant depends on the units of the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
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
"""Standard deviation, in units of s, of an effect that every occurrence of any module has in common.

The prior has this effect if most plans are below the bare backbone (`_MOST`)."""

_DENSE = 60
"""With up to this many plans, `_by_covariance` is faster than `_by_factors`."""

_MOST = 0.75
"""The common effect of all modules is in the prior if more than this share of the plans is below the bare backbone.

Plans that are left out do not count. If no plan truly differs, about half of the plans are below the bare backbone, or
all of them if the bare backbone had a lucky seed. If this value was one half, the common effect would be considered in
every second search, which would reduce the power. `scripts/benchmarks/verdicts.py` simulates both values.
"""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of each plan's true difference from the bare backbone. Values of plans that are left out are NaN.

    Attributes:
        mean: Posterior mean, `(n,)`. Higher is better.
        sd: Posterior standard deviation, `(n,)`.
        better: Probability that the plan is better than the bare backbone, `(n,)`.
        worse: Probability that the plan is worse, `(n,)`. The rest is the probability that there is no difference.
        left_out: Whether the model leaves the plan out, `(n,)`.
        harmful: Whether more than three quarters of the plans that are not left out are below the bare backbone. Each
            component of the prior is then used twice with half its probability: as it is, and with a common effect of
            all modules. So no plan is called BETTER only because it is less bad than the others.
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
        The posterior, or None if the noise is not known (`Noise.freedom` is 0).
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


def _noise_of(standing: Standing, kept: NDArray[np.int64]) -> tuple[FloatArray, float, float]:
    """Return the noise variance of each plan, that of the bare backbone, and the scale s² of the effects."""
    noise = standing.noise
    of_items = noise.item_variance / 2  # for one plan. `item_variance` is for the difference of two
    of_plans = of_items + noise.seed_variance / standing.seeds[kept]
    of_bare = of_items + noise.seed_variance / standing.bare_seeds
    # If both variances are 0 (a deterministic function), the scale is the mean squared difference, or 1 if that is 0.
    scale = max(noise.seed_variance, of_items) or float(np.mean(standing.difference[kept] ** 2)) or 1.0
    return of_plans + 1e-9 * scale, float(of_bare), scale


@dataclass(frozen=True, eq=False)
class _Prior:
    """The g components of the prior, with covariances `factors · diag(weights) · factorsᵀ + own · I` of the effects.

    Attributes:
        factors: What the n plans can share, `(n, k)`: how often a plan has each module, whether it has each (slot,
            module) pair (1 or 0), and its number of modules.
        weights: For each component, the variance of the effect of each factor, in units of s², `(g, k)`.
        own: For each component, the variance of the effect specific to each plan, in units of s², `(g,)`.
        probability: Prior probability of each component, `(g,)`.
    """

    factors: FloatArray
    weights: FloatArray
    own: FloatArray
    probability: FloatArray


def _mixture(
    d: FloatArray, of_plans: FloatArray, of_bare: float, scale: float, contents: Contents, harmful: bool
) -> FloatArray:
    """Return mean, standard deviation, P(better) and P(worse) of each plan, `(4, n)`."""
    prior = _prior(contents, harmful)
    components = _by_covariance if len(d) <= _DENSE else _by_factors
    mean, variance, log_likelihood = components(d, of_plans, of_bare, scale, prior)
    log_weight = np.log(prior.probability) + log_likelihood
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    varies = prior.weights @ (prior.factors**2).T + prior.own[:, None] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        better = np.where(varies, ndtr(mean / np.sqrt(variance)), 0.0)
    average = weight @ mean
    # The variance of a mixture is the mean of the squares minus the square of the mean.
    sd = np.sqrt(np.maximum(weight @ (variance + mean**2) - average**2, 0.0))
    return np.stack([average, sd, weight @ better, weight @ np.where(varies, 1 - better, 0.0)])


def _by_covariance(
    d: FloatArray, of_plans: FloatArray, of_bare: float, scale: float, prior: _Prior
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the posterior mean and variance of each plan, `(g, n)`, and the log-likelihood `(g,)`, for each component.

    The log-likelihood lacks a constant, which is the same for all components. The function needs `(g, n, n)` numbers
    and g·n³ operations, so it is used for few plans.
    """
    n = len(d)
    effects = (prior.factors * prior.weights[:, None, :]) @ prior.factors.T + prior.own[:, None, None] * np.eye(n)
    effects = scale * effects
    precision = np.linalg.inv(effects + np.diag(of_plans) + of_bare)
    gain = effects @ precision
    variance = np.maximum(np.einsum("gii->gi", effects) - np.einsum("gij,gij->gi", gain, effects), 0.0)
    _, log_determinant = np.linalg.slogdet(precision)
    return gain @ d, variance, 0.5 * (log_determinant - np.einsum("i,gij,j->g", d, precision, d))


def _by_factors(
    d: FloatArray, of_plans: FloatArray, of_bare: float, scale: float, prior: _Prior
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the same as `_by_covariance`, in time and memory that grow linearly with the number of plans.

    The sum of the shared part of the effects and the noise of the bare backbone is the product of the columns (the k
    factors, and a column of ones) with k + 1 independent normal coefficients. The effect specific to each plan is added
    to its noise. So the model is a ridge regression of d on k + 1 columns (Woodbury's identity; Rasmussen & Williams,
    Gaussian Processes for Machine Learning, 2006, A.3). The plan-specific effects are estimated afterwards from the
    residuals. In a component, columns whose coefficient has variance 0 are left out of the regression.
    """
    n, components = len(d), len(prior.own)
    columns = np.column_stack([prior.factors, np.ones(n)])  # the last one is for the noise of the bare backbone
    # prior standard deviations of the coefficients
    sizes = np.sqrt(np.column_stack([scale * prior.weights, np.full(components, of_bare)]))
    shared = np.empty((components, columns.shape[1]))  # posterior mean of the coefficients
    variance, share, log_likelihood = np.empty((components, n)), np.empty((components, n)), np.empty(components)
    for own in np.unique(prior.own):
        rest = scale * own + of_plans
        gram, projected = columns.T @ (columns / rest[:, None]), columns.T @ (d / rest)
        part = scale * own / rest  # share of a plan's residual that is expected to be its specific effect
        for index in np.flatnonzero(prior.own == own):
            used = np.flatnonzero(sizes[index])
            size = sizes[index, used]
            factor = np.linalg.cholesky(gram[np.ix_(used, used)] * np.outer(size, size) + np.eye(len(used)))
            covariance = cho_solve((factor, True), np.eye(len(used))) * np.outer(size, size)
            w = cho_solve((factor, True), size * projected[used])  # the coefficients divided by their sizes
            shared[index] = 0.0
            shared[index, used] = size * w
            share[index] = part
            variance[index] = part * of_plans + _spread(columns[:, used], covariance, part, has_bare=of_bare > 0)
            log_determinant = np.log(rest).sum() + 2 * np.log(np.diag(factor)).sum()
            left = d - columns @ shared[index]
            log_likelihood[index] = -0.5 * (log_determinant + (left**2 / rest).sum() + w @ w)
    of_factors = shared[:, :-1] @ prior.factors.T
    mean = of_factors + share * (d - of_factors - shared[:, -1:])
    return mean, variance, log_likelihood


def _spread(columns: FloatArray, covariance: FloatArray, part: FloatArray, *, has_bare: bool) -> FloatArray:
    """Return the part of the posterior variance of each effect that comes from the coefficients, `(n,)`.

    Given w and b, the mean of a plan's effect is f·w + part·(d − f·w − b). Here f are the factors of the plan, w their
    coefficients, and b the noise of the bare backbone, which is the last coefficient. So w enters with the factor
    1 − part, and b with −part.

    Args:
        columns: The columns of the regression, `(n, k)`. Without `has_bare`, the last one is also a factor.
        covariance: Posterior covariance of the coefficients, `(k, k)`.
        part: Share of each plan's residual that is expected to be its specific effect, `(n,)`.
        has_bare: Whether the last column is for the noise of the bare backbone. It is not if this noise is 0.
    """
    if not has_bare:
        return (1 - part) ** 2 * np.einsum("nk,nk->n", columns @ covariance, columns)
    factors = columns[:, :-1]
    direct = np.einsum("nk,nk->n", factors @ covariance[:-1, :-1], factors)
    mixed = factors @ covariance[:-1, -1]
    spread = (1 - part) ** 2 * direct - 2 * part * (1 - part) * mixed + part**2 * covariance[-1, -1]
    return np.maximum(spread, 0.0)


def _prior(contents: Contents, harmful: bool) -> _Prior:
    """Return the prior of the effects in units of s²."""
    occurrences, present = _resemblance(contents)
    modules, places = occurrences.shape[1], present.shape[1]
    total = occurrences.sum(axis=1, keepdims=True)

    def component(of_modules: FloatArray | float = 0.0, of_slots: float = 0.0, own: float = 0.0) -> FloatArray:
        return np.concatenate([np.broadcast_to(of_modules, modules), np.full(places, of_slots), [0.0, own]])

    grid = [component(alpha**2, beta**2, gamma**2) for alpha, beta, gamma in product(_SCALES, repeat=3)]
    alone = [component(size**2 * one) for one in np.eye(modules) for size in _SPIKES]
    clear = [size**2 * effects for size in _CLEAR_SIZES for effects in grid]
    groups = [(_NOTHING, [component()]), (_ONE_MODULE, alone), (_GRID, grid), (_CLEAR, clear)]
    rows = np.stack([one for _, group in groups for one in group])
    probability = np.array([share / len(group) for share, group in groups for _ in group])
    if harmful and modules:
        worse = rows.copy()
        worse[:, -2] = _HARM**2
        rows, probability = np.concatenate([rows, worse]), np.concatenate([probability, probability]) / 2
    return _Prior(np.hstack([occurrences, present, total]), rows[:, :-1], rows[:, -1], probability)


def _resemblance(contents: Contents) -> tuple[FloatArray, FloatArray]:
    """Return how often each plan has each module, `(n, modules)`, and whether it has each (slot, module) pair.

    The second array has ones and zeros, `(n, places)`, with a column for each pair that occurs in any plan.
    """
    modules = {name: i for i, name in enumerate(sorted({module for plan in contents for _, module in plan}))}
    places = {place: i for i, place in enumerate(sorted({place for plan in contents for place in plan}))}
    occurrences = np.zeros((len(contents), len(modules)))
    present = np.zeros((len(contents), len(places)))
    for row, plan in enumerate(contents):
        for slot, module in plan:
            occurrences[row, modules[module]] += 1
            present[row, places[slot, module]] = 1
    return occurrences, present
