"""The third phase of a search: the equal-cost control of each finalist, trained on the same seeds.

Controls are no candidates. They have a ledger of their own and never come near the front.
`nasbench.report.control_table` sets each finalist beside its control.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict

from optuna.trial import TrialState

from nasbench.library.plan import Plan
from nasbench.runs.ledger import evaluation_of
from nasbench.runs.schema import CONTROLS, KeptControl
from nasbench.study.engines import Result
from nasbench.study.evaluators.trained import TrainingEvaluator
from nasbench.study.phases.equal_cost import Control, control_for
from nasbench.study.phases.exploration import evaluation_line
from nasbench.study.phases.phase import BARE
from nasbench.study.phases.refinement import Refinement, Wanted, choose_finalists

__all__ = ["Controls"]


class Controls(Refinement):
    """Trains the control of every finalist on every seed of the study."""

    stage = CONTROLS

    def run_all(self) -> None:
        """Work out the controls, and have those evaluated that are missing."""
        evaluator = self.prepared.evaluator
        if not self.settings.controls or self.settings.seeds < 2 or not isinstance(evaluator, TrainingEvaluator):
            return
        for trial in self.ledger.news():
            if trial.state == TrialState.RUNNING and self.ledger.is_mine(trial):
                self.settle(trial)
        finalists = choose_finalists(self.run)
        self.bare = next(record.evaluation for record in finalists if record.evaluation.plan == BARE.text)
        self.numbers = {}
        controls = {
            record.evaluation.plan_hash: (record.number, control_for(Plan.of(record.evaluation.plan), evaluator.costs))
            for record in finalists
            if record.evaluation.plan != BARE.text
        }
        described = {plan_hash: described_control(control) for plan_hash, (_, control) in controls.items()}
        study = self.run.study(CONTROLS)
        kept = {plan_hash: asdict(control) for plan_hash, control in {**self.run.controls, **described}.items()}
        study.set_user_attr(CONTROLS, kept)
        self.todo = deque(self.missing(list(controls.values())))
        self.total = len(self.todo)
        self.work()

    def missing(self, controls: list[tuple[int, Control]]) -> list[Wanted]:
        """Return the controls and seeds that were not evaluated; two finalists may have one control."""
        known = {t.user_attrs["claim"] for t in self.ledger.trials() if evaluation_of(t) is not None}
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        wanted = [Wanted(n, c.plan.text, c.plan.hash, seed) for seed in seeds for n, c in controls]
        return [one for one in {one.key: one for one in wanted}.values() if one.key not in known]

    def record(self, number: int, result: Result) -> None:
        """Write down one seed of a control."""
        evaluation = result.evaluation
        self.run.keep_items(evaluation, result.per_item)
        self.ledger.finish(number, evaluation, result.per_item)
        self.done += 1
        line = evaluation_line(self.numbers[number], evaluation, self.prepared.directions)
        self.say(f"control, seed {evaluation.seed}: {line}")


def described_control(control: Control) -> KeptControl:
    """Return what is kept of a control."""
    return KeptControl(
        plan=control.plan.text,
        plan_hash=control.plan.hash,
        ratio=control.ratio,
        slots={slot.slot: slot.ratio for slot in control.slots},
        plan_params=control.plan_params,
        control_params=control.control_params,
        exact=control.exact,
    )
