"""The line before a search: which differences it will be able to tell apart, and what a given one would take."""

from __future__ import annotations

from nasbench.evidence.noise import Noise
from nasbench.evidence.power import detectable_difference, items_needed, least_difference, more_seeds
from nasbench.evidence.race import BARE_SEEDS
from nasbench.runs.refinement import equal_seeds, further_trainings, reachable_seeds
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trainings import RunTrainings

__all__ = ["foresight"]


def foresight(trainings: RunTrainings, settings: SearchSettings, plans: int) -> str:
    """Return what a search will be able to see, in one line. "" if the noise is not known.

    Args:
        trainings: What is trained so far, the bare backbone on two seeds or more.
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    noise = trainings.noise
    if not noise.freedom or trainings.bare is None:
        return ""
    seeds, equal = reachable_seeds(settings, plans), equal_seeds(settings, plans)
    if seeds < 2:
        return f"{further_trainings(settings)} further trainings give no plan a second seed, so nothing will be decided"
    # the trainings to come will tell as much about the noise
    planned = further_trainings(settings) if equal is None else (plans + 1) * (equal - 1)
    done = sum(plan.trainings.seeds - 1 for plan in trainings.all_plans)
    line = f"this search can tell {detectable_difference(seeds, noise.with_seeds(max(0, planned - done))):.2g} apart"
    line += f" (a plan of {seeds} seeds, the most that it can get)" if equal is None else f" (plans of {seeds} seeds)"
    if noise.items:
        line += f"; {least_difference(noise):.2g} is the floor of {noise.items:,} validation items"
    return line if settings.effect is None else f"{line}. {_needed(settings.effect, seeds, noise)}"


def _needed(effect: float, planned: int, noise: Noise) -> str:
    more = more_seeds(effect, 1, BARE_SEEDS, noise)
    if more is None:
        items = items_needed(effect, noise)
        instead = "" if items is None else f": {items:,} validation items would"
        return f"No number of seeds shows {effect:g}{instead}"
    seeds = 1 + more
    if seeds <= planned:
        return f"{effect:g} takes {seeds} seeds, which a plan can get"
    # a plan on so many seeds, and the bare backbone on as many
    return f"{effect:g} takes {seeds} seeds: --seeds {seeds} --refine {seeds - 1 + max(seeds, BARE_SEEDS) - 1}"
