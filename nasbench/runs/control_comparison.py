"""Plans compared with their equal-cost controls: does the module itself help, or only the added size?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nasbench.evidence.pairs import PairedDifference, compare_pair
from nasbench.runs.schema import RecordedControl
from nasbench.runs.trainings import PlanTrainings, RunTrainings

__all__ = ["NEAR_COST", "ControlComparison", "compare_with_controls", "is_near_cost"]

NEAR_COST = (0.8, 1.25)
"""A control is a fair comparison if the MACs that it adds, divided by the MACs that the plan adds, are between these
two values. A control can be much more expensive than its plan: even the smallest bottleneck can add many times the MACs
of a light module. A verdict on such a pair would depend on the added size and not on the module."""


@dataclass(frozen=True)
class ControlComparison:
    """A plan and its control.

    Attributes:
        record: The control as the search recorded it.
        plan: The trainings of the plan.
        control: The trainings of the control.
        pair: The plan's metric minus the control's, with the noise of plans and controls. A positive difference means
            that the plan is better, also if the metric is an error.
    """

    record: RecordedControl
    plan: PlanTrainings
    control: PlanTrainings
    pair: PairedDifference

    @property
    def verdict(self) -> str:
        """Whether the plan is BETTER or WORSE than its control, or NOT DECIDED. "" if their costs are too different."""
        return self.pair.verdict if is_near_cost(self.record.ratio) else ""


def is_near_cost(ratio: float | None) -> bool:
    """Whether a control costs about as much as its plan.

    Args:
        ratio: MACs that the control adds, divided by the MACs that the plan adds. None if the plan adds none.
    """
    return ratio is not None and NEAR_COST[0] <= ratio <= NEAR_COST[1]


def compare_with_controls(
    recorded: RunTrainings, controls: Mapping[str, RecordedControl]
) -> dict[str, ControlComparison]:
    """Compare each plan with its control, if the control was trained.

    If one of the two is far below the bare backbone, the noise is that of their own seeds alone.

    Args:
        recorded: All trainings of the run.
        controls: The controls as recorded, by plan hash (`RunJournal.controls`).

    Returns:
        The comparisons by plan hash, in order of the plans' first trials.
    """
    compared = {}
    kept = {one.plan_hash for one in recorded.kept}
    for plan in recorded.plans:
        record = controls.get(plan.plan_hash)
        control = None if record is None else recorded.controls.get(record.plan_hash)
        if record is not None and control is not None:
            shared = plan.plan_hash in kept and record.plan_hash in recorded.kept_controls
            noise = recorded.noise_with_controls if shared else None
            pair = compare_pair(plan.trainings, control.trainings, noise)
            compared[plan.plan_hash] = ControlComparison(record, plan, control, pair)
    return compared
