"""What all trainings of a run say so far: a difference a plan and the noise around it."""

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
"""Standard deviations of a difference of two single trainings. No plan this far below the bare backbone is compared."""


@dataclass(frozen=True, eq=False)
class Standing:
    """The plans of a run beside its bare backbone, as the hierarchical model, the race and power read them.

    Attributes:
        difference: Mean of each plan minus mean of the bare backbone, `(n,)`. NaN for a plan without a training.
        seeds: Number of trainings of each plan, `(n,)`.
        bare_seeds: Number of trainings of the bare backbone.
        noise: The noise of the run. Its variance of the items is the mean over the plans.
    """

    difference: NDArray[np.float64]
    seeds: NDArray[np.int64]
    bare_seeds: int
    noise: Noise

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """Plans that are not compared: without a training, or far below the bare backbone, `(n,)`.

        A module that breaks the network would make the prior so wide that nothing else is shrunk.
        """
        known = self.difference[~np.isnan(self.difference)]
        spread = np.sqrt(2 * self.noise.seed_variance) if self.noise.freedom else 0.0
        limit = max(known.max(initial=0.0), _FAR * spread)
        return np.isnan(self.difference) | (self.difference < -limit)


def standing(plans: Sequence[Trainings], bare: Trainings, noise: Noise) -> Standing:
    """Return what the trainings of a run say so far.

    Args:
        plans: The trainings of each plan, without the bare backbone.
        bare: Those of the bare backbone, at least one.
        noise: The noise pooled over the run.
    """
    difference = np.array([plan.mean - bare.mean for plan in plans], dtype=float)
    seeds = np.array([plan.seeds for plan in plans], dtype=int)
    first = Standing(difference, seeds, bare.seeds, noise)
    compared = [plan for plan, left_out in zip(plans, first.left_out, strict=True) if not left_out]
    # A plan of one seed does not show what seeds change on single items. So the pooled figure serves for all.
    of_items = [item_variance(plan, bare, noise.interaction, noise.interaction) for plan in compared]
    if not of_items or not noise.freedom:
        return first
    return Standing(difference, seeds, bare.seeds, noise.with_items(float(np.mean(of_items))))
