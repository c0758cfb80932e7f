"""How many further trainings a search plans: the numbers that `seeds`, `refine` and `until` stand for."""

from __future__ import annotations

from nasbench.evidence.race import BARE_SEEDS, BUDGET, MOST_SEEDS, UNTIL_BUDGET
from nasbench.evidence.verdicts import FEWEST_FOR_MODEL
from nasbench.runs.settings import SearchSettings

__all__ = ["equal_seeds", "further_trainings", "has_given_plans", "is_refined", "most_seeds", "reachable_seeds"]

_SEEDS_OF_GIVEN = 5
"""Default number of seeds of plans that the settings give."""

_SEEDS_OF_FEW = 3
"""Default number of seeds where a search has too few plans for a race."""


def is_refined(settings: SearchSettings) -> bool:
    """Whether any plan is trained on a second seed."""
    return settings.seeds != 1 and settings.refine != 0


def most_seeds(settings: SearchSettings) -> int:
    """Return the largest number of seeds that a plan is trained on."""
    if not is_refined(settings):
        return 1
    return settings.seeds or (_SEEDS_OF_GIVEN if has_given_plans(settings) else MOST_SEEDS)


def further_trainings(settings: SearchSettings) -> int:
    """Return the largest number of further trainings of a race, the bare backbone's included."""
    if not is_refined(settings):
        return 0
    return settings.refine or (BUDGET if settings.until is None else UNTIL_BUDGET)


def has_given_plans(settings: SearchSettings) -> bool:
    """Whether the settings give the plans to compare, all on the same seeds."""
    return bool(settings.plans)


def equal_seeds(settings: SearchSettings, plans: int) -> int | None:
    """Return the number of seeds that every plan is trained on, or None if the plans race for them.

    Args:
        settings: The settings of the search.
        plans: Number of plans that succeeded on their first seed, without the bare backbone.
    """
    if not is_refined(settings):
        return 1
    if has_given_plans(settings):
        return most_seeds(settings)
    if plans >= FEWEST_FOR_MODEL:
        return None
    seeds = settings.seeds or _SEEDS_OF_FEW
    # A given number of trainings is never exceeded. The default one is, by seeds that are asked for.
    return seeds if settings.refine is None else min(seeds, 1 + settings.refine // (plans + 1))


def reachable_seeds(settings: SearchSettings, plans: int) -> int:
    """Return the number of seeds that one plan can get, the bare backbone having at least as many.

    Args:
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    if (equal := equal_seeds(settings, plans)) is not None:
        return equal
    seeds = 1
    # a plan's next seed comes after the bare backbone has as many
    while seeds < most_seeds(settings) and seeds + max(seeds + 1, BARE_SEEDS) - 1 <= further_trainings(settings):
        seeds += 1
    return seeds
