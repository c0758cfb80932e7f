"""The third phase of a search: train the equal-cost control of each plan that is called BETTER, with the plan's seeds.

If the user gave the plans, the control of every plan is trained.

Controls do not compete with the plans. They have a ledger of their own and cannot be on the front.
`nasbench.report.control_table` compares each plan with its control.
"""

from __future__ import annotations

from dataclasses import replace

from nasbench.evidence.comparison import keeps_bounds
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation, at_full_budget
from nasbench.runs.refinement import has_given_plans
from nasbench.runs.schema import CONTROLS
from nasbench.study.phases.equal_cost import control_for
from nasbench.study.phases.further_seeds import ListedSeeds, Retries, Wanted

__all__ = ["Controls", "RetriedControls"]


class Controls(ListedSeeds):
    """Trains the control of every plan that is called BETTER, or of every given plan, with the seeds of that plan."""

    stage, title, noun, checks_costs, keeps_weights = CONTROLS, CONTROLS, "control, ", False, False

    def run_all(self) -> None:
        """Choose the controls, and evaluate those that are missing."""
        if self.problem.evaluator.plan_costs is None:  # without `plan_costs`, no models are built
            return
        self.begin()
        # The controls are chosen once. They are not part of the noise of the verdicts, so they change no verdict.
        if not self.late and ((wanted := self.wanted()) or self.unfinished):
            self.work_through(wanted)

    def wanted(self) -> list[Wanted]:
        """Return the controls and seeds that no driver has claimed. A control of several plans is listed once."""
        costs = self.problem.evaluator.plan_costs
        assert costs is not None
        found: dict[str, Wanted] = {}
        known = self.run.journal.controls
        for evaluations in self.chosen():
            plan = evaluations[0]
            if plan.plan_hash not in known:
                self.run.journal.record_controls({plan.plan_hash: control_for(Plan.of(plan.plan), costs).record})
            control = self.run.journal.controls[plan.plan_hash]
            for one in evaluations:
                wanted = replace(Wanted.of(plan, one.seed), plan=control.plan, plan_hash=control.plan_hash)
                found.setdefault(wanted.key, wanted)
        claims = self.claims()
        return [one for key, one in found.items() if key not in claims]

    def chosen(self) -> list[list[Evaluation]]:
        """Return the evaluations of each plan whose control is trained."""
        table = self.run.finalists()
        if "verdict" not in table:
            return []
        plans = at_full_budget(self.run.evaluations())
        asked = table["verdict"] == "BETTER"
        if has_given_plans(self.settings):
            asked = (table["verdict"] != "BARE") & keeps_bounds(table)
        rows = table[asked]
        return [plans[plan_hash] for plan_hash in rows["plan_hash"]]

    def append_trial(self, evaluation: Evaluation) -> None:
        """Do nothing: controls are not part of the trials table."""


class RetriedControls(Retries, Controls):
    """Evaluates each failed trial of a control once more."""
