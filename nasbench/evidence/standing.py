"""The results of all trainings of a run so far: the difference of each plan from the bare backbone, and the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.noise import Noise
from nasbench.evidence.pairs import item_variance
from nasbench.evidence.trainings import Trainings

__all__ = ["Standing", "standing"]

_FAR = 3.0
"""A plan is left out only if it is more than this far below the bare backbone.

The unit is the standard deviation of the difference of two single trainings."""


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

        It is far below if it is further below than the best plan is above, and by more than three standard deviations
        of the difference of two single trainings. If such a plan was not left out, a module that breaks the network
        would make the prior so wide that no other plan would be shrunk.
        """
        known = self.difference[~np.isnan(self.difference)]
        spread = np.sqrt(2 * self.noise.seed_variance) if self.noise.freedom else 0.0
        limit = max(known.max(initial=0.0), _FAR * spread)
        return np.isnan(self.difference) | (self.difference < -limit)


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
