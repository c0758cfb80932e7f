"""Evaluates a plan by looking it up in the table of a tabulated space. No model is built or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasbench.errors import PlanError
from nasbench.library.plan import Plan
from nasbench.objectives import Constraint
from nasbench.runs.tabulated import Table
from nasbench.study.evaluators.base import Evaluator, Findings, RejectedError, Request

__all__ = ["ReplayedEvaluator"]


@dataclass(frozen=True)
class ReplayedEvaluator(Evaluator):
    """Evaluates plans from a table.

    Attributes:
        table: The table.
        constraints: Bounds on costs and metrics.
    """

    table: Table
    constraints: Sequence[Constraint] = ()

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the costs of a plan, which are known before training.

        Raises:
            PlanError: If the plan is not in the table.
        """
        return self.table.costs(self._row(plan, 0))  # costs are the same for every seed

    def find(self, request: Request, findings: Findings) -> None:
        """Look up the plan. The table has only one number of epochs, so the requested number has no effect."""
        plan = Plan.of(request.plan)
        try:
            findings.costs = self.known(plan)
        except PlanError as error:
            raise RejectedError(str(error)) from None
        row = self._row(plan, request.seed)
        metrics = self.table.metrics(row)
        self.check_bounds({**findings.costs, **metrics}, request)
        findings.metrics, findings.fidelity = metrics, int(row["fidelity"])
        findings.state, findings.reason = row["state"], row["reason"]

    def _row(self, plan: Plan, seed: int) -> dict[str, Any]:
        row = self.table.row(plan, seed)
        if row is None:
            raise PlanError(
                f"the plan is not in {self.table.name}, and only the plans of the table can be evaluated: {plan}"
            )
        return row
