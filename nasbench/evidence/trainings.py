"""The trainings of one plan, as the statistics use them: one score for each seed, and one value for each item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.items import long_run_variance

__all__ = ["Trainings"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trainings:
    """All successful trainings of one plan. For all values, higher is better. Create it with `Trainings.of`.

    Attributes:
        scores: The metric of each of S seeds, `(S,)`.
        items: For each seed, the metric of each of N evaluation items, `(S, N)`. None if the items of any seed are not
            stored.
        block: Number of consecutive items that depend on each other: the horizon for forecasts, and otherwise 1.
    """

    scores: FloatArray
    items: FloatArray | None = None
    block: int = 1

    @classmethod
    def of(
        cls,
        scores: Sequence[float | None],
        items: Sequence[FloatArray | None] | None = None,
        *,
        direction: str = "maximize",
        block: int = 1,
    ) -> Trainings:
        """Return the trainings of a plan. The sign of a minimised metric is changed here and nowhere else.

        Args:
            scores: The metric of each seed. A training with the score None or a score that is not finite has failed and
                is left out.
            items: For each seed, the metric of each of N evaluation items, `(N,)`, or None if it was not stored.
            direction: Direction of the metric, "maximize" or "minimize".
            block: See the attribute `block`.

        Raises:
            ValueError: If `items` does not have one entry for each score, or if two of its arrays have different
                lengths.

        Example:
            >>> Trainings.of([0.25, 0.35, None], direction="minimize").scores
            array([-0.25, -0.35])
        """
        sign = -1.0 if direction == "minimize" else 1.0
        figures = np.array([np.nan if score is None else score for score in scores], dtype=float)
        succeeded = np.isfinite(figures)
        stored = None
        if items is not None:
            of_succeeded = [one for one, kept in zip(items, succeeded, strict=True) if kept]
            known = [np.asarray(one, dtype=float) for one in of_succeeded if one is not None]
            if known and len(known) == len(of_succeeded):
                stored = sign * np.stack(known)
        return cls(sign * figures[succeeded], stored, block)

    @property
    def seeds(self) -> int:
        """Number of trainings, one for each seed."""
        return len(self.scores)

    @cached_property
    def mean(self) -> float:
        """Mean score over the seeds. NaN if no training succeeded."""
        return float(self.scores.mean()) if self.seeds else np.nan

    @cached_property
    def is_constant(self) -> bool:
        """Whether all seeds have the same score. So a single seed is constant too."""
        # means of items can differ in the last digit
        return bool(np.allclose(self.scores, self.scores[:1], rtol=1e-9, atol=0.0))

    @cached_property
    def item_means(self) -> FloatArray | None:
        """For each item, the mean over the seeds, `(N,)`. None if there are no items."""
        return None if self.items is None else np.asarray(self.items.mean(axis=0))

    @cached_property
    def interaction(self) -> float:
        """Variance W between seeds of the metric of a single item, without the change that a seed causes on all items.

        It is pooled over the items. If neighbouring items depend on each other, it is a long-run variance. NaN if there
        is only one seed or no items.
        """
        if self.items is None or self.seeds < 2:
            return np.nan
        residuals = self.items - self.items.mean(axis=0)
        # A change that is the same on all items belongs to the seed variance alone. If W included it, `item_variance`
        # in pairs.py would subtract too much, because the variance over items does not contain it.
        residuals = residuals - residuals.mean(axis=1, keepdims=True)
        return float(long_run_variance(residuals, self.block).sum() / (self.seeds - 1))

    @cached_property
    def grid(self) -> float:
        """Step between possible values of a score: 1/N if all items are integers, such as 0 or 1 for accuracy. Or 0."""
        if self.items is None or not np.array_equal(self.items, np.round(self.items)):
            return 0.0
        return 1 / self.items.shape[1]
