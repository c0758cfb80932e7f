"""The noise of a metric: its variance between seeds, and its variance due to the choice of the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nasbench.evidence.items import item_freedom
from nasbench.evidence.trainings import Trainings

__all__ = ["Noise", "binomial_noise", "pooled_noise"]

_ITEM_SHARE = 0.2
"""Default for the item variance of the difference of two plans, used until two plans have been compared: this value
times W / N (`Noise`)."""


@dataclass(frozen=True)
class Noise:
    """The noise in a measured difference of two plans.

    Attributes:
        seed_variance: Variance s² of the score of one training around the mean of its plan. NaN if it is not known.
        freedom: Degrees of freedom ν of `seed_variance`: the sum, over the plans of the run and of earlier runs, of
            (number of seeds - 1). If it is 0, the noise is not known.
        interaction: Variance W of the change that a seed causes in the score of a single item
            (`Trainings.interaction`). 0 if there are no items.
        items: Number N of evaluation items. 0 if there are no items.
        item_variance: Variance V of the difference of two plans due to the choice of the items. 0 if there are no
            items.
        item_freedom: Degrees of freedom of `item_variance`. Infinite if there are no items.
        grid: Step between possible values of the metric. It is 1/N if the metric is a share of the items, and 0 if
            there is no such step.
    """

    seed_variance: float
    freedom: int
    interaction: float = 0.0
    items: int = 0
    item_variance: float = 0.0
    item_freedom: float = np.inf
    grid: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the noise as JSON-serialisable data. `Noise(**data)` restores it if the seed variance is known."""
        return {name: value for name, value in asdict(self).items() if np.isfinite(value)}

    def with_items(self, item_variance: float) -> Noise:
        """Return the noise with another `item_variance`. An estimate below 0 counts as 0."""
        return replace(self, item_variance=float(np.maximum(item_variance, 0.0)))

    def on_items(self, items: int) -> Noise:
        """Return the noise for another number of evaluation items of the same kind, such as a test split.

        The item variance V and the grid are inversely proportional to the number of items N. Of the seed variance, only
        the part W/N depends on N. If there are no items, the noise is returned unchanged.

        Args:
            items: The other number of items, at least 1.
        """
        if not self.items:
            return self
        of_seeds = self.seed_variance + self.interaction * (1 / items - 1 / self.items)
        scale = self.items / items
        return replace(
            self,
            # at least the part W/N, because the remaining part of a variance cannot be negative
            seed_variance=max(of_seeds, self.interaction / items),
            items=items,
            item_variance=self.item_variance * scale,
            grid=self.grid * scale,
        )

    def with_seeds(self, added: int) -> Noise:
        """Return the noise with `added` more degrees of freedom, for as many additional trainings."""
        return replace(self, freedom=self.freedom + added)

    def error(self, *seeds: int) -> tuple[float, float]:
        """Return the standard error of a difference or of one plan's mean, and the degrees of freedom of the error.

        The square of the error is `item_variance` plus s²/S for each plan with S seeds. For the mean of one plan,
        `item_variance` must be that of this mean. The degrees of freedom are combined by Satterthwaite's rule
        (Biometrics Bulletin 1946).

        Args:
            seeds: Number of seeds of each plan: two numbers for a difference, one for a mean.
        """
        of_seeds = self.seed_variance * sum(1 / count for count in seeds)
        # If scores are rounded to a grid, they can be equal by chance. So the square is at least the variance of the
        # rounding of one score, grid²/12, for each plan.
        square = max(self.item_variance + of_seeds, self.grid**2 * len(seeds) / 12)
        uncertainty = self.item_variance**2 / self.item_freedom + of_seeds**2 / self.freedom if self.freedom else np.nan
        if uncertainty == 0:
            return float(np.sqrt(square)), float(self.freedom)
        return float(np.sqrt(square)), float(square**2 / uncertainty)


def pooled_noise(plans: Sequence[Trainings], *, earlier: Sequence[Noise] = ()) -> Noise:
    """Return the noise of a run, pooled over all plans with two seeds or more.

    Two or three seeds of one plan are too few to estimate a variance. So all plans of a run are assumed to have the
    same variance. If no score of any plan differs between its seeds, the variance is that which the items show (W/N).

    Args:
        plans: The trainings of the bare backbone and of each plan. For a comparison with controls, also theirs.
        earlier: The noise of earlier runs of the same task. Their degrees of freedom are added.

    Returns:
        The noise. Its item variance is a default (0.2 · W / N), because no two plans have been compared yet.
    """
    several = [plan for plan in plans if plan.seeds > 1]
    squares = sum(float(((plan.scores - plan.mean) ** 2).sum()) for plan in several)
    freedom = sum(plan.seeds - 1 for plan in several) + sum(noise.freedom for noise in earlier)
    squares += sum(noise.seed_variance * noise.freedom for noise in earlier if noise.freedom)
    # The metric has a step only if the values of the items are integers for every plan. For a single plan they can be
    # integers by chance.
    grid = min((plan.grid for plan in plans if plan.items is not None), default=0.0)
    stored = [plan.items.shape[1] for plan in plans if plan.items is not None]
    items = stored[0] if stored else 0
    block = max((plan.block for plan in plans), default=1)
    interaction = _interaction(several, earlier)
    least = grid**2 / 12
    if items and all(plan.is_constant for plan in several) and not any(noise.freedom for noise in earlier):
        # Equal scores of all seeds do not show that seeds cause no noise. For example, a network that predicts one
        # class for everything has the same accuracy with each class. The items then show at least the part W/N.
        least = max(least, interaction / items)
    return Noise(
        seed_variance=max(squares / freedom, least) if freedom else np.nan,
        freedom=freedom,
        interaction=interaction,
        items=items,
        item_variance=_ITEM_SHARE * interaction / items if items else 0.0,
        item_freedom=item_freedom(items, block) if items else np.inf,
        grid=grid,
    )


def binomial_noise(share: float, items: int, freedom: int) -> Noise:
    """Return a guess of the noise of a share of items, such as an accuracy, before anything is trained.

    Whether a training gets an item right is taken as an independent draw with the probability p = `share`, so W is
    p · (1 − p), and the variance between seeds is W / N. Trainings of one network agree more than independent draws, so
    the noise is mostly smaller.

    Args:
        share: The expected share p, from 0 to 1.
        items: Number N of evaluation items.
        freedom: Degrees of freedom that the trainings to come will have.
    """
    interaction = share * (1 - share)
    return Noise(
        seed_variance=interaction / items,
        freedom=freedom,
        interaction=interaction,
        items=items,
        item_variance=_ITEM_SHARE * interaction / items,
        item_freedom=item_freedom(items, 1),
        grid=1 / items,
    )


def _interaction(several: Sequence[Trainings], earlier: Sequence[Noise]) -> float:
    known = [(plan.interaction, plan.seeds - 1) for plan in several if not np.isnan(plan.interaction)]
    known += [(noise.interaction, noise.freedom) for noise in earlier if noise.items and noise.freedom]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else 0.0
