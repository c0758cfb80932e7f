"""The power of a run: which differences its trainings can detect, and what is needed to detect a given difference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from nasbench.errors import InputError, RunError
from nasbench.evidence.power import detectable_difference, items_needed, least_difference, more_seeds
from nasbench.runs.trainings import RecordedRun, trainings_of

__all__ = ["SEEDS", "RunPower", "power_of"]

SEEDS = (2, 3, 5, 8)
"""Numbers of seeds for which the detectable difference is given."""


@dataclass(frozen=True)
class RunPower:
    """The differences that a run can detect, in units of the metric: 0.01 of an accuracy is one percentage point.

    A difference counts as detectable if it is found in 80 % of cases, in a comparison of one plan with the bare
    backbone at a confidence of 95 %. For a plan that was chosen among many, the verdict is stricter, and a little more
    is needed.

    Attributes:
        metric: The metric.
        items: Number of validation items. 0 if their metric is not stored. Then only the seeds count as noise.
        seed_sd: Standard deviation of the metric between seeds, pooled over the run.
        detectable: Smallest detectable difference by number of seeds. Plan and bare backbone have the same number.
        floor: Difference below which no number of seeds helps, because there are too few items. 0 without items.
        effect: The difference to detect. None if none was given.
        seeds_needed: Smallest number of seeds of the plan and of the bare backbone with which the effect is detectable.
            None if no number of seeds is enough, or if no effect was given.
        items_needed: Number of items with which the effect is detectable, given enough seeds. None if the present items
            are enough or not stored, or if no effect was given.
    """

    metric: str
    items: int
    seed_sd: float
    detectable: dict[int, float]
    floor: float
    effect: float | None = None
    seeds_needed: int | None = None
    items_needed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the results as data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the results as sentences, one on each line."""
        seeds = ", ".join(f"{difference:.3g} with {count}" for count, difference in self.detectable.items())
        lines = [f"{self.metric}: seeds differ by {self.seed_sd:.3g} (standard deviation)"]
        lines.append(f"smallest differences that can be detected, by number of seeds: {seeds}")
        if self.items and not self.floor:
            lines.append(f"the choice of the {self.items:,} validation items adds no measurable noise")
        elif self.items:
            lines.append(f"with {self.items:,} validation items, no number of seeds detects less than {self.floor:.3g}")
        else:
            lines.append("no validation items are stored, so only the seeds count as noise")
        return "\n".join([*lines, *([self.decides] if self.effect is not None else [])])

    @property
    def decides(self) -> str:
        """A sentence that says what is needed to detect the effect. "" if no effect was given."""
        if self.effect is None:
            return ""
        if self.seeds_needed is not None:
            return (
                f"a difference of {self.effect:.3g} needs {self.seeds_needed} seeds of the plan and of the bare "
                "backbone"
            )
        if self.items_needed is not None:
            return f"a difference of {self.effect:.3g} needs {self.items_needed:,} items: no number of seeds is enough"
        return f"a difference of {self.effect:.3g} needs over 1,000 seeds"


def power_of(run: RecordedRun, effect: float | None = None) -> RunPower:
    """Return which differences a run can detect.

    Args:
        run: A run in which some plan was trained with two seeds or more.
        effect: A difference of the metric, above 0.

    Raises:
        InputError: If the effect is not a positive number.
        RunError: If the run has no metric, or no plan with two seeds.
    """
    if effect is not None and not (isinstance(effect, (int, float)) and math.isfinite(effect) and effect > 0):
        raise InputError(f"--effect {effect}: it must be a number above 0, in points of the metric, such as 0.01")
    name = run.folder.name
    if run.metric is None:
        raise RunError(f"every objective of run {name} is a cost, and costs are exact: there is no noise to measure")
    recorded = trainings_of(run)
    noise = recorded.noise if recorded.bare is None else recorded.standing.noise
    if not noise.freedom:
        raise RunError(
            f"run {name} has one evaluation of each plan, so the noise between seeds is not known; the same search "
            "with --refine 2 trains the bare backbone with two further seeds"
        )
    bare = 0 if recorded.bare is None else recorded.bare.trainings.seeds
    # For a plan with one seed, as most plans. The trainings that it still needs also improve the estimate of the noise.
    detectable = {
        seeds: detectable_difference(seeds, noise.with_seeds(seeds - 1 + max(0, seeds - bare))) for seeds in SEEDS
    }
    floor = least_difference(noise)
    more = None if effect is None else more_seeds(effect, 1, bare, noise)
    return RunPower(
        metric=run.metric,
        items=noise.items,
        seed_sd=math.sqrt(noise.seed_variance),
        detectable=detectable,
        floor=floor,
        effect=effect,
        seeds_needed=None if more is None else 1 + more,
        items_needed=None if effect is None or effect > floor else items_needed(effect, noise),
    )
