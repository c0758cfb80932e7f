"""The power of a run: which differences it can detect, and what is needed to detect a given difference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from nasbench.errors import InputError, RunError
from nasbench.evidence.items import fewest_items
from nasbench.evidence.power import detectable_difference, items_needed, least_difference, more_seeds
from nasbench.runs.trainings import RecordedRun, RunTrainings, trainings_of

__all__ = ["SEEDS", "RunPower", "least_detectable", "longest_horizon", "power_of", "why_no_interval", "why_unknown"]

SEEDS = (2, 3, 5, 8)
"""Numbers of seeds for which the smallest detectable difference is computed."""


@dataclass(frozen=True)
class RunPower:
    """The differences that a run can detect, in units of the metric. For an accuracy, 0.01 is one percentage point.

    A difference is called detectable if a comparison of one plan with the bare backbone, at a confidence of 95 %,
    detects it with a probability of 80 %. The verdict on a plan that was chosen among many is stricter, so its
    difference must be a little larger.

    Attributes:
        metric: The metric.
        items: Number of validation items. 0 if the metric of each item was not stored. The noise is then that of the
            seeds alone.
        seed_sd: Standard deviation of the metric between the seeds of one plan, pooled over all plans of the run.
        detectable: Smallest detectable difference, by the number of seeds of the plan and of the bare backbone each.
        floor: Differences below this one cannot be detected with any number of seeds, because there are too few items.
            0 if `items` is 0.
        effect: The difference to detect. None if it was not given.
        seeds_needed: Smallest number of seeds, for the plan and for the bare backbone each, with which the effect is
            detectable. None if no number of seeds is enough, or if no effect was given.
        items_needed: Number of validation items with which the effect is detectable if there are enough seeds. None if
            the present items are enough, if the metric of each item was not stored, or if no effect was given.
        block: The horizon of forecasts, or 1 for independent items. If there are too few items for it, `floor` and the
            detectable differences are NaN.
        unknown: Why the detectable differences are not known (`why_unknown`). They and `floor` are then NaN. ""
            otherwise.
    """

    metric: str
    items: int
    seed_sd: float
    detectable: dict[int, float]
    floor: float
    effect: float | None = None
    seeds_needed: int | None = None
    items_needed: int | None = None
    block: int = 1
    unknown: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON-serialisable data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the results as text, one sentence in each line."""
        if self.unknown:
            return self.unknown
        seeds = ", ".join(f"{difference:.3g} with {count}" for count, difference in self.detectable.items())
        lines = [f"{self.metric}: seeds differ by {self.seed_sd:.3g} (standard deviation)"]
        if self.items and (reason := why_no_interval(self.items, self.block)):
            return f"{lines[0]}\nno difference can be detected: {reason}"
        lines.append(f"smallest differences that can be detected, by number of seeds: {seeds}")
        if self.items and not self.floor:
            lines.append(f"the choice of the {self.items:,} validation items adds no noise to that of the seeds")
        elif self.items:
            lines.append(f"with {self.items:,} validation items, no number of seeds detects less than {self.floor:.3g}")
        else:
            lines.append("no validation items are stored, so only the seeds count as noise")
        return "\n".join([*lines, *([self.decides] if self.effect is not None else [])])

    @property
    def decides(self) -> str:
        """A sentence that says what is needed to detect the effect. "" if no effect was given."""
        if self.effect is None or self.unknown:
            return ""
        if self.seeds_needed is not None:
            return (
                f"a difference of {self.effect:.3g} needs {self.seeds_needed} seeds of the plan and of the bare "
                "backbone"
            )
        if self.items_needed is not None:
            return f"a difference of {self.effect:.3g} needs {self.items_needed:,} items: no number of seeds is enough"
        return f"a difference of {self.effect:.3g} needs over 1,000 seeds"


def why_no_interval(items: int, block: int) -> str:
    """Return the reason why no difference gets an interval, and what helps. "" if there are enough validation items.

    Args:
        items: Number of validation items.
        block: The horizon of the forecasts, or 1 for independent items.
    """
    if items >= fewest_items(block):
        return ""
    if block == 1:
        return f"{items} validation item allows no interval; give more validation items"
    return (
        f"the {items:,} validation windows overlap, and an interval needs {fewest_items(block):,}, two horizons of "
        f"{block} steps; give --horizon {longest_horizon(items, block)} or less, or more rows"
    )


def why_unknown(trainings: RunTrainings, metric: str) -> str:
    """Return the reason why the noise between seeds, and so what can be detected, is not known. "" if it is known.

    Args:
        trainings: Trainings of which some plan has two seeds or more.
        metric: The metric.
    """
    if trainings.shows_noise:
        return ""
    count = sum(plan.trainings.seeds for plan in trainings.all_plans)
    same = (
        f"{metric} is the same in all {count} trainings"
        if len({round(plan.trainings.mean, 9) for plan in trainings.all_plans}) == 1
        else f"{metric} does not differ between the seeds of any plan"
    )
    return f"which differences can be detected is not known, because {same}"


def least_detectable(trainings: RunTrainings, seeds: int, planned: int = 0) -> float:
    """Return the smallest difference that can be detected. Every message and file takes this figure from here.

    It is computed for a plan that has one seed now, as most plans have. Trainings to come improve the estimate of the
    noise, so they are taken into account.

    Args:
        trainings: The trainings so far.
        seeds: Number of seeds that the plan and the bare backbone will each have.
        planned: Number of trainings with further seeds that a search will still make.

    Returns:
        The difference. NaN if the noise is not known.
    """
    if not trainings.shows_noise:
        return math.nan
    bare = 0 if trainings.bare is None else trainings.bare.trainings.seeds
    needed = seeds - 1 + max(0, seeds - bare)
    return detectable_difference(seeds, trainings.compared_noise.with_seeds(max(planned, needed)))


def longest_horizon(items: int, block: int) -> int:
    """Return the longest horizon with which the same validation rows allow an interval, at least 1.

    Args:
        items: Number of validation windows with the present horizon.
        block: The present horizon.
    """
    # There are S = items + block - 1 rows to forecast. A horizon h gives S - h + 1 windows, and 2h are needed.
    return max(1, (items + block) // 3)


def power_of(run: RecordedRun, effect: float | None = None) -> RunPower:
    """Return which differences a run can detect.

    Args:
        run: A run in which some plan was trained with two seeds or more.
        effect: A difference in units of the metric, above 0.

    Raises:
        InputError: If the effect is not a positive number.
        RunError: If the run has no trained metric, or no plan with two seeds.
    """
    if effect is not None and not (isinstance(effect, (int, float)) and math.isfinite(effect) and effect > 0):
        raise InputError(f"--effect {effect}: it must be a number above 0, in the unit of the metric, such as 0.01")
    name = run.folder.name
    if run.metric is None:
        raise RunError(f"every objective of run {name} is a cost; costs are exact, so there is no noise to measure")
    recorded = trainings_of(run)
    noise = recorded.compared_noise
    if not noise.freedom:
        raise RunError(
            f"run {name} has one evaluation of each plan, so the noise between seeds is not known; the same search "
            "with --refine 2 trains the bare backbone with two further seeds"
        )
    bare = 0 if recorded.bare is None else recorded.bare.trainings.seeds
    detectable = {seeds: least_detectable(recorded, seeds) for seeds in SEEDS}
    unknown = why_unknown(recorded, run.metric)
    floor = math.nan if unknown else least_difference(noise)
    more = None if effect is None or unknown else more_seeds(effect, 1, bare, noise)
    return RunPower(
        metric=run.metric,
        items=noise.items,
        seed_sd=math.nan if unknown else math.sqrt(noise.seed_variance),
        detectable=detectable,
        floor=floor,
        effect=effect,
        seeds_needed=None if more is None else 1 + more,
        items_needed=None if effect is None or unknown or effect > floor else items_needed(effect, noise),
        block=run.block,
        unknown=unknown,
    )
