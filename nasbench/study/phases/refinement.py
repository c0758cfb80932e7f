"""The second phase of a search: the finalists, and the bare backbone beside them, on further seeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import moocore
import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasbench.evidence.pareto import minimised, non_dominated
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of, is_abandoned, objective_values
from nasbench.runs.run import Record, Run
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.study.engines import Job, Result
from nasbench.study.evaluators.trained import CallableEvaluator, TrainingEvaluator
from nasbench.study.phases.exploration import evaluation_line
from nasbench.study.phases.phase import BARE, Phase
from nasbench.study.phases.reuse import Reusable, find_reusable

__all__ = ["MAX_FINALISTS", "Refinement", "choose_finalists"]

MAX_FINALISTS = 8
"""At most so many plans, the bare backbone aside, are retrained on further seeds."""


@dataclass(frozen=True)
class Wanted:
    """A finalist to evaluate on a further seed; `number` is its trial in the search."""

    number: int
    plan: str
    plan_hash: str
    seed: int

    @property
    def key(self) -> str:
        """What is claimed."""
        return f"{self.plan_hash}:{self.seed}"

    @property
    def attrs(self) -> dict[str, Any]:
        """What is noted on the claim."""
        return {"plan": self.plan, "number": self.number, "wanted": asdict(self)}


class Refinement(Phase):
    """Trains the finalists on the seeds that they lack."""

    stage = FINALISTS

    def run_all(self) -> None:
        """Take stock of what is missing, and have it evaluated."""
        evaluator = self.prepared.evaluator
        if self.settings.seeds < 2 or (isinstance(evaluator, CallableEvaluator) and not evaluator.takes_seed):
            return
        for trial in self.ledger.news():
            if trial.state == TrialState.RUNNING and self.ledger.is_mine(trial):
                self.settle(trial)
        every = self.settings.finalists == "all"
        finalists = choose_finalists(self.run, every=every)
        self.bare = next(record.evaluation for record in finalists if record.evaluation.plan == BARE.text)
        self.numbers: dict[int, int] = {}  # number of a trial here -> of the search's trial
        known = {(record.evaluation.plan_hash, record.evaluation.seed) for record in self.run.records()}
        seeds = range(self.settings.seed, self.settings.seed + self.settings.seeds)
        wanted = [Wanted(r.number, r.evaluation.plan, r.evaluation.plan_hash, s) for s in seeds for r in finalists]
        self.todo = deque(one for one in wanted if (one.plan_hash, one.seed) not in known)
        self.total = len(self.todo)
        if self.settings.reuse is not None:
            self.bring_in(find_reusable(self.settings.reuse, self.prepared))
        if isinstance(evaluator, TrainingEvaluator) and not every:
            self.check_costs(evaluator, [Plan.of(record.evaluation.plan) for record in finalists])
        self.work()

    def settle(self, trial: FrozenTrial) -> None:
        """End a trial whose process died; whether it is wanted again is seen afresh."""
        evaluation = evaluation_of(trial)
        if evaluation is not None:  # killed between writing it and ending the trial
            self.ledger.finish(trial.number, evaluation)
        else:
            self.ledger.note(trial.number, abandoned=True)
            self.ledger.end(trial.number, TrialState.FAIL)

    def next_job(self) -> tuple[int, Job] | None:
        """Return the next finalist and seed; what another process left when it died comes again."""
        for trial in self.ledger.news():
            if is_abandoned(trial) and not self.ledger.is_claimed(trial.user_attrs["claim"]):
                self.todo.append(Wanted(**trial.user_attrs["wanted"]))
        while self.todo:
            wanted = self.todo.popleft()
            number = self.ledger.claim(wanted.key, wanted.attrs)
            if number is not None:
                self.numbers[number] = wanted.number
                return number, Job(wanted.plan, wanted.plan_hash, wanted.seed, self.bare.values)
        return None

    def bring_in(self, found: Mapping[tuple[str, int], Reusable]) -> None:
        """Bring in the seeds that another run has evaluated."""
        for wanted in list(self.todo):
            if (one := found.get((wanted.plan_hash, wanted.seed))) is None:
                continue
            self.run.keep_items(one.evaluation, one.per_item)
            attrs = {**wanted.attrs, "claim": wanted.key, "evaluation": one.evaluation.to_dict()}
            self.ledger.add(TrialState.COMPLETE, attrs, None, objective_values(one.evaluation, self.run.directions))
            self.todo.remove(wanted)
            self.done += 1

    def record(self, number: int, result: Result) -> None:
        """Write down one further seed."""
        evaluation = result.evaluation
        self.run.keep_items(evaluation, result.per_item)
        if self.ledger.finish(number, evaluation, result.per_item):
            self.run.append(self.numbers[number], evaluation)
        self.done += 1
        self.say(
            f"seed {evaluation.seed}: {evaluation_line(self.numbers[number], evaluation, self.prepared.directions)}"
        )

    def check_costs(self, evaluator: TrainingEvaluator, plans: list[Plan]) -> None:
        """Count the finalists as whole models: the trials' costs are sums over parts."""
        known = self.run.cost_checks
        found = {plan.hash: evaluator.cost_error(plan) for plan in plans if plan.hash not in known}
        if found:
            self.run.study(SEARCH).set_user_attr("cost_checks", {**known, **found})


def choose_finalists(run: Run, *, every: bool = False) -> list[Record]:
    """Return the bare backbone and the front of the other plans; of a long front those that add most hypervolume.

    The bare backbone takes no plan off the front here: its one seed may have been a lucky one, and whether a plan is
    better is what the further seeds are to tell.

    Args:
        run: The run.
        every: Return every plan instead.
    """
    ledger, directions = run.ledger(SEARCH), list(run.directions.values())
    trials = [t for t in ledger.trials() if t.state == TrialState.COMPLETE and evaluation_of(t) is not None]
    bare = [t for t in trials if t.user_attrs["evaluation"]["plan"] == BARE.text]
    front = [t for t in trials if t.user_attrs["evaluation"]["plan"] != BARE.text]
    if front and not every:
        kept = non_dominated(np.array([t.values for t in front]), directions)
        front = [t for t, on_front in zip(front, kept, strict=True) if on_front]
    if len(front) > MAX_FINALISTS and not every:
        points = minimised(np.array([t.values for t in front]), directions)
        gains = moocore.hv_contributions(points, ref=points.max(axis=0) + np.ptp(points, axis=0) * 0.1 + 1e-9)
        front = [front[i] for i in sorted(np.argsort(-gains, kind="stable")[:MAX_FINALISTS])]
    return [Record(t.number, Evaluation(**t.user_attrs["evaluation"])) for t in [*bare, *front]]
