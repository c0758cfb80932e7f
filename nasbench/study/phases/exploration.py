"""The first phase of a search: it proposes plans, has them evaluated and records them, until the budget is used up.

The budget is a number of distinct plans, including the bare backbone. A plan that is proposed again is not evaluated
again and does not count. Nor is one that breaks a constraint on a known value, as long as there are others. After 20
repeated or 5 refused proposals, the next plan is drawn uniformly from the other plans. The phase also ends if every
plan of the space was evaluated, if no plan is found that keeps the constraints, or if the time limit has passed. Each
proposal is made by a new sampler, whose seed depends on the seed of the search and the trial number. So if a search
with one worker is killed and resumed, it proposes the same plans as an uninterrupted search.

With successive halving (`fidelity`), promoted plans are trained before new plans. A trial stays open between two rungs.
When no plan is left to promote, the open trials are closed.
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

from nasbench.errors import EvaluationError, InputError
from nasbench.evidence.pareto import non_dominated
from nasbench.evidence.reference import reference_point
from nasbench.library.plan import BARE, Plan
from nasbench.runs.evaluation import Evaluation, describe_error
from nasbench.runs.ledger import PROMOTED, evaluation_of, is_abandoned, is_void, retried_numbers
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.study.engines import Engine
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.pace import Pace
from nasbench.study.phases.events import BEFORE, Event, Listener, item
from nasbench.study.phases.fidelity import FullBudget, Step
from nasbench.study.phases.outlook import Done, outlook
from nasbench.study.phases.phase import Phase, evaluation_line
from nasbench.study.phases.proposer import Proposer
from nasbench.study.phases.reuse import Reusable, find_reusable
from nasbench.study.problem import Problem
from nasbench.study.samplers.knowledge import MAX_DRAWN, Knowledge

__all__ = ["Exploration"]

MAX_REPEATS = 20
"""After this number of repeated proposals in a row, the next plan is drawn from the other plans."""

MAX_REFUSED = 5
"""After this number of proposals that break a constraint on a known value, the next plan is drawn.

Optuna's samplers do not learn from such proposals, and each proposal of `gp` takes a fit of its model."""


class Exploration(Phase):
    """The phase that searches the space.

    Args:
        run: The run.
        problem: The problem of the search.
        engine: Evaluates the requests.
        listen: Called with an event after every step.
        knowledge: What is known before an evaluation. Its first plans are evaluated first, whatever the sampler is.
        sampler: Creates the sampler for one proposal, given the number of the trial.
        fidelity: Strategy for the number of epochs of each training. By default every plan is trained with the full
            budget.
        began: As in `Phase`.
    """

    stage = SEARCH

    def __init__(
        self,
        run: Run,
        problem: Problem,
        engine: Engine,
        listen: Listener,
        knowledge: Knowledge,
        sampler: Callable[[int], BaseSampler],
        fidelity: FullBudget | None = None,
        began: float | None = None,
    ) -> None:
        super().__init__(run, problem, engine, listen, began=began)
        self.space, self.directions = problem.space, problem.directions
        self.proposer = Proposer(self.space.parameters, list(self.directions.values()), sampler)
        self.seen: dict[str, FrozenTrial | None] = {}  # plan hash -> its trial; None while it is evaluated
        self.knowledge = knowledge
        self.first = deque(knowledge.first_plans())
        self.barren: str | None = None  # why a plan was refused (or ""), once none was found that keeps the constraints
        self.unfinished: deque[FrozenTrial] = deque()  # trials whose process died, to evaluate again
        self.front: dict[int, Sequence[float]] = {}  # trial number -> objectives, of the plans on the front
        self.failed: dict[int, FrozenTrial] = {}  # failed trials of earlier processes to try again, by number
        self.retried: set[int] = set()  # numbers of the failed trials that were tried again
        self.resumes = False  # whether trials of earlier processes are being adopted
        self.bare: Evaluation | None = None
        self.fidelity = FullBudget() if fidelity is None else fidelity
        self.left_rungs: dict[str, list[Mapping[str, Any]]] = {}  # plan hash -> its rungs that a dead driver trained
        self.reused = 0
        self.only_bare = False
        self.estimated = False  # whether the time of the search was estimated from the first steps

    def run_bare(self) -> None:
        """Adopt the trials of earlier processes. Then evaluate the bare backbone, if it is not among them."""
        self.ledger.budget = self.settings.trials
        self.resumes = True
        self.adopt_new_trials()
        self.resumes = False
        self.run.refresh()  # if the last process was killed, its last trial can be missing in the views
        if self.settings.reuse is not None:
            self.import_evaluations(find_reusable(self.settings.reuse, self.problem).values())
        self.only_bare = True
        self.work()
        self.only_bare = False

    def run_all(self) -> None:
        """Search until the budget is used up or every plan was evaluated. `run_bare` must be called before."""
        while True:
            self.work()
            for number, evaluation in self.fidelity.stopped():
                self.close_trial(number, evaluation)
            # With halving, the trials of another driver stay open until that driver sees that nothing is left to train.
            if not self.ledger.others_running():
                break
            time.sleep(self.ledger.poll_s or 0)
        self.run.journal.refresh_copy()
        if self.exhausted and self.done < self.settings.trials:
            self.narrate("every plan of the space was evaluated")
        elif self.barren is not None:
            self.narrate(
                f"no further plan is proposed: none of {MAX_DRAWN:,} that were drawn can be evaluated and keeps the "
                f"constraints{self.barren}; a wider constraint, or another space, has more plans"
            )

    # -- trials of the ledger ----------------------------------------------------------------------------------

    def adopt_new_trials(self) -> None:
        """Adopt the trials that earlier processes, or other drivers, have written since the last call."""
        if new := self.ledger.new_trials():
            self.retried = retried_numbers(self.ledger.trials())
            for trial in new:
                self.adopt_trial(trial)
        self.done = len(self.seen) - self.reused

    def adopt_trial(self, trial: FrozenTrial) -> None:
        """Adopt a trial that an earlier process, or another driver, has written."""
        if trial.state == TrialState.RUNNING and self.ledger.owns(trial):
            self.settle_trial(trial)
            trial = self.ledger.trial(trial.number)  # `settle_trial` may have ended it
        self.proposer.add(trial)
        # The plan of a record that readers leave out is evaluated again, except in a database, where its claim stands.
        shared = self.run.journal.is_shared
        evaluation = evaluation_of(trial) if shared else self.run.journal.evaluation(SEARCH, trial)
        if trial.state == TrialState.RUNNING:
            if "claim" in trial.user_attrs:  # a program other than nasbench creates trials without a claim
                self.seen.setdefault(trial.user_attrs["claim"], None)
                if not self.ledger.owns(trial):
                    self.follow_trial(trial)
        elif evaluation is not None:
            # when trials of a rung are ranked for promotion, trials that have ended are ranked too
            self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()), over=True)
            if trial.number not in self.retried:
                self.adopt_evaluation(trial, evaluation)
        elif is_void(trial):
            self.forget_trial(trial)

    def follow_trial(self, trial: FrozenTrial) -> None:
        """Adopt the rungs that another driver has trained of a trial so far."""
        rungs = trial.user_attrs.get("rungs", ())
        plan = Plan.of(trial.user_attrs["plan"])
        self.fidelity.follow(trial.number, plan, rungs, trial.user_attrs.get(PROMOTED))
        if rungs:
            self.proposer.note(trial.number, rungs=rungs)

    def forget_trial(self, trial: FrozenTrial) -> None:
        """Forget a trial whose claim was withdrawn or abandoned. An abandoned plan is claimed again."""
        self.fidelity.drop(trial.number)
        if is_abandoned(trial) and (failed := trial.user_attrs.get("retries")) is not None:
            if failed not in self.retried:  # a dead driver left the second attempt unevaluated
                self.failed[failed] = self.ledger.trial(failed)
            return
        key = trial.user_attrs["claim"]
        if self.seen.get(key) is not None or self.ledger.is_claimed(key):
            return
        # A claim beyond the budget was withdrawn, or a dead driver left the plan unevaluated.
        self.seen.pop(key, None)
        if is_abandoned(trial):
            self.left_rungs[key] = self.fidelity.left_to_others(trial.user_attrs.get("rungs", ()))
            self.first.appendleft(Plan.of(trial.user_attrs["plan"]))  # before any new plan

    def adopt_evaluation(self, trial: FrozenTrial, evaluation: Evaluation) -> None:
        """Adopt an evaluation. On resume, a failed one is tried again: the bare backbone's, and others on request."""
        # the bare backbone of an old run can be rejected because of a bound that it breaks; today it would be complete
        failed = evaluation.state == "failed" and self.settings.retry_failed
        again = self.resumes and (failed or (evaluation.is_bare and not evaluation.is_complete))
        if not again:
            self.add_known(trial, evaluation)
            return
        self.seen[evaluation.plan_hash] = trial  # the plan keeps its place in the budget
        self.failed[trial.number] = trial

    def settle_trial(self, trial: FrozenTrial) -> None:
        """Handle a running trial whose process died: close it, leave it waiting at a rung, or evaluate it again."""
        evaluation = evaluation_of(trial)  # written if the process died just before ending the trial
        if evaluation is None:
            evaluation = self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()))
        if evaluation is not None:
            self.ledger.close_trial(trial.number, evaluation)
        elif self.fidelity.is_waiting(trial.number):
            return
        elif "claim" in trial.user_attrs:
            self.unfinished.append(trial)
        else:  # its plan is not known, because a program other than nasbench created the trial
            self.ledger.end_trial(trial.number, TrialState.FAIL)

    def add_known(self, trial: FrozenTrial, evaluation: Evaluation) -> None:
        """Add a recorded evaluation: to the plans that were seen, to the used budget and to the front."""
        self.seen[evaluation.plan_hash] = trial
        self.reused += bool(evaluation.reused_from)  # imported evaluations do not count towards the budget
        self.done = len(self.seen) - self.reused
        if evaluation.is_complete and not evaluation.is_bare:
            self.front = self.front_with(trial.number, trial.values)
        if evaluation.is_bare:
            self.bare = evaluation.record
            if not evaluation.is_complete:
                ended = "failed" if evaluation.state == "failed" else "was rejected"
                raise InputError(
                    f"the bare backbone itself {ended}, so there is nothing to compare with: {evaluation.reason}"
                    + ("; the same search tries it again" if evaluation.state == "failed" else "")
                )
            # It is set before any other plan is evaluated, because it must not depend on the results of the search.
            self.run.journal.record_reference(reference_point(evaluation.values, self.directions))

    def front_with(self, number: int, values: Sequence[float]) -> dict[int, Sequence[float]]:
        """Return the front after one more trial. The bare backbone is excluded, as in `explored_front`."""
        points = {**self.front, number: values}
        undominated = non_dominated(np.array(list(points.values()), dtype=float), list(self.directions.values()))
        return {trial: points[trial] for trial, on_front in zip(points, undominated, strict=True) if on_front}

    def hear(self, number: int, pace: Pace) -> None:
        """Report the pace of a training. From the first steps of the bare backbone, the time of the search follows."""
        if self.bare is not None or self.estimated:
            super().hear(number, pace)
            return
        self.estimated = True
        told = outlook(self.problem, Done(), pace.training_s, self.engine.capacity)
        self.listen(
            Event(BEFORE, 0, 0, item("time", f"{told} (from its first {pace.steps} steps, without validation)"))
        )

    @property
    def exhausted(self) -> bool:
        """Whether every plan of the space and the bare backbone were claimed."""
        return len(self.seen) >= self.space.count + (BARE not in self.space)

    @property
    def waits(self) -> bool:  # type: ignore[override]  # depends on what it evaluates
        """Whether to wait for other drivers. In `run_bare`, wait only until the bare backbone is evaluated."""
        return not self.only_bare or self.bare is None

    # -- proposals ---------------------------------------------------------------------------------------------

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next trial: an unfinished one, a failed one to try again, a promoted one, or a new proposal.

        None if there is no trial to start now. If the bare backbone has no result yet, it is the next proposal.
        """
        while True:
            self.adopt_new_trials()
            if self.only_bare and self.bare is not None:
                return None
            if self.unfinished:
                return self.resume_trial(self.unfinished.popleft())
            if (failed := self.next_failed()) is not None:
                if (again := self.retry_trial(failed)) is not None:
                    return again
                continue  # another driver was faster
            if self.bare is None and BARE.hash in self.seen:
                # The bare backbone is being evaluated. No other plan can start, because relative bounds need its
                # values.
                return None
            over = self.bare is not None and (
                self.done >= self.settings.trials or self.exhausted or self.barren is not None or self.late
            )
            if (step := self.fidelity.promote(finish=over)) is not None:
                if self.run.journal.is_shared:  # so that other drivers see that the trial is being trained
                    self.ledger.annotate_trial(step.number, **{PROMOTED: step.epochs})
                return step.number, self.request(step)
            if over:
                return None
            # None if another driver claimed the plan first, or if the trial of a dead driver now waits at a rung. Then
            # try again.
            if (claimed := self.propose()) is not None:
                return claimed

    def resume_trial(self, trial: FrozenTrial) -> tuple[int, Request]:
        """Evaluate a trial again, because its process died."""
        # Starts are counted. A trial that kills its process is evaluated in another process next time (see the driver).
        self.ledger.annotate_trial(trial.number, attempts=trial.user_attrs.get("attempts", 1) + 1)
        return trial.number, self.request(self.fidelity.start(trial.number, Plan.of(trial.user_attrs["plan"])))

    def next_failed(self) -> FrozenTrial | None:
        """Return the next failed trial to try again, the bare backbone first. None if there is none."""
        if self.bare is None:
            plans = {number: trial.user_attrs["claim"] for number, trial in self.failed.items()}
            number = next((number for number, plan_hash in plans.items() if plan_hash == BARE.hash), None)
        else:
            number = None if self.late else next(iter(self.failed), None)
        return None if number is None else self.failed.pop(number)

    def retry_trial(self, trial: FrozenTrial) -> tuple[int, Request] | None:
        """Start a new trial for the plan of a failed one. Return None if another driver has claimed it first."""
        plan = Plan.of(trial.user_attrs["plan"])
        proposal = self.proposer.fixed(self.space.params(plan))
        number = self.ledger.retry_trial(trial, proposal)
        if number is not None:
            self.narrate(f"trial {trial.number} failed and is tried again, as trial {number}")
        return self.started(plan, proposal, number)

    def propose(self) -> tuple[int, Request] | None:
        """Propose a new plan and claim it. Return None if another driver has claimed it first, or if none was found."""
        if self.bare is None:
            return self.claim_trial(BARE, self.proposer.fixed(self.space.params(BARE)))
        while self.first:
            if (plan := self.first.popleft()).hash not in self.seen:
                return self.claim_trial(plan, self.proposer.fixed(self.space.params(plan)))
        other, refused = None, 0  # a plan that keeps the constraints, once one was needed, and how often it was
        for _ in range(MAX_REPEATS):
            asked = self.proposer.ask(self.ledger.count)
            plan = self.space.plan(asked.params)
            if plan.hash not in self.seen and plan in self.space:
                if self.knowledge.allowed(plan):
                    return self.claim_trial(plan, asked)
                other = self.unseen() if other is None else other
                if other is None:
                    return self.claim_refused(plan, asked)
                refused += 1
            self.record_repeat(plan, asked)
            if refused == MAX_REFUSED:
                break
        # A model-based sampler can propose its optimum, or refused plans, again and again. So another plan is drawn.
        if (unseen := self.unseen()) is None:
            drawn = self.space.sample_unseen(self.draw(), self.seen.keys())
            assert drawn is not None, "asked of an exhausted space"
            return self.claim_refused(drawn, self.proposer.fixed(self.space.params(drawn)))
        return self.claim_trial(unseen, self.proposer.fixed(self.space.params(unseen)))

    def draw(self) -> random.Random:
        """Return the random stream of the next trial, so that a resumed search draws the same plan."""
        return random.Random(f"{self.settings.seed}-{self.ledger.count}")

    def unseen(self) -> Plan | None:
        """Draw a plan uniformly from those that were not seen and break no known constraint. None if none was found."""
        evaluated = (Plan.of(trial.user_attrs["plan"]) for trial in self.ledger.trials() if "plan" in trial.user_attrs)
        return self.knowledge.unseen(self.seen.keys(), self.draw(), evaluated)

    def claim_refused(self, plan: Plan, proposal: FrozenTrial) -> tuple[int, Request] | None:
        """Claim a plan that breaks a constraint, because no other plan was found, or end the proposals.

        If the space can be listed, no other plan is left. Then the remaining plans are recorded with their reasons. In
        a larger space, they would use up the budget.
        """
        if self.knowledge.listed is not None:
            return self.claim_trial(plan, proposal)
        self.proposer.drop(proposal)
        try:
            self.problem.evaluator.known(plan)
            self.barren = ""
        except (Exception, SystemExit) as error:  # the code of a module, or a user's function, can raise any error
            reason = error.reason if isinstance(error, EvaluationError) else describe_error(error)
            self.barren = f" ({plan.typed}: {reason})"
        return None

    def claim_trial(self, plan: Plan, proposal: FrozenTrial) -> tuple[int, Request] | None:
        """Claim a plan and return its request. None if another driver claimed it first, or it waits for a promotion."""
        rungs = self.left_rungs.get(plan.hash, ())
        attrs = {"plan": plan.text} | ({"rungs": rungs} if rungs else {})
        return self.started(plan, proposal, self.ledger.claim_trial(plan.hash, attrs, proposal), rungs)

    def started(
        self, plan: Plan, proposal: FrozenTrial, number: int | None, rungs: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[int, Request] | None:
        """Return the request of a claimed trial, or None if the claim failed or the plan waits for a promotion."""
        if number is None:
            self.proposer.drop(proposal)
            return None
        self.proposer.settle(proposal, number)
        self.seen[plan.hash] = None
        self.done = len(self.seen) - self.reused
        if not rungs:
            return number, self.request(self.fidelity.start(number, plan))
        self.proposer.note(number, rungs=rungs)
        if (result := self.fidelity.restore(number, rungs)) is not None:
            self.close_trial(number, result)
        return None

    def record_repeat(self, plan: Plan, proposal: FrozenTrial) -> None:
        """Record a proposal that was made before, or that the space excludes, so that the sampler learns from it."""
        # a repeated proposal gets the values of the plan's first trial: for the sampler, it is a second observation of
        # the plan
        known = self.seen.get(plan.hash)
        state, values = (TrialState.FAIL, None) if known is None else (known.state, known.values)
        self.add_finished(state, {"repeats": plan.hash}, proposal, values)

    def add_finished(
        self, state: TrialState, attrs: Mapping[str, Any], proposal: FrozenTrial, values: Sequence[float] | None
    ) -> int:
        """Write a finished trial that needs no evaluation. Return its number."""
        number = self.ledger.add_trial(state, attrs, proposal, values, durable=False)
        self.proposer.settle(proposal, number)
        self.proposer.end(number, state, values, attrs)
        return number

    def request(self, step: Step) -> Request:
        """Return the request for one training. The trained weights are requested only at the full budget."""
        bare = None if self.bare is None else self.bare.values
        plan_hash = Plan.of(step.plan).hash
        return Request(step.plan, plan_hash, self.settings.seed, bare, step.epochs, step.before, step.is_full)

    def others_busy(self) -> bool:
        """Whether to wait for other drivers. Not if all their trials only wait at a rung and none can be promoted."""
        return super().others_busy() and not self.fidelity.is_settled

    # -- evaluations -------------------------------------------------------------------------------------------

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Record an evaluation: first write its items and weights, then the ledger, then the views."""
        # In this order a kill does no harm: every trial that has ended in the ledger has its files, and views can be
        # rebuilt.
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
        """End a trial in the ledger, then update the sampler's copy, the views and the stored weights."""
        if not self.ledger.close_trial(number, evaluation):
            # other drivers considered this driver dead, because it did not write its heartbeat for too long
            self.narrate(f"trial {number} was taken over by another process")
            return
        trial = self.ledger.trial(number)
        self.proposer.end(number, trial.state, trial.values, trial.user_attrs)
        evaluation = replace(evaluation, number=number)
        self.run.append_trial(evaluation)
        self.add_known(trial, evaluation)
        if evaluation.weights is not None and self.settings.keep == "front":
            # The new plan can dominate plans whose weights were stored. These weights are removed.
            further = self.run.journal.evaluations(FINALISTS)  # not empty in a resumed search
            raced = {evaluation.number for evaluation in further if evaluation.number is not None}
            bare = self.seen[BARE.hash]
            self.run.folder.remove_weights(but=[*self.front, *raced, *([] if bare is None else [bare.number])])
        self.narrate(evaluation_line(number, evaluation, self.directions), evaluation)

    def keeps(self, number: int, evaluation: Evaluation) -> bool:
        """Whether to store the weights of an evaluation: of every plan, or only of the bare backbone and the front."""
        if self.settings.keep == "all" or evaluation.is_bare:
            return True
        values = evaluation.objectives(self.directions)
        return values is not None and number in self.front_with(number, values)

    def import_evaluations(self, reusable: Iterable[Reusable]) -> None:
        """Import the evaluations of another run as finished trials, one for each plan."""
        # only evaluations with the first seed, because later phases import those with further seeds
        new = [
            reused
            for reused in reusable
            if reused.evaluation.seed == self.settings.seed and reused.evaluation.plan_hash not in self.seen
        ]
        with self.ledger.atomically():  # so that all trials are written to the disk at once
            for reused in new:
                evaluation = reused.evaluation
                attrs = {"plan": evaluation.plan, "claim": evaluation.plan_hash, "evaluation": evaluation.to_dict()}
                proposal = self.proposer.fixed(self.space.params(Plan.of(evaluation.plan)))
                values = evaluation.objectives(self.directions)
                number = self.add_finished(TrialState.COMPLETE, attrs, proposal, values)
                self.run.folder.save_items(evaluation.plan_hash, evaluation.seed, reused.items)
                if (weights := reused.weights) is not None and self.keeps(number, evaluation):
                    self.run.folder.save_weights(number, weights)
                self.add_known(self.ledger.trial(number), evaluation)
        if new:
            self.run.refresh()
            self.narrate(f"{len(new)} evaluations imported from {new[0].run.path}")
