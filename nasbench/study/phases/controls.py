"""The third phase of a search: the equal-cost control of each finalist, trained on the same seeds.

Controls are not candidates. They have a ledger of their own and cannot be on the front.
`nasbench.report.control_table` compares each finalist with its control.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of
from nasbench.runs.schema import CONTROLS
from nasbench.study.phases.equal_cost import Control, control_for
from nasbench.study.phases.refinement import Refinement, Wanted

__all__ = ["Controls"]


class Controls(Refinement):
    """Trains the control of every finalist on every seed of the study."""

    stage, noun = CONTROLS, "control, "

    def run_all(self) -> None:
        """Determine the controls, and have the missing ones evaluated."""
        costs = self.problem.evaluator.plan_costs
        if not self.settings.controls or self.settings.seeds < 2 or costs is None:
            return
        finalists = [evaluation for evaluation in self.begin() if not evaluation.is_bare]
        controls = [(one, control_for(Plan.of(one.plan), costs)) for one in finalists]
        self.run.journal.record_controls({one.plan_hash: control.record for one, control in controls})
        self.todo = deque(self.missing(controls))
        self.total = len(self.todo)
        self.work()

    def missing(self, controls: list[tuple[Evaluation, Control]]) -> list[Wanted]:
        """Return the controls and seeds without an evaluation. A control that two finalists share is listed once."""
        known = {t.user_attrs["claim"] for t in self.ledger.trials() if evaluation_of(t) is not None}
        wanted = [
            replace(Wanted.of(finalist, seed), plan=control.plan.text, plan_hash=control.plan.hash)
            for seed in self.seeds
            for finalist, control in controls
        ]
        return [one for one in {one.key: one for one in wanted}.values() if one.key not in known]

    def append_trial(self, evaluation: Evaluation) -> None:
        """Do nothing: controls are not part of the trials table."""
