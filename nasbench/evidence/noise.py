"""The noise of a metric: variance between seeds and variance due to the items, pooled over the plans of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nasbench.evidence.items import item_freedom
from nasbench.evidence.trainings import Trainings

__all__ = ["Noise", "pooled_noise"]

_ITEM_SHARE = 0.2
"""Default variance of the items' difference between two plans, in units of the interaction, if there is only one
plan."""


@dataclass(frozen=True)
class Noise:
    """The noise in a measured difference of two plans.

    Attributes:
        seed_variance: Variance of one training's score around the mean of its plan: s². NaN if no plan has two seeds.
        freedom: Degrees of freedom of `seed_variance`: ν, the sum over plans of (number of seeds - 1).
        interaction: Variance of the change that a seed causes on a single item: W. 0 without items.
        items: Number of evaluation items: N. 0 without items.
        item_variance: Variance of a difference of two plans due to the choice of the items: V. 0 without items.
        item_freedom: Degrees of freedom of `item_variance`. Infinite without items.
        grid: Step between possible values of the metric, 1/N for a share of items. 0 if there is no such step.
    """

    seed_variance: float
    freedom: int
    interaction: float = 0.0
    items: int = 0
    item_variance: float = 0.0
    item_freedom: float = np.inf
    grid: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return a noise with a known seed variance as data for JSON. `Noise(**data)` restores it."""
        return {name: value for name, value in asdict(self).items() if np.isfinite(value)}

    def with_items(self, item_variance: float) -> Noise:
        """Return the noise with another variance of the items. An estimate below 0 counts as 0."""
        return replace(self, item_variance=float(np.maximum(item_variance, 0.0)))

    def on_items(self, items: int) -> Noise:
        """Return the noise for another number of evaluation items of the same kind, such as a test split.

        The item variance V is inversely proportional to the number of items N. Only the part W/N of the seed variance
        depends on N. Without items the noise is returned unchanged.

        Args:
            items: The other number of items, at least 1.
        """
        if not self.items:
            return self
        of_seeds = self.seed_variance + self.interaction * (1 / items - 1 / self.items)
        scale = self.items / items
        return replace(
            self,
            # not less than the variance from the items alone, because the true variance between seeds is not negative
            seed_variance=max(of_seeds, self.interaction / items),
            items=items,
            item_variance=self.item_variance * scale,
            grid=self.grid * scale,
        )

    def with_seeds(self, added: int) -> Noise:
        """Return the noise with the degrees of freedom of `added` further trainings."""
        return replace(self, freedom=self.freedom + added)

    def error(self, *seeds: int) -> tuple[float, float]:
        """Return the standard error of a difference, or of one plan's mean, and its degrees of freedom.

        The variances of items and seeds are added. Their degrees of freedom are combined by Satterthwaite's rule
        (Biometrics Bulletin 1946).

        Args:
            seeds: Number of seeds of each plan: two numbers for a difference, one for a mean.
        """
        of_seeds = self.seed_variance * sum(1 / count for count in seeds)
        # Scores that are rounded to a grid can be equal by chance. Rounding alone adds a variance of grid²/12 to a
        # score.
        square = max(self.item_variance + of_seeds, self.grid**2 * len(seeds) / 12)
        uncertainty = self.item_variance**2 / self.item_freedom + of_seeds**2 / self.freedom if self.freedom else np.nan
        if uncertainty == 0:
            return float(np.sqrt(square)), float(self.freedom)
        return float(np.sqrt(square)), float(square**2 / uncertainty)


def pooled_noise(plans: Sequence[Trainings], *, earlier: Sequence[Noise] = ()) -> Noise:
    """Return the noise of a run, pooled over all plans with two seeds or more.

    Two or three seeds of one plan are too few to estimate a variance. So all plans of a run are assumed to have the
    same variance.

    Args:
        plans: The trainings of every plan of the run: the bare backbone, the plans, their controls.
        earlier: The noise of earlier runs of the same task. They add their degrees of freedom.

    Returns:
        The noise, with the variance of the items as expected before any two plans were compared.
    """
    several = [plan for plan in plans if plan.seeds > 1]
    squares = sum(float(((plan.scores - plan.mean) ** 2).sum()) for plan in several)
    freedom = sum(plan.seeds - 1 for plan in several) + sum(noise.freedom for noise in earlier)
    squares += sum(noise.seed_variance * noise.freedom for noise in earlier if noise.freedom)
    # A metric has a step only if the items of every plan are integers. The items of one plan can all be 0 by chance.
    grid = min((plan.grid for plan in plans if plan.items is not None), default=0.0)
    stored = [plan.items.shape[1] for plan in plans if plan.items is not None]
    items = stored[0] if stored else 0
    block = max((plan.block for plan in plans), default=1)
    interaction = _interaction(several, earlier)
    return Noise(
        seed_variance=max(squares / freedom, grid**2 / 12) if freedom else np.nan,
        freedom=freedom,
        interaction=interaction,
        items=items,
        item_variance=_ITEM_SHARE * interaction / items if items else 0.0,
        item_freedom=item_freedom(items, block) if items else np.inf,
        grid=grid,
    )


def _interaction(several: Sequence[Trainings], earlier: Sequence[Noise]) -> float:
    known = [(plan.interaction, plan.seeds - 1) for plan in several if not np.isnan(plan.interaction)]
    known += [(noise.interaction, noise.freedom) for noise in earlier if noise.items and noise.freedom]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else 0.0
