"""The bounds that a plan breaks, judged by the mean of its seeds."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nasbench.errors import InputError
from nasbench.objectives import Constraint, parse_constraint
from nasbench.runs.evaluation import Evaluation

if TYPE_CHECKING:  # imported early, and trainings need numpy
    from nasbench.runs.trainings import RunTrainings

__all__ = ["broken_bounds", "infeasible"]


def broken_bounds(plans: Mapping[str, Sequence[Evaluation]], constraints: Iterable[str]) -> dict[str, str]:
    """Return the bounds that each plan breaks, as text, by plan hash. "" for a plan that breaks none.

    A bound is on the mean over the seeds. The value of a single seed may be within the bound by chance.

    Args:
        plans: The complete evaluations of each plan, at least one, by plan hash.
        constraints: The constraints, as in the settings. Relative ones refer to the bare backbone among the plans.
    """
    bounds: list[Constraint] = []
    for text in constraints:
        with contextlib.suppress(InputError):  # a run of an earlier version can have one that is refused today
            bounds.append(parse_constraint(text))
    means = {key: _means(evaluations, bounds) for key, evaluations in plans.items()}
    bare = next((means[key] for key, evaluations in plans.items() if evaluations[0].is_bare), {})
    return {
        key: "; ".join(
            bound.reason(values[bound.name], bare)
            for bound in bounds
            if bound.name in values
            and (bound.name in bare or not bound.relative)
            and not bound.holds(values[bound.name], bare)
        )
        for key, values in means.items()
    }


def infeasible(trainings: RunTrainings, constraints: Iterable[str]) -> list[bool]:
    """Return whether the mean of each plan's seeds breaks a bound, in the order of `RunTrainings.plans`."""
    breaks = broken_bounds({one.plan_hash: one.evaluations for one in trainings.all_plans}, constraints)
    return [bool(breaks[one.plan_hash]) for one in trainings.plans]


def _means(evaluations: Sequence[Evaluation], bounds: Iterable[Constraint]) -> dict[str, float]:
    """Return the mean of each bounded value. Costs are those of the first seed, as in the table of plans."""
    first = evaluations[0]
    values = first.values
    means = {}
    for name in {bound.name for bound in bounds} & values.keys():
        seeds = [evaluation.values[name] for evaluation in evaluations if name in evaluation.values]
        is_cost = name in first.costs and name not in first.metrics
        # `statistics.mean` is exact, so equal values that meet a bound exactly do not break it by rounding
        means[name] = float(values[name] if is_cost else statistics.mean(map(float, seeds)))
    return means
