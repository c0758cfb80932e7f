"""The second phase of a search: evaluates the finalists and the bare backbone on further seeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import moocore
import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasbench.evidence.pareto import minimised, non_dominated
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of, is_abandoned
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.study.evaluators.base import Request
from nasbench.study.phases.phase import Phase, evaluation_line
from nasbench.study.phases.reuse import Reusable, find_reusable

__all__ = ["MAX_FINALISTS", "Refinement", "Wanted", "choose_finalists"]

MAX_FINALISTS = 8
"""Largest number of plans, besides the bare backbone, that are retrained on further seeds."""


@dataclass(frozen=True)
class Wanted:
    """A plan to evaluate on a further seed. `number` is the plan's trial in the search."""

    number: int
    plan: str
    plan_hash: str
    seed: int

    @classmethod
    def of(cls, finalist: Evaluation, seed: int) -> Wanted:
        """Return a further seed of a finalist, given as its evaluation in the search."""
        assert finalist.number is not None
        return cls(finalist.number, finalist.plan, finalist.plan_hash, seed)

    @property
    def key(self) -> str:
        """The key of the claim: plan and seed."""
        return f"{self.plan_hash}:{self.seed}"

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes that are written with the claim."""
        # "wanted" is complete, so that another driver can continue the trial from the claim alone
        return {"plan": self.plan, "number": self.number, "wanted": asdict(self)}


class Refinement(Phase):
    """The phase that trains the finalists on the seeds that they lack."""

    stage = FINALISTS
    todo: deque[Wanted]

    def run_all(self) -> None:
        """Determine which seeds are missing, and have them evaluated."""
        if self.settings.seeds < 2 or not self.problem.evaluator.takes_seed:
            return
        every = self.settings.finalists == "all"
        finalists = self.begin(every=every)
        known = {(evaluation.plan_hash, evaluation.seed) for evaluation in self.run.evaluations()}
        wanted = [Wanted.of(finalist, seed) for seed in self.seeds for finalist in finalists]
        self.todo = deque(one for one in wanted if (one.plan_hash, one.seed) not in known)
        self.total = len(self.todo)
        if self.settings.reuse is not None:
            self.import_evaluations(find_reusable(self.settings.reuse, self.problem))
        if not every:
            self.check_costs(Plan.of(evaluation.plan) for evaluation in finalists)
        self.work()

    def begin(self, *, every: bool = False) -> list[Evaluation]:
        """Settle the trials of an earlier process, and return the finalists, the bare backbone first."""
        for trial in self.ledger.new_trials():
            if trial.state == TrialState.RUNNING and self.ledger.owns(trial):
                self.settle_trial(trial)
        finalists = choose_finalists(self.run, every=every)
        self.bare = next(evaluation for evaluation in finalists if evaluation.is_bare)
        self.numbers: dict[int, int] = {}  # number of a trial here -> of the search's trial
        return finalists

    @property
    def seeds(self) -> range:
        """The seeds that every finalist is trained on."""
        return range(self.settings.seed, self.settings.seed + self.settings.seeds)

    def settle_trial(self, trial: FrozenTrial) -> None:
        """End a running trial whose process died. If it is still wanted, it is claimed again as a new trial."""
        evaluation = evaluation_of(trial)
        if evaluation is not None:  # the process died between writing the evaluation and ending the trial
            self.ledger.close_trial(trial.number, evaluation)
        else:
            self.ledger.annotate_trial(trial.number, abandoned=True)
            self.ledger.end_trial(trial.number, TrialState.FAIL)

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next finalist and seed. Those that a dead driver left are evaluated again."""
        for trial in self.ledger.new_trials():
            if is_abandoned(trial) and not self.ledger.is_claimed(trial.user_attrs["claim"]):
                self.todo.append(Wanted(**trial.user_attrs["wanted"]))
        while self.todo:
            wanted = self.todo.popleft()
            number = self.ledger.claim_trial(wanted.key, wanted.attrs)
            if number is not None:
                self.numbers[number] = wanted.number
                return number, Request(wanted.plan, wanted.plan_hash, wanted.seed, self.bare.values)
        return None

    def import_evaluations(self, found: Mapping[tuple[str, int], Reusable]) -> None:
        """Import the evaluations of wanted seeds from another run."""
        for wanted in list(self.todo):
            if (one := found.get((wanted.plan_hash, wanted.seed))) is None:
                continue
            self.run.folder.save_items(wanted.plan_hash, wanted.seed, one.items)
            attrs = {**wanted.attrs, "claim": wanted.key, "evaluation": one.evaluation.to_dict()}
            values = one.evaluation.objectives(self.run.directions)
            self.ledger.add_trial(TrialState.COMPLETE, attrs, None, values)
            self.todo.remove(wanted)
            self.done += 1

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Record the evaluation of one further seed."""
        # items first, as in the search: an evaluation that is in the ledger then has its items
        self.save_items(evaluation)
        evaluation = replace(evaluation, number=self.numbers[number])
        if self.ledger.close_trial(number, evaluation):
            self.append_trial(evaluation)
        self.done += 1
        line = evaluation_line(self.numbers[number], evaluation, self.problem.directions)
        self.narrate(f"{self.noun}seed {evaluation.seed}: {line}")

    noun = ""
    """Name of an evaluation of this phase in messages, before its seed."""

    def append_trial(self, evaluation: Evaluation) -> None:
        """Add an evaluation to the trials table."""
        self.run.append_trial(evaluation)

    def check_costs(self, plans: Iterable[Plan]) -> None:
        """Count the finalists as whole models, and record where these costs differ from the sums of their parts."""
        known = self.run.journal.cost_checks
        told = {plan.hash: self.problem.evaluator.cost_error(plan) for plan in plans if plan.hash not in known}
        found = {plan_hash: error for plan_hash, error in told.items() if error is not None}
        if found:
            self.run.journal.record_cost_checks(found)


def choose_finalists(run: Run, *, every: bool = False) -> list[Evaluation]:
    """Return the bare backbone and the front of the other plans.

    A front of more than `MAX_FINALISTS` plans is reduced to those that add most hypervolume. The bare backbone does not
    dominate any plan here: its one seed may have been a lucky one, and the further seeds are to decide which is better.

    Args:
        run: The run.
        every: Whether to return all complete plans instead.
    """
    directions = list(run.directions.values())
    found = [evaluation for evaluation in run.journal.evaluations(SEARCH) if evaluation.is_complete]
    bare = [evaluation for evaluation in found if evaluation.is_bare]
    front = [evaluation for evaluation in found if not evaluation.is_bare]
    if every or not front:
        return [*bare, *front]
    values = np.array([evaluation.objectives(run.directions) for evaluation in front])
    kept = np.flatnonzero(non_dominated(values, directions))
    if len(kept) > MAX_FINALISTS:
        points = minimised(values[kept], directions)
        # a reference point beyond the worst values: at the worst values themselves, the extremes would add no volume
        gains = moocore.hv_contributions(points, ref=points.max(axis=0) + np.ptp(points, axis=0) * 0.1 + 1e-9)
        # a stable sort breaks ties by trial, and the finalists stay in order of their trials
        kept = kept[np.sort(np.argsort(-gains, kind="stable")[:MAX_FINALISTS])]
    return [*bare, *(front[index] for index in kept)]
