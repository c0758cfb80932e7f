"""The first phase of a search: propose a plan, have it evaluated, record it, until the budget is spent.

The budget counts distinct plans: a repeated one costs nothing and is not counted, after 20 repeats in a row the next
plan is drawn uniformly from the unseen, and an exhausted space ends the phase. The sampler is made anew for each
proposal, seeded by (seed, trial number), so that a killed and resumed search with one worker proposes what an
uninterrupted one would.

With successive halving (`fidelity`) a plan that is promoted goes before a new one, and a trial stays open between its
rungs; those that are promoted no further are ended when no plan is left to promote.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nasbench.errors import InputError
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.reference import reference_point
from nasbench.library.plan import BARE, Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of, is_abandoned
from nasbench.runs.run import Run
from nasbench.runs.schema import SEARCH
from nasbench.study.engines import Engine
from nasbench.study.evaluators.base import Request
from nasbench.study.phases.events import Listener
from nasbench.study.phases.fidelity import FullBudget, Step
from nasbench.study.phases.phase import Phase, evaluation_line
from nasbench.study.phases.proposer import Proposer
from nasbench.study.phases.reuse import Reusable, find_reusable
from nasbench.study.problem import Problem

__all__ = ["Exploration"]

MAX_REPEATS = 20
"""Repeats in a row after which the next plan is drawn from the unseen."""


class Exploration(Phase):
    """The search itself.

    Args:
        run: The run.
        problem: What the search is given to solve.
        engine: Evaluates.
        listen: Told of every step.
        sampler: Makes the sampler of one proposal from the number of its trial.
        first: Plans to begin with, whatever the sampler.
        fidelity: For how long the trials are trained; every one in full by default.
    """

    stage = SEARCH

    def __init__(
        self,
        run: Run,
        problem: Problem,
        engine: Engine,
        listen: Listener,
        sampler: Callable[[int], BaseSampler],
        first: Iterable[Plan] = (),
        fidelity: FullBudget | None = None,
    ) -> None:
        super().__init__(run, problem, engine, listen)
        self.space, self.directions = problem.space, problem.directions
        self.proposer = Proposer(self.space.parameters, list(self.directions.values()), sampler)
        self.seen: dict[str, FrozenTrial | None] = {}  # by hash, every plan taken; None while it is being evaluated
        self.first = deque(first)
        self.unfinished: deque[FrozenTrial] = deque()  # trials whose process died
        self.front: dict[int, Sequence[float]] = {}  # number and objectives of the plans that may become finalists
        self.bare: Evaluation | None = None
        self.fidelity = FullBudget() if fidelity is None else fidelity
        self.reused = 0
        self.began = time.monotonic()

    def run_all(self) -> None:
        """Adopt what an earlier process left, then search until the budget is spent or the space exhausted."""
        self.ledger.budget = self.settings.trials
        self.adopt_new_trials()
        self.run.refresh()
        if self.settings.reuse is not None:
            self.import_evaluations(find_reusable(self.settings.reuse, self.problem).values())
        self.work()
        for number, evaluation in self.fidelity.stopped():
            self.close_trial(number, evaluation)
        if self.exhausted and self.done < self.settings.trials:
            self.narrate("every plan of the space was evaluated")

    # -- what is known -----------------------------------------------------------------------------------------

    def adopt_new_trials(self) -> None:
        """Adopt what earlier processes, and others, have written."""
        for trial in self.ledger.new_trials():
            self.adopt_trial(trial)
        self.done = len(self.seen) - self.reused

    def adopt_trial(self, trial: FrozenTrial) -> None:
        """Adopt a trial that an earlier process, or another one, has written."""
        if trial.state == TrialState.RUNNING and self.ledger.owns(trial):
            self.settle_trial(trial)
            trial = self.ledger.trial(trial.number)
        self.proposer.add(trial)
        evaluation = evaluation_of(trial)
        if trial.state == TrialState.RUNNING:
            if "claim" in trial.user_attrs:  # else another program made it
                self.seen.setdefault(trial.user_attrs["claim"], None)
        elif evaluation is not None:
            self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()), over=True)
            self.add_known(trial, evaluation)
        elif is_abandoned(trial) and not self.ledger.is_claimed(trial.user_attrs["claim"]):  # another process left it
            self.seen.pop(trial.user_attrs["claim"], None)
            self.first.appendleft(Plan.of(trial.user_attrs["plan"]))

    def settle_trial(self, trial: FrozenTrial) -> None:
        """Decide what becomes of a running trial whose process died: it is closed, waits, or is evaluated again."""
        evaluation = evaluation_of(trial)  # there is one where it died between writing that and ending the trial
        if evaluation is None:
            evaluation = self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()))
        if evaluation is not None:
            self.ledger.close_trial(trial.number, evaluation)
        elif self.fidelity.is_waiting(trial.number):
            return
        elif "claim" in trial.user_attrs:
            self.unfinished.append(trial)
        else:  # another program made it
            self.ledger.end_trial(trial.number, TrialState.FAIL)

    def add_known(self, trial: FrozenTrial, evaluation: Evaluation) -> None:
        """Add an evaluation that is in the ledger to what is known."""
        self.seen[evaluation.plan_hash] = trial
        self.reused += bool(evaluation.reused_from)
        self.done = len(self.seen) - self.reused
        if evaluation.is_complete and not evaluation.is_bare:
            self.front = self.front_with(trial.number, trial.values)
        if evaluation.is_bare:
            self.bare = evaluation.record
            if not evaluation.is_complete:
                raise InputError(
                    f"the bare backbone itself {evaluation.state}, so there is nothing to compare with: "
                    f"{evaluation.reason}"
                )
            self.run.journal.record_reference(reference_point(evaluation.values, self.directions))

    def front_with(self, number: int, values: Sequence[float]) -> dict[int, Sequence[float]]:
        """Return the front of all plans but the bare backbone, as `choose_finalists`, with one more trial."""
        points = {**self.front, number: values}
        kept = non_dominated(np.array(list(points.values()), dtype=float), list(self.directions.values()))
        return {one: points[one] for one, on_front in zip(points, kept, strict=True) if on_front}

    @property
    def exhausted(self) -> bool:
        """Whether every plan of the space, and the bare backbone, was taken."""
        return len(self.seen) >= self.space.count + (BARE not in self.space)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return self.settings.time_s is not None and time.monotonic() - self.began > self.settings.time_s

    # -- proposals ---------------------------------------------------------------------------------------------

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next trial: one left unfinished, the bare backbone, one promoted, then what is proposed."""
        while True:
            self.adopt_new_trials()
            if self.unfinished:
                return self.resume_trial(self.unfinished.popleft())
            if self.bare is None and BARE.hash in self.seen:  # it is being evaluated: all others are held against it
                return None
            over = self.bare is not None and (self.done >= self.settings.trials or self.exhausted or self.late)
            if (step := self.fidelity.promote(finish=over)) is not None:
                return step.number, self.request(step)
            if over:
                return None
            if (found := self.propose()) is not None:
                return found

    def resume_trial(self, trial: FrozenTrial) -> tuple[int, Request]:
        """Begin a trial again whose process died."""
        self.ledger.annotate_trial(trial.number, attempts=trial.user_attrs.get("attempts", 1) + 1)
        return trial.number, self.request(self.fidelity.start(trial.number, Plan.of(trial.user_attrs["plan"])))

    def propose(self) -> tuple[int, Request] | None:
        """Claim a plan that was not seen; None where another process was quicker."""
        if self.bare is None:
            return self.claim_trial(BARE, self.proposer.fixed(self.space.params(BARE)))
        while self.first:
            if (plan := self.first.popleft()).hash not in self.seen:
                return self.claim_trial(plan, self.proposer.fixed(self.space.params(plan)))
        for _ in range(MAX_REPEATS):
            asked = self.proposer.ask(self.ledger.count)
            plan = self.space.plan(asked.params)
            if plan.hash not in self.seen and plan in self.space:
                return self.claim_trial(plan, asked)
            self.record_repeat(plan, asked)
        draw = random.Random(f"{self.settings.seed}-{self.ledger.count}")
        unseen = self.space.sample_unseen(draw, self.seen.keys())
        assert unseen is not None, "asked of an exhausted space"
        return self.claim_trial(unseen, self.proposer.fixed(self.space.params(unseen)))

    def claim_trial(self, plan: Plan, proposal: FrozenTrial) -> tuple[int, Request] | None:
        """Claim a plan; None where another process was quicker."""
        number = self.ledger.claim_trial(plan.hash, {"plan": plan.text}, proposal)
        if number is None:
            self.proposer.drop(proposal)
            return None
        self.proposer.settle(proposal, number)
        self.seen[plan.hash] = None
        self.done = len(self.seen) - self.reused
        return number, self.request(self.fidelity.start(number, plan))

    def record_repeat(self, plan: Plan, proposal: FrozenTrial) -> None:
        """Tell the sampler what is known of a plan that was taken, or that the space does not admit."""
        known = self.seen.get(plan.hash)
        state, values = (TrialState.FAIL, None) if known is None else (known.state, known.values)
        self.add_finished(state, {"repeats": plan.hash}, proposal, values)

    def add_finished(
        self, state: TrialState, attrs: Mapping[str, Any], proposal: FrozenTrial, values: Sequence[float] | None
    ) -> int:
        """Write a finished trial, which costs nothing, and return its number."""
        number = self.ledger.add_trial(state, attrs, proposal, values, durable=False)
        self.proposer.settle(proposal, number)
        self.proposer.end(number, state, values, attrs)
        return number

    def request(self, step: Step) -> Request:
        """Return the request for one training; weights are wanted of a full one."""
        bare = None if self.bare is None else self.bare.values
        plan_hash = Plan.of(step.plan).hash
        return Request(step.plan, plan_hash, self.settings.seed, bare, step.epochs, step.before, step.is_full)

    # -- evaluations -------------------------------------------------------------------------------------------

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Write down an evaluation: what hangs on it, then the ledger, which is the truth, then the views."""
        result = self.fidelity.add(number, evaluation)
        if result is not None:
            self.save_items(evaluation)
            if evaluation.weights is not None and self.keeps(number, evaluation):
                self.run.folder.save_weights(number, evaluation.weights)
        if rungs := [rung.to_dict() for rung in self.fidelity.rungs(number)]:
            self.ledger.annotate_trial(number, rungs=rungs)
            self.proposer.note(number, rungs=rungs)
        if result is None:
            line = evaluation_line(number, evaluation, self.directions)
            self.narrate(f"{line}  {self.fidelity.describe(number)}")
        else:
            self.close_trial(number, result)

    def close_trial(self, number: int, evaluation: Evaluation) -> None:
        """End a trial in the ledger, then in the views."""
        if not self.ledger.close_trial(number, evaluation):
            self.narrate(f"trial {number} was taken over by another process meanwhile")
            return
        trial = self.ledger.trial(number)
        self.proposer.end(number, trial.state, trial.values, trial.user_attrs)
        self.run.append_trial(replace(evaluation, number=number))
        self.add_known(trial, evaluation)
        if evaluation.weights is not None and self.settings.keep == "front":
            self.run.folder.remove_weights(
                but=[*self.front, *(t.number for t in [self.seen[BARE.hash]] if t is not None)]
            )
        self.narrate(evaluation_line(number, evaluation, self.directions))

    def keeps(self, number: int, evaluation: Evaluation) -> bool:
        """Whether the weights of an evaluation are kept: of all, or of the plans' own front and the bare backbone."""
        if self.settings.keep == "all" or evaluation.is_bare:
            return True
        values = evaluation.objectives(self.directions)
        return values is not None and number in self.front_with(number, values)

    def import_evaluations(self, found: Iterable[Reusable]) -> None:
        """Import what another run has evaluated, each plan once, as finished trials."""
        new = [
            one
            for one in found
            if one.evaluation.seed == self.settings.seed and one.evaluation.plan_hash not in self.seen
        ]
        with self.ledger.atomically():
            for one in new:
                evaluation = one.evaluation
                attrs = {"plan": evaluation.plan, "claim": evaluation.plan_hash, "evaluation": evaluation.to_dict()}
                proposal = self.proposer.fixed(self.space.params(Plan.of(evaluation.plan)))
                values = evaluation.objectives(self.directions)
                number = self.add_finished(TrialState.COMPLETE, attrs, proposal, values)
                self.run.folder.save_items(evaluation.plan_hash, evaluation.seed, one.items)
                if (weights := one.weights) is not None and self.keeps(number, evaluation):
                    self.run.folder.save_weights(number, weights)
                self.add_known(self.ledger.trial(number), evaluation)
        if new:
            self.run.refresh()
            self.narrate(f"{len(new)} evaluations brought in from {new[0].run.path}")
