"""Whether the trainings of a run were long enough: not near chance, and the loss no longer falling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nasbench.runs.evaluation import at_full_budget
from nasbench.runs.run import Run
from nasbench.training.waiting import DATA_WAIT

__all__ = ["data_wait", "is_falling", "is_near_chance", "is_still_falling"]

_SHARE = 0.1
"""The share in the rules below: of the way from chance to a perfect accuracy, of the loss at chance, of the epochs, and
of the total decrease of the loss."""


def is_near_chance(metric: str, value: float, classes: int) -> bool:
    """Whether a classifier is hardly better than random guessing.

    For an accuracy, chance is 1/classes. Near chance means at most twice this value, and at most a tenth of the way
    from chance to 1: 0.19 with 10 classes, 0.55 with 2. For the loss (cross-entropy), chance is log(classes), and near
    chance means at least nine tenths of this value. Other metrics are never near chance.

    Args:
        metric: Name of the metric.
        value: The metric on the validation split.
        classes: Number of classes.
    """
    if classes < 2:
        return False
    if metric == "loss":
        return value >= (1 - _SHARE) * math.log(classes)
    chance = 1 / classes
    return metric == "accuracy" and value <= min(2 * chance, chance + _SHARE * (1 - chance))


def is_falling(losses: Sequence[float]) -> bool:
    """Whether a training loss was still falling at the end.

    It was still falling if a tenth or more of its total decrease came in the last tenth of the epochs (at least one
    epoch). With fewer than three epochs the result is False.

    Args:
        losses: Mean training loss of each epoch.

    Example:
        >>> is_falling([2.0, 1.5, 1.0]), is_falling([2.0, 0.5, 0.45])
        (True, False)
    """
    if len(losses) < 3 or not np.isfinite(losses).all():
        return False
    last = max(1, round(_SHARE * len(losses)))
    whole, at_the_end = losses[0] - losses[-1], losses[-1 - last] - losses[-1]
    return whole > 0 and at_the_end >= _SHARE * whole


def is_still_falling(run: Run) -> bool:
    """Whether the training loss was still falling in most of the trainings with the full budget."""
    trained = [one.history for plan in at_full_budget(run.evaluations()).values() for one in plan if one.history]
    falling = [is_falling([line["train_loss"] for line in history if "train_loss" in line]) for history in trained]
    return bool(falling) and sum(falling) > len(falling) / 2


def data_wait(run: Run) -> float | None:
    """Return the median over all epochs of the share of the training time, in [0, 1], that the GPU waited for data.

    None without a GPU.
    """
    shares = [line[DATA_WAIT] for one in run.evaluations() for line in one.history if DATA_WAIT in line]
    return float(np.median(shares)) if shares else None
