"""The results of all trainings of a run so far: the difference of each plan from the bare backbone, and the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.pairs import item_variance
from nasbench.evidence.trainings import Trainings

__all__ = ["Standing", "kept_noise", "standing"]

_FAR = 3.0
"""A plan is left out only if it is more than this many standard errors below the bare backbone.

The standard error is that of its own difference, from the noise of seeds. A fixed limit (three standard deviations of
the difference of two single trainings) leaves plans in that are surely harmful. They make the prior wide, and then
plans without an effect are called BETTER: in .57 of simulated runs where 4 of 20 plans with 3 seeds are 3 s below and
none is better. With this limit it is .12 (`scripts/benchmarks/verdicts.py --tables harm`)."""

_MOST_ROUNDS = 20  # plans that come and go in turn would never end it


@dataclass(frozen=True, eq=False)
class Standing:
    """The comparison of the plans of a run with its bare backbone. The model, the race and power are computed from it.

    Attributes:
        difference: Mean metric of each plan minus that of the bare backbone, `(n,)`. NaN for a plan without a training.
        seeds: Number of trainings of each plan, `(n,)`.
        bare_seeds: Number of trainings of the bare backbone.
        noise: The noise of the run. Its `item_variance` is the mean over the plans that are not left out.
    """

    difference: NDArray[np.float64]
    seeds: NDArray[np.int64]
    bare_seeds: int
    noise: Noise

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """Whether each plan is left out, because it has no training or is far below the bare backbone, `(n,)`.

        It is far below if it is further below than the best plan is above, and by more than three of its standard
        errors. If such a plan was not left out, a module that breaks the network would make the prior so wide that no
        other plan would be shrunk.
        """
        known = self.difference[~np.isnan(self.difference)]
        of_seeds = 1 / np.maximum(self.seeds, 1) + 1 / self.bare_seeds
        error = np.sqrt(self.noise.seed_variance * of_seeds) if self.noise.freedom else np.zeros(len(self.seeds))
        limit = np.maximum(known.max(initial=0.0), _FAR * error)
        return np.isnan(self.difference) | (self.difference < -limit)


def kept_noise(
    plans: Sequence[Trainings],
    bare: Trainings,
    *,
    earlier: Sequence[Noise] = (),
    own: Sequence[Trainings] | None = None,
) -> Noise:
    """Return the noise of a run, pooled over the bare backbone and the plans that are not left out.

    A module that breaks the network also makes its metric differ far more between seeds. With a few such plans in the
    pool, no other plan of the run could be decided. `Standing.left_out` depends on the noise in turn. So it begins with
    the median of the plans' own variances, which a few plans cannot change, and goes on with the pool of the rest until
    the rest stays the same. Leaving out by the mean does not make the variance of the rest too small.

    Args:
        plans: The trainings of each plan, without the bare backbone.
        bare: The trainings of the bare backbone, at least one.
        earlier: As in `pooled_noise`.
        own: Trainings to pool, those of each plan and then those of the bare backbone. None means all trainings.
    """
    own = [*plans, bare] if own is None else own
    every = pooled_noise(own, earlier=earlier)
    if not every.freedom:
        return every
    noise = replace(every, seed_variance=min(every.seed_variance, _median_variance(own, every.seed_variance)))
    kept: list[bool] | None = None
    for _ in range(_MOST_ROUNDS):
        before, kept = kept, (~standing(plans, bare, noise).left_out).tolist()
        if kept == before:
            break
        noise = pooled_noise([one for one, stays in zip(own, [*kept, True], strict=True) if stays], earlier=earlier)
    return noise


def _median_variance(plans: Sequence[Trainings], default: float) -> float:
    """Return the median of the plans' own variances between seeds, each divided by the median of χ²(ν) / ν."""
    several = [plan for plan in plans if plan.seeds > 1]
    own = [float(plan.scores.var(ddof=1)) / float(chdtri(plan.seeds - 1, 0.5)) * (plan.seeds - 1) for plan in several]
    return float(np.median(own)) if own else default


def standing(plans: Sequence[Trainings], bare: Trainings, noise: Noise) -> Standing:
    """Return the results of the trainings of a run so far.

    Args:
        plans: The trainings of each plan, without the bare backbone.
        bare: The trainings of the bare backbone, at least one.
        noise: The noise pooled over the run.
    """
    difference = np.array([plan.mean - bare.mean for plan in plans], dtype=float)
    seeds = np.array([plan.seeds for plan in plans], dtype=int)
    first = Standing(difference, seeds, bare.seeds, noise)
    compared = [plan for plan, left_out in zip(plans, first.left_out, strict=True) if not left_out]
    # A plan with one seed does not show how much seeds change single items. So the pooled value is used for all plans.
    of_items = [item_variance(plan, bare, noise.interaction, noise.interaction) for plan in compared]
    if not of_items or not noise.freedom:
        return first
    return Standing(difference, seeds, bare.seeds, noise.with_items(float(np.mean(of_items))))
