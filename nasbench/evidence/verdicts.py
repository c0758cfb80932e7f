"""Verdicts on all plans of a run, compared with the bare backbone, and what the undecided plans need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.hierarchy import Contents, Posterior, posterior
from nasbench.evidence.holm import holm
from nasbench.evidence.noise import Noise
from nasbench.evidence.pairs import PairedDifference, compare_pair
from nasbench.evidence.power import items_needed, least_difference, more_seeds
from nasbench.evidence.race import Until, sureness
from nasbench.evidence.standing import Standing, kept_noise, standing
from nasbench.evidence.student import t_probability
from nasbench.evidence.trainings import Trainings

__all__ = ["FEWEST_FOR_MODEL", "Judgement", "judge_plans", "verdicts_by_model"]

FEWEST_FOR_MODEL = 4
"""With fewer plans, the hierarchical model has too little data. Each plan is then judged by its own interval."""

_FEWEST_SEEDS = 2


@dataclass(frozen=True, eq=False)
class Judgement:
    """The comparison of every plan with the bare backbone. Arrays have one entry for each plan. Higher is better.

    Attributes:
        pairs: The raw difference of each plan with its interval. Its `verdict` comes only from the interval.
        verdicts: BETTER, WORSE or NOT DECIDED, as in the report.
        p_better: Probability that the plan is better than the bare backbone, `(n,)`, from the posterior or, if there is
            none, from the plan's own interval. NaN if it is not known.
        more_seeds: Number of additional seeds that are needed to decide the plan, `(n,)`. NaN if the plan is decided,
            if no number of seeds is enough, or if the noise is not known.
        items_needed: Number of evaluation items that are needed to decide the plan if there are enough seeds, `(n,)`.
            NaN if the plan is decided, if its effect is 0 or can be detected with the present items, or if no items
            were stored.
        rule: The source of the verdicts: the hierarchical "model" or, with few plans, "holm" (corrected intervals).
        posterior: The posterior of the model. None if there are fewer than four plans, or if the noise is not known.
        standing: The raw differences, the numbers of seeds and the noise of the run.
    """

    pairs: tuple[PairedDifference, ...]
    verdicts: tuple[str, ...]
    p_better: NDArray[np.float64]
    more_seeds: NDArray[np.float64]
    items_needed: NDArray[np.float64]
    rule: Literal["model", "holm"]
    posterior: Posterior | None
    standing: Standing


def judge_plans(
    plans: Sequence[Trainings],
    bare: Trainings,
    contents: Contents,
    *,
    noise: Noise | None = None,
    until: Until | None = None,
) -> Judgement:
    """Judge the plans of a run.

    If there are four plans or more, they are judged by the hierarchical model, because they were chosen among many. The
    model leaves out plans that are far below the bare backbone. Such a plan is WORSE if its own interval says so. If
    there are fewer than four plans, they are judged by their intervals, corrected for the number of plans (Holm).

    Args:
        plans: The trainings of each plan, without the bare backbone.
        bare: The trainings of the bare backbone.
        contents: The (slot, module) pairs of each plan.
        noise: The noise, pooled over the run and earlier runs. None means `kept_noise` of these trainings.
        until: How the search ended, if it ended by its verdicts. The verdicts of the model then need a higher
            probability (`sureness`).
    """
    noise = kept_noise(plans, bare) if noise is None else noise
    seen = standing(plans, bare, noise)
    # The interval of a plan that is left out has the noise of its own seeds and of those of the bare backbone alone.
    pairs = tuple(
        compare_pair(plan, bare, None if left_out else noise)
        for plan, left_out in zip(plans, seen.left_out, strict=True)
    )
    believed = posterior(seen, contents) if len(plans) >= FEWEST_FOR_MODEL else None
    if len(plans) >= FEWEST_FOR_MODEL:
        verdicts = verdicts_by_model(seen, believed, [pair.verdict for pair in pairs], until)
    else:
        verdicts = _by_intervals(pairs)
    p_better = np.array([_chance(pair) for pair in pairs]) if believed is None else believed.better
    # The effect of a plan is its posterior mean or, if there is no posterior, its raw difference.
    effects = seen.difference if believed is None else np.where(seen.left_out, seen.difference, believed.mean)
    is_open = [verdict == "NOT DECIDED" for verdict in verdicts]
    more = [
        more_seeds(float(effect), plan.seeds, bare.seeds, seen.noise) if undecided else None
        for effect, plan, undecided in zip(effects, plans, is_open, strict=True)
    ]
    needed = [
        items_needed(float(effect), seen.noise) if undecided and _asks_for_items(effect, seen.noise) else None
        for effect, undecided in zip(effects, is_open, strict=True)
    ]
    return Judgement(
        pairs=pairs,
        verdicts=verdicts,
        p_better=p_better,
        more_seeds=_numbers(more),
        items_needed=_numbers(needed),
        rule="model" if len(plans) >= FEWEST_FOR_MODEL else "holm",
        posterior=believed,
        standing=seen,
    )


def _asks_for_items(effect: float, noise: Noise) -> bool:
    """Return whether a difference is too small for the present number of items, and not exactly 0."""
    return 0 < abs(effect) <= least_difference(noise)


def _numbers(values: Sequence[int | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def verdicts_by_model(
    seen: Standing, believed: Posterior | None, of_intervals: Sequence[str], until: Until | None = None
) -> tuple[str, ...]:
    """Return the verdict on each plan by the hierarchical model.

    A plan is BETTER if P(better) exceeds `sureness`. It is WORSE if P(worse) does, and its own interval says WORSE too.
    A plan is NOT DECIDED if it or the bare backbone has fewer than two seeds.

    Args:
        seen: The results of the trainings.
        believed: The posterior of the model. None if the noise is not known. In this case no plan is decided.
        of_intervals: For each plan, the verdict from its raw interval. It counts for plans that the model leaves out.
        until: As in `judge_plans`.
    """
    if believed is None:
        return ("NOT DECIDED",) * len(seen.seeds)
    sure = sureness(until)
    left_out, verdicts = seen.left_out, []
    for index, of_interval in enumerate(of_intervals):
        # If a plan has one seed, it does not show its variance between seeds, even if other plans show theirs.
        if min(seen.seeds[index], seen.bare_seeds) < _FEWEST_SEEDS:
            verdicts.append("NOT DECIDED")
        elif left_out[index]:
            verdicts.append("WORSE" if of_interval == "WORSE" else "NOT DECIDED")
        elif believed.better[index] > sure:
            verdicts.append("BETTER")
        else:
            # If other plans are better, the model may explain this by unlucky seeds of the bare backbone. A plan
            # without an effect is then estimated as worse. So the plan's own interval must say WORSE too.
            is_worse = believed.worse[index] > sure and of_interval == "WORSE"
            verdicts.append("WORSE" if is_worse else "NOT DECIDED")
    return tuple(verdicts)


def _by_intervals(pairs: Sequence[PairedDifference]) -> tuple[str, ...]:
    decided = holm(np.array([pair.p for pair in pairs], dtype=float))
    return tuple(
        ("BETTER" if pair.difference > 0 else "WORSE") if is_decided else "NOT DECIDED"
        for pair, is_decided in zip(pairs, decided, strict=True)
    )


def _chance(pair: PairedDifference) -> float:
    """Return the probability that a difference is positive, from its t-distribution. NaN if there is no interval."""
    if not pair.has_interval:
        return np.nan
    if pair.error == 0:
        return 0.5 + 0.5 * float(np.sign(pair.difference))
    return t_probability(pair.difference / pair.error, pair.freedom)
