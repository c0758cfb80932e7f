"""Effects of properties, modules and slots in a run, over the plans trained with the full budget."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from nasbench.evidence.effects import (
    declared_properties,
    judge_together,
    module_effects,
    paired_effects,
    property_effects,
    slot_importance,
)
from nasbench.library.expression import Expression
from nasbench.library.plan import Plan
from nasbench.library.registry import PROPERTIES
from nasbench.measurement.properties.record import measured, recorded
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run

__all__ = ["first_full_evaluations", "measured_properties", "run_effects"]


def run_effects(run: Run) -> dict[str, pd.DataFrame]:
    """Return the tables of effects on the first trained metric of a run.

    Returns:
        `properties` (measured), `declared` (properties as declared), `modules`, `pairs` and `slots`. {} if every
        objective is a cost. The verdicts of all five tables are corrected together (Holm).
    """
    if run.metric is None:
        return {}
    direction = run.directions[run.metric]
    known = first_full_evaluations(run.evaluations())
    plans = [Plan.of(text) for text in known]
    values = [evaluation.metrics[run.metric] for evaluation in known.values()]
    tables = {
        "properties": property_effects(plans, values, direction, properties_of=measured_properties),
        "declared": property_effects(plans, values, direction, properties_of=declared_properties),
        "modules": module_effects(plans, values, direction),
        "pairs": paired_effects(plans, values, direction),
        "slots": slot_importance(plans, values),
    }
    return judge_together(tables)


def measured_properties(expression: Expression) -> list[str]:
    """Return the properties that the modules of an expression have, by their recorded fingerprints.

    If a module has no recorded fingerprint, its declared properties are used.
    """
    properties: set[str] = set()
    for leaf in expression.leaves():
        figures = recorded(leaf.name)
        properties |= set(declared_properties(leaf) if figures is None else measured(figures))
    return [name for name in PROPERTIES if name in properties]


def first_full_evaluations(evaluations: Iterable[Evaluation]) -> dict[str, Evaluation]:
    """Return the first complete evaluation of each plan with the full budget, by plan text.

    Each plan has one seed here, the seed of the search. Otherwise a plan with several seeds would count several times
    in the regression.
    """
    complete = [evaluation for evaluation in evaluations if evaluation.state == "complete"]
    full = max((evaluation.fidelity for evaluation in complete), default=0)
    first: dict[str, Evaluation] = {}
    for evaluation in complete:
        if evaluation.fidelity == full:
            first.setdefault(evaluation.plan, evaluation)
    return first
