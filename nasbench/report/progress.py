"""Progress of a search: hypervolume by number of distinct plans."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nasbench.errors import RunError
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.reference import Reference, reference_point
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run

__all__ = ["hypervolume_curve", "reference_of"]


def reference_of(run: Run) -> Reference:
    """Return the hypervolume reference of a run.

    It was stored at the start. If a run has no stored reference, the same reference is computed from its bare backbone.

    Raises:
        RunError: If the bare backbone has not been evaluated yet.
    """
    if (stored := run.journal.reference) is not None:
        return stored
    bare = Plan({}).hash
    evaluations = [evaluation for evaluation in run.evaluations() if evaluation.plan_hash == bare]
    complete = [evaluation for evaluation in evaluations if evaluation.state == "complete"]
    if not complete:
        raise RunError(
            f"run {run.path.name} has no evaluation of the bare backbone yet, from which the reference is computed"
        )
    return reference_point(complete[0].values, run.directions)


def hypervolume_curve(run: Run) -> pd.DataFrame:
    """Return the hypervolume after each distinct plan of the search, in the order of their trials.

    Each plan counts once, with its first evaluation at its highest fidelity. A rejected or failed plan counts as an
    evaluation but adds no volume. A plan trained for less than the full budget adds no volume either.

    Returns:
        One row for each plan: evaluations (from 1), number (the trial), state, hypervolume (share of the reference box
        that the plans so far dominate), wall_s (seconds of evaluation so far).

    Raises:
        RunError: If the bare backbone has not been evaluated yet.
    """
    reference = reference_of(run)
    first: dict[str, Evaluation] = {}
    for new in sorted(run.evaluations(), key=lambda evaluation: evaluation.number or 0):
        if new.plan_hash not in first or new.fidelity > first[new.plan_hash].fidelity:
            first[new.plan_hash] = new
    full = max((evaluation.fidelity for evaluation in first.values()), default=0)
    directions = list(reference.directions.values())
    points = np.empty((0, len(directions)))  # those that no other dominates: only these have a share in the volume
    rows: list[tuple[object, ...]] = []
    volume, wall_s = 0.0, 0.0
    for evaluation in first.values():
        wall_s += evaluation.wall_s
        if evaluation.state == "complete" and evaluation.fidelity == full:
            point = [float(evaluation.values[name]) for name in reference.directions]
            points = np.vstack([points, point])
            kept = non_dominated(points, directions)
            points = points[kept]
            if kept[-1]:  # a dominated plan adds no volume
                points = np.unique(points, axis=0)
                volume = reference.hypervolume(points)
        rows.append((len(rows) + 1, evaluation.number, evaluation.state, volume, wall_s))
    return pd.DataFrame(rows, columns=["evaluations", "number", "state", "hypervolume", "wall_s"])
