"""The first phase of a search: propose a plan, have it evaluated, record it, until the budget is spent.

The budget counts distinct plans: a repeated one costs nothing and is not counted, after 20 repeats in a row the next
plan is drawn uniformly from the unseen, and an exhausted space ends the phase. The sampler is made anew for each
proposal, seeded by (seed, trial number), so that a killed and resumed search with one worker proposes what an
uninterrupted one would.

With successive halving (`climbing`) a plan that is promoted goes before a new one, and a trial stays open between its
rungs; those that go no further are ended when no plan is left to promote.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nasbench.errors import InputError
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.reference import reference_point
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of, is_abandoned, objective_values
from nasbench.runs.run import Run
from nasbench.runs.schema import REFERENCE, SEARCH
from nasbench.study.engines import Engine, Job, Result
from nasbench.study.phases.climbing import Climb, Step
from nasbench.study.phases.events import Listener
from nasbench.study.phases.phase import BARE, Phase
from nasbench.study.phases.proposer import Proposer
from nasbench.study.phases.reuse import Reusable, find_reusable
from nasbench.study.problem import Prepared

__all__ = ["Exploration", "evaluation_line"]

MAX_REPEATS = 20
"""Repeats in a row after which the next plan is drawn from the unseen."""


class Exploration(Phase):
    """The search itself.

    Args:
        run: The run folder.
        prepared: What the settings stand for.
        engine: Evaluates.
        listen: Told of every step.
        sampler: Makes the sampler of one proposal from the number of its trial.
        first: Plans to begin with, whatever the sampler.
        climb: The books of successive halving; None where every plan is trained in full.
    """

    stage = SEARCH

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        engine: Engine,
        listen: Listener,
        sampler: Callable[[int], BaseSampler],
        first: Iterable[Plan] = (),
        climb: Climb | None = None,
    ) -> None:
        super().__init__(run, prepared, engine, listen)
        self.space, self.directions = prepared.space, prepared.directions
        self.proposer = Proposer(self.space.parameters, list(self.directions.values()), sampler)
        self.seen: dict[str, FrozenTrial | None] = {}  # by hash, every plan taken; None while it is being evaluated
        self.first = deque(first)
        self.unfinished: deque[FrozenTrial] = deque()  # trials whose process died
        self.front: dict[int, Sequence[float]] = {}  # number and objectives of the plans that may become finalists
        self.bare: Evaluation | None = None
        self.climb = climb
        self.reused = 0
        self.began = time.monotonic()

    def run_all(self) -> None:
        """Take up what an earlier process left, then search until the budget is spent or the space exhausted."""
        self.ledger.budget = self.settings.trials
        self.catch_up()
        self.run.refresh()
        if self.settings.reuse is not None:
            self.bring_in(find_reusable(self.settings.reuse, self.prepared).values())
        self.work()
        self.end_the_stopped()
        if self.exhausted and self.done < self.settings.trials:
            self.say("every plan of the space was evaluated")

    # -- what is known -----------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Take in what earlier processes, and others, have written."""
        for trial in self.ledger.news():
            self.take_in(trial)
        self.done = len(self.seen) - self.reused

    def take_in(self, trial: FrozenTrial) -> None:
        """Take in a trial that an earlier process, or another one, has written."""
        evaluation = evaluation_of(trial)
        if trial.state == TrialState.RUNNING and self.ledger.is_mine(trial):
            if evaluation is not None:  # killed between writing it and ending the trial
                self.ledger.finish(trial.number, evaluation)
            elif self.climb is not None and "rungs" in trial.user_attrs:
                if self.climb.restore(trial.number, trial.user_attrs["rungs"]):  # killed before it was ended
                    self.ledger.finish(trial.number, evaluation := self.climb.outcome(trial.number))
            elif "claim" in trial.user_attrs:
                self.unfinished.append(trial)
            else:  # another program made it
                self.ledger.end(trial.number, TrialState.FAIL)
            trial = self.ledger.trial(trial.number)
        self.proposer.add(trial)
        if trial.state == TrialState.RUNNING:
            if "claim" in trial.user_attrs:  # else another program made it
                self.seen.setdefault(trial.user_attrs["claim"], None)
        elif evaluation is not None:
            if self.climb is not None and "rungs" in trial.user_attrs:
                self.climb.restore(trial.number, trial.user_attrs["rungs"], over=True)
            self.note(trial, evaluation)
        elif is_abandoned(trial) and not self.ledger.is_claimed(trial.user_attrs["claim"]):  # another process left it
            self.seen.pop(trial.user_attrs["claim"], None)
            self.first.appendleft(Plan.of(trial.user_attrs["plan"]))

    def note(self, trial: FrozenTrial, evaluation: Evaluation) -> None:
        """Note an evaluation that is in the ledger."""
        self.seen[evaluation.plan_hash] = trial
        self.reused += bool(evaluation.reused_from)
        self.done = len(self.seen) - self.reused
        if evaluation.state == "complete" and evaluation.plan_hash != BARE.hash:
            self.front = self.front_with(trial.number, trial.values)
        if evaluation.plan_hash == BARE.hash:
            self.bare = evaluation
            if evaluation.state != "complete":
                raise InputError(
                    f"the bare backbone itself {evaluation.state}, so there is nothing to compare with: "
                    f"{evaluation.reason}"
                )
            self.fix_reference(evaluation)

    def fix_reference(self, bare: Evaluation) -> None:
        """Store with the run, once, from where its hypervolume is measured."""
        study = self.run.study(SEARCH)
        if REFERENCE not in study.user_attrs:
            study.set_user_attr(REFERENCE, reference_point(bare.values, self.directions).to_dict())

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

    def next_job(self) -> tuple[int, Job] | None:
        """Return the next trial: one left unfinished, the bare backbone, one promoted, then what is proposed."""
        while True:
            self.catch_up()
            if self.unfinished:
                return self.take_up(self.unfinished.popleft())
            if self.bare is None and BARE.hash in self.seen:  # it is being evaluated: all others are held against it
                return None
            over = self.bare is not None and (self.done >= self.settings.trials or self.exhausted or self.late)
            if (promoted := self.promote(finish=over)) is not None:
                return promoted
            if over:
                return None
            if (found := self.propose()) is not None:
                return found

    def take_up(self, trial: FrozenTrial) -> tuple[int, Job]:
        """Begin a trial again whose process died."""
        self.ledger.note(trial.number, attempts=trial.user_attrs.get("attempts", 1) + 1)
        return trial.number, self.job(trial.number, Plan.of(trial.user_attrs["plan"]))

    def promote(self, *, finish: bool) -> tuple[int, Job] | None:
        """Return a trial to train for longer; None where none is, or what is at work may yet tell."""
        if self.climb is None:
            return None
        step = self.climb.promote(finish=finish and not self.climb.at_work)
        return None if step is None else (step.number, self.step(step, Plan.of(step.plan).hash))

    def propose(self) -> tuple[int, Job] | None:
        """Claim a plan that was not seen; None where another process was quicker."""
        if self.bare is None:
            return self.claim(BARE, self.proposer.fixed(self.space.params(BARE)))
        while self.first:
            if (plan := self.first.popleft()).hash not in self.seen:
                return self.claim(plan, self.proposer.fixed(self.space.params(plan)))
        for _ in range(MAX_REPEATS):
            asked = self.proposer.ask(self.ledger.count)
            plan = self.space.plan(asked.params)
            if plan.hash not in self.seen and plan in self.space:
                return self.claim(plan, asked)
            self.note_repeat(plan, asked)
        draw = random.Random(f"{self.settings.seed}-{self.ledger.count}")
        unseen = self.space.sample_unseen(draw, self.seen.keys())
        assert unseen is not None, "asked of an exhausted space"
        return self.claim(unseen, self.proposer.fixed(self.space.params(unseen)))

    def claim(self, plan: Plan, proposal: FrozenTrial) -> tuple[int, Job] | None:
        """Claim a plan; None where another process was quicker."""
        number = self.ledger.claim(plan.hash, {"plan": plan.text}, proposal)
        if number is None:
            self.proposer.drop(proposal)
            return None
        self.proposer.settle(proposal, number)
        self.seen[plan.hash] = None
        self.done = len(self.seen) - self.reused
        return number, self.job(number, plan)

    def note_repeat(self, plan: Plan, proposal: FrozenTrial) -> None:
        """Tell the sampler what is known of a plan that was taken, or that the space does not admit."""
        known = self.seen.get(plan.hash)
        state, values = (TrialState.FAIL, None) if known is None else (known.state, known.values)
        self.write(state, {"repeats": plan.hash}, proposal, values)

    def write(
        self, state: TrialState, attrs: Mapping[str, Any], proposal: FrozenTrial, values: Sequence[float] | None
    ) -> int:
        """Write a finished trial, which costs nothing, and return its number."""
        number = self.ledger.add(state, attrs, proposal, values, durable=False)
        self.proposer.settle(proposal, number)
        self.proposer.end(number, state, values, attrs)
        return number

    def job(self, number: int, plan: Plan) -> Job:
        """Return the job of evaluating a plan: in full, or at its first rung."""
        step = Step(number, plan.text, None) if self.climb is None else self.climb.begin(number, plan)
        return self.step(step, plan.hash)

    def step(self, step: Step, plan_hash: str) -> Job:
        """Return the job of one training; weights are wanted of a full one."""
        bare = None if self.bare is None else self.bare.values
        full = self.climb is None or step.epochs == self.climb.ladder.epochs[-1]
        return Job(step.plan, plan_hash, self.settings.seed, bare, full, step.epochs, step.before)

    # -- evaluations -------------------------------------------------------------------------------------------

    def record(self, number: int, result: Result) -> None:
        """Write down an evaluation: what hangs on it, then the ledger, which is the truth, then the views."""
        evaluation = result.evaluation
        if self.climb is not None and not self.climb.take_in(number, evaluation):
            self.note_rungs(number)
            self.say(f"{evaluation_line(number, evaluation, self.directions)}  {self.climb.where(number)}")
            return
        self.run.keep_items(evaluation, result.per_item)
        if result.weights is not None and self.keeps(number, evaluation):
            self.run.keep_weights(number, result.weights)
        if self.climb is not None:
            self.note_rungs(number)
            evaluation = self.climb.outcome(number)
        self.end(number, evaluation, result)

    def note_rungs(self, number: int) -> None:
        """Write down what a trial has given on its way up."""
        assert self.climb is not None
        rungs = [one.to_dict() for one in self.climb.evaluations(number)]
        self.ledger.note(number, rungs=rungs)
        self.proposer.note(number, rungs=rungs)

    def end(self, number: int, evaluation: Evaluation, result: Result) -> None:
        """End a trial in the ledger, then in the views."""
        if not self.ledger.finish(number, evaluation, result.per_item):
            self.say(f"trial {number} was taken over by another process meanwhile")
            return
        trial = self.ledger.trial(number)
        self.proposer.end(number, trial.state, trial.values, trial.user_attrs)
        self.run.append(number, evaluation)
        self.note(trial, evaluation)
        if result.weights is not None and self.settings.keep == "front":
            self.run.keep_weights_of([*self.front, *(t.number for t in [self.seen[BARE.hash]] if t is not None)])
        self.say(evaluation_line(number, evaluation, self.directions))

    def end_the_stopped(self) -> None:
        """End the trials that successive halving trains no further, each with its reason."""
        for number, evaluation in self.climb.stopped() if self.climb is not None else ():
            self.end(number, evaluation, Result(evaluation))

    def keeps(self, number: int, evaluation: Evaluation) -> bool:
        """Whether the weights of an evaluation are kept: of all, or of the plans' own front and the bare backbone."""
        values = objective_values(evaluation, self.directions)
        if self.settings.keep == "all" or evaluation.plan_hash == BARE.hash:
            return True
        return values is not None and number in self.front_with(number, values)

    def bring_in(self, found: Iterable[Reusable]) -> None:
        """Bring in what another run has evaluated, each plan once, as finished trials."""
        new = [
            one
            for one in found
            if one.evaluation.seed == self.settings.seed and one.evaluation.plan_hash not in self.seen
        ]
        with self.ledger.together():
            for one in new:
                evaluation = one.evaluation
                attrs = {"plan": evaluation.plan, "claim": evaluation.plan_hash, "evaluation": evaluation.to_dict()}
                proposal = self.proposer.fixed(self.space.params(Plan.of(evaluation.plan)))
                values = objective_values(evaluation, self.directions)
                number = self.write(TrialState.COMPLETE, attrs, proposal, values)
                self.run.keep_items(evaluation, one.per_item)
                if one.weights is not None and self.keeps(number, evaluation):
                    self.run.keep_weights(number, one.weights)
                self.note(self.ledger.trial(number), evaluation)
        if new:
            self.run.refresh()
            self.say(f"{len(new)} evaluations brought in from {new[0].run.path}")


def evaluation_line(number: int, evaluation: Evaluation, directions: Mapping[str, str]) -> str:
    """Return one line on a finished evaluation."""
    plan = evaluation.plan if evaluation.plan != BARE.text else "bare backbone"
    if evaluation.state != "complete":
        return f"trial {number} {evaluation.state}: {evaluation.reason}; {plan}"
    values = "  ".join(f"{name} {evaluation.values[name]:.5g}" for name in directions)
    return f"trial {number}  {values}  {plan}"
