"""The number of further trainings that a search plans, from the settings `seeds`, `refine` and `until`."""

from __future__ import annotations

from nasbench.evidence.race import BARE_SEEDS, BUDGET, MOST_SEEDS, UNTIL_BUDGET
from nasbench.evidence.verdicts import FEWEST_FOR_MODEL
from nasbench.runs.settings import SearchSettings

__all__ = [
    "asks_for_seeds", "equal_seeds", "further_trainings", "has_given_plans", "is_refined", "most_seeds",
    "planned_controls", "planned_further", "reachable_seeds",
]  # fmt: skip

_SEEDS_OF_GIVEN = 5
"""Default number of seeds of each plan, if the plans are given."""

_SEEDS_OF_FEW = 3
"""Default number of seeds of each plan, in a search that has too few plans for a race."""


def is_refined(settings: SearchSettings) -> bool:
    """Whether any plan is trained with a second seed."""
    return settings.seeds != 1 and settings.refine != 0


def most_seeds(settings: SearchSettings) -> int:
    """Return the largest number of seeds with which any plan is trained."""
    if not is_refined(settings):
        return 1
    return settings.seeds or (_SEEDS_OF_GIVEN if has_given_plans(settings) else MOST_SEEDS)


def further_trainings(settings: SearchSettings) -> int:
    """Return the largest number of further trainings of a race, including those of the bare backbone."""
    if not is_refined(settings):
        return 0
    return settings.refine or (BUDGET if settings.until is None else UNTIL_BUDGET)


def has_given_plans(settings: SearchSettings) -> bool:
    """Whether the plans to compare are given in the settings. They are all trained with the same seeds."""
    return bool(settings.plans)


def equal_seeds(settings: SearchSettings, plans: int) -> int | None:
    """Return the number of seeds with which every plan is trained, or None if the plans race for seeds.

    Args:
        settings: The settings of the search.
        plans: Number of plans whose training with the first seed succeeded, without the bare backbone.
    """
    if not is_refined(settings):
        return 1
    if has_given_plans(settings):
        return most_seeds(settings)
    if plans >= FEWEST_FOR_MODEL:
        return None
    seeds = settings.seeds or _SEEDS_OF_FEW
    # If the user gave the number of trainings (`refine`), it is never exceeded. Its default is exceeded if `seeds`
    # needs more.
    return seeds if settings.refine is None else min(seeds, 1 + settings.refine // (plans + 1))


def planned_further(settings: SearchSettings, plans: int) -> int:
    """Return the number of planned trainings with further seeds, those of the bare backbone included. A race can end
    with fewer.

    Args:
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    if not plans and not asks_for_seeds(settings):
        return 0
    equal = equal_seeds(settings, plans)
    return further_trainings(settings) if equal is None else (plans + 1) * (equal - 1)


def asks_for_seeds(settings: SearchSettings) -> bool:
    """Whether the user asked for further seeds. Otherwise the bare backbone alone gets none."""
    return is_refined(settings) and (settings.seeds is not None or settings.refine is not None)


def planned_controls(settings: SearchSettings, plans: int) -> int:
    """Return the largest number of planned trainings of controls. 0 if it is not known before: in a search, only plans
    that are called BETTER get controls.

    Args:
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    trains = settings.controls and has_given_plans(settings) and is_refined(settings)
    return plans * most_seeds(settings) if trains else 0


def reachable_seeds(settings: SearchSettings, plans: int) -> int:
    """Return the largest number of seeds that one plan can get. The bare backbone must have at least as many.

    Args:
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    if (equal := equal_seeds(settings, plans)) is not None:
        return equal
    seeds = 1
    # a plan gets its next seed only if the bare backbone has been trained with that many seeds
    while seeds < most_seeds(settings) and seeds + max(seeds + 1, BARE_SEEDS) - 1 <= further_trainings(settings):
        seeds += 1
    return seeds
