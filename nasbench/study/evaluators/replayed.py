"""Evaluates a plan by looking it up in the table of a tabulated space. No model is built or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasbench.errors import PlanError
from nasbench.library.plan import Plan
from nasbench.objectives import Constraint
from nasbench.runs.tabulated import Table
from nasbench.study.evaluators.asked import KnownFunction, check_known, known_values
from nasbench.study.evaluators.base import Evaluator, Findings, RejectedError, Request

__all__ = ["ReplayedEvaluator"]


@dataclass(frozen=True)
class ReplayedEvaluator(Evaluator):
    """Evaluates plans from a table.

    Attributes:
        table: The table.
        constraints: Bounds on costs and metrics.
        known_function: A user's function that returns further values that are known before an evaluation.
    """

    table: Table
    constraints: Sequence[Constraint] = ()
    known_function: KnownFunction | None = None

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the values of a plan that are known before training: its costs, and those of the user's function.

        Raises:
            PlanError: If the plan is not in the table, or has no costs there, because it could not be built.
            KnownError: If the user's function does not return finite numbers.
        """
        row = self._row(plan, 0)  # costs are the same for every seed
        costs = self.table.costs(row)
        if self.table.info.costs and not costs:
            raise PlanError(f"the plan has no costs in {self.table.name}: {row['reason']}")
        return {**costs, **known_values(self.known_function, plan)}

    def find(self, request: Request, findings: Findings) -> None:
        """Look up the plan. The table has only one number of epochs, so the requested number has no effect."""
        plan = Plan.of(request.plan)
        try:
            row = self._row(plan, request.seed)
        except PlanError as error:
            raise RejectedError(str(error)) from None
        findings.costs = self.table.costs(row)
        known = {**findings.costs, **known_values(self.known_function, plan)}
        self.check_bounds(known, request, findings, varies=False)
        findings.metrics, findings.fidelity = self.table.metrics(row), int(row["fidelity"])
        if row["state"] != "complete":
            findings.state, findings.reason = row["state"], row["reason"]
            return
        check_known(known, {**findings.costs, **findings.metrics})
        new = {name: value for name, value in findings.metrics.items() if name not in known}
        self.check_bounds(new, request, findings)

    def _row(self, plan: Plan, seed: int) -> dict[str, Any]:
        row = self.table.row(plan, seed)
        if row is None:
            raise PlanError(
                f"the plan is not in {self.table.name}, and only the plans of the table can be evaluated: {plan}"
            )
        return row
