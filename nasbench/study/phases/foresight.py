"""The line that a search prints early: which differences it can detect, and what a given difference needs."""

from __future__ import annotations

import math

from nasbench.evidence.noise import Noise
from nasbench.evidence.power import items_needed, least_difference, more_seeds
from nasbench.evidence.race import BARE_SEEDS
from nasbench.runs.power import least_detectable, why_no_interval, why_unknown
from nasbench.runs.refinement import equal_seeds, further_trainings, planned_further, reachable_seeds
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trainings import RunTrainings

__all__ = ["foresight"]


def foresight(trainings: RunTrainings, metric: str, settings: SearchSettings, plans: int) -> str:
    """Return in one line which differences a search will be able to detect. "" if the noise is not known.

    Args:
        trainings: The trainings so far. The bare backbone must have two seeds or more, because otherwise the noise is
            not known.
        metric: The metric.
        settings: The settings of the search.
        plans: Number of plans that the search will have, without the bare backbone.
    """
    noise = trainings.compared_noise
    if not noise.freedom or trainings.bare is None:
        return ""
    seeds, equal = reachable_seeds(settings, plans), equal_seeds(settings, plans)
    if seeds < 2:
        return f"{further_trainings(settings)} further trainings give no plan a second seed, so nothing will be decided"
    # further trainings also improve the estimate of the noise, so the planned ones are taken into account
    done = sum(plan.trainings.seeds - 1 for plan in trainings.all_plans)
    if unknown := why_unknown(trainings, metric):
        return f"{unknown} so far"
    least = least_detectable(trainings, seeds, planned_further(settings, plans) - done)
    if math.isnan(least):  # the variance of the items is not known
        return f"nothing can be decided: {why_no_interval(noise.items, trainings.bare.trainings.block)}"
    most = ", the most that a plan can get" if equal is None else ""
    count = sum(plan.trainings.seeds for plan in trainings.all_plans)
    line = f"this search can detect a difference of about {least:.2g} (with {seeds} seeds{most})"
    if noise.items and trainings.plans and (floor := least_difference(noise)):
        line += f"; with {noise.items:,} validation items, no number of seeds detects less than about {floor:.2g}"
    line += f"; estimated from {count} trainings, and again from all of them in the report"
    return line if settings.effect is None else f"{line}. {_needed(settings.effect, seeds, noise)}"


def _needed(effect: float, planned: int, noise: Noise) -> str:
    more = more_seeds(effect, 1, BARE_SEEDS, noise)
    if more is None:
        items = items_needed(effect, noise)
        instead = "" if items is None else f", it needs {items:,} validation items"
        return f"No number of seeds is enough for {effect:g}{instead}"
    seeds = 1 + more
    if seeds <= planned:
        return f"{effect:g} needs {seeds} seeds, which a plan can get"
    # enough further trainings for one plan to get these seeds, and for the bare backbone to get as many
    return f"{effect:g} needs {seeds} seeds: --seeds {seeds} --refine {seeds - 1 + max(seeds, BARE_SEEDS) - 1}"
