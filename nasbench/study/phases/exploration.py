"""The first phase of a search: propose a plan, have it evaluated, record it, until the budget is spent.

The budget counts distinct plans. A repeated plan is not evaluated again and does not count. After 20 repeats in a row
the next plan is drawn uniformly from the plans not yet evaluated. The phase also ends if every plan of the space was
evaluated. Each proposal gets a new sampler, seeded by (seed, trial number). A search with one worker that is killed and
resumed therefore proposes the same plans as an uninterrupted one.

With successive halving (`fidelity`), promoted plans are trained before new ones. A trial stays open between its rungs.
When no plan is left to promote, the trials that were not promoted are closed.
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
from nasbench.runs.ledger import PROMOTED, evaluation_of, is_abandoned, is_void, retried_numbers
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS, SEARCH
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
"""Number of repeated proposals in a row after which the next plan is drawn from the plans not yet evaluated."""


class Exploration(Phase):
    """The phase that searches the space.

    Args:
        run: The run.
        problem: The problem of the search.
        engine: Evaluates the requests.
        listen: Called with an event after every step.
        sampler: Creates the sampler of one proposal from the number of its trial.
        first: Plans that are evaluated first, with any sampler.
        fidelity: Strategy for the length of trainings. By default every plan is trained with the full budget.
        began: As in `Phase`.
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
        began: float | None = None,
    ) -> None:
        super().__init__(run, problem, engine, listen, began=began)
        self.space, self.directions = problem.space, problem.directions
        self.proposer = Proposer(self.space.parameters, list(self.directions.values()), sampler)
        self.seen: dict[str, FrozenTrial | None] = {}  # every claimed plan by hash, None while it is being evaluated
        self.first = deque(first)
        self.unfinished: deque[FrozenTrial] = deque()  # trials whose process died and which must be evaluated again
        self.front: dict[int, Sequence[float]] = {}  # number and objectives of the best plans
        self.failed: dict[int, FrozenTrial] = {}  # trials of earlier processes to try again, by number
        self.retried: set[int] = set()  # numbers of failed trials that have a second attempt
        self.resumes = False  # whether trials of earlier processes are being adopted
        self.bare: Evaluation | None = None
        self.fidelity = FullBudget() if fidelity is None else fidelity
        self.left_rungs: dict[str, list[Mapping[str, Any]]] = {}  # plan hash -> what a dead driver has trained of it
        self.reused = 0
        self.only_bare = False

    def run_bare(self) -> None:
        """Adopt the trials of earlier processes. If none of them is the bare backbone, evaluate the bare backbone."""
        self.ledger.budget = self.settings.trials
        self.resumes = True
        self.adopt_new_trials()
        self.resumes = False
        self.run.refresh()  # views can lack the last trial of a process that was killed
        if self.settings.reuse is not None:
            self.import_evaluations(find_reusable(self.settings.reuse, self.problem).values())
        self.only_bare = True
        self.work()
        self.only_bare = False

    def run_all(self) -> None:
        """Search until the budget is spent or the space is exhausted. `run_bare` comes first."""
        while True:
            self.work()
            for number, evaluation in self.fidelity.stopped():
                self.close_trial(number, evaluation)
            # with halving, the trials of other drivers stay open until these drivers see as well that all is trained
            if not self.ledger.others_running():
                break
            time.sleep(self.ledger.poll_s or 0)
        self.run.journal.refresh_copy()
        if self.exhausted and self.done < self.settings.trials:
            self.narrate("every plan of the space was evaluated")

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
            trial = self.ledger.trial(trial.number)  # it has possibly ended since
        self.proposer.add(trial)
        evaluation = evaluation_of(trial)
        if trial.state == TrialState.RUNNING:
            if "claim" in trial.user_attrs:  # a trial without a claim was created by a program other than nasbench
                self.seen.setdefault(trial.user_attrs["claim"], None)
                if not self.ledger.owns(trial):
                    self.follow_trial(trial)
        elif evaluation is not None:
            # a trial that has ended still counts when the trials of its rungs are ranked for promotion
            self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()), over=True)
            if trial.number not in self.retried:
                self.adopt_evaluation(trial, evaluation)
        elif is_void(trial):
            self.forget_trial(trial)

    def follow_trial(self, trial: FrozenTrial) -> None:
        """Adopt what another driver has trained of a trial so far."""
        rungs = trial.user_attrs.get("rungs", ())
        plan = Plan.of(trial.user_attrs["plan"])
        self.fidelity.follow(trial.number, plan, rungs, trial.user_attrs.get(PROMOTED))
        if rungs:
            self.proposer.note(trial.number, rungs=rungs)

    def forget_trial(self, trial: FrozenTrial) -> None:
        """Forget a trial whose claim was withdrawn or abandoned. Propose an abandoned plan again."""
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
        """Adopt an evaluation. On resume, a failed one is tried again: the bare backbone's, or all if requested."""
        again = self.resumes and evaluation.state == "failed" and (evaluation.is_bare or self.settings.retry_failed)
        if not again:
            self.add_known(trial, evaluation)
            return
        self.seen[evaluation.plan_hash] = trial  # it has its place in the budget
        self.failed[trial.number] = trial

    def settle_trial(self, trial: FrozenTrial) -> None:
        """Handle a running trial whose process died: close it, leave it waiting at a rung, or evaluate it again."""
        evaluation = evaluation_of(trial)  # exists if the process died between writing it and ending the trial
        if evaluation is None:
            evaluation = self.fidelity.restore(trial.number, trial.user_attrs.get("rungs", ()))
        if evaluation is not None:
            self.ledger.close_trial(trial.number, evaluation)
        elif self.fidelity.is_waiting(trial.number):
            return
        elif "claim" in trial.user_attrs:
            self.unfinished.append(trial)
        else:  # a program other than nasbench created the trial, so its plan is not known
            self.ledger.end_trial(trial.number, TrialState.FAIL)

    def add_known(self, trial: FrozenTrial, evaluation: Evaluation) -> None:
        """Add an evaluation of the ledger to the plans seen, the budget used and the front."""
        self.seen[evaluation.plan_hash] = trial
        self.reused += bool(evaluation.reused_from)  # imported evaluations do not count towards the budget
        self.done = len(self.seen) - self.reused
        if evaluation.is_complete and not evaluation.is_bare:
            self.front = self.front_with(trial.number, trial.values)
        if evaluation.is_bare:
            self.bare = evaluation.record
            if not evaluation.is_complete:
                raise InputError(
                    f"the bare backbone itself {evaluation.state}, so there is nothing to compare with: "
                    f"{evaluation.reason}"
                    + ("; the same search tries it again" if evaluation.state == "failed" else "")
                )
            # set before any other plan is evaluated, because the reference point must not depend on the results of the
            # search
            self.run.journal.record_reference(reference_point(evaluation.values, self.directions))

    def front_with(self, number: int, values: Sequence[float]) -> dict[int, Sequence[float]]:
        """Return the front after one more trial. The bare backbone is excluded, as in `explored_front`."""
        points = {**self.front, number: values}
        undominated = non_dominated(np.array(list(points.values()), dtype=float), list(self.directions.values()))
        return {trial: points[trial] for trial, on_front in zip(points, undominated, strict=True) if on_front}

    @property
    def exhausted(self) -> bool:
        """Whether every plan of the space, and the bare backbone, was claimed."""
        return len(self.seen) >= self.space.count + (BARE not in self.space)

    @property
    def waits(self) -> bool:  # type: ignore[override]  # depends on what it evaluates
        """Whether to wait for other drivers. While the bare backbone is not evaluated, wait only for its evaluation."""
        return not self.only_bare or self.bare is None

    # -- proposals ---------------------------------------------------------------------------------------------

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next trial: an unfinished trial, the bare backbone, a promoted trial, or else a new proposal."""
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
                # The bare backbone is being evaluated. Relative bounds of all other plans need its values.
                return None
            over = self.bare is not None and (self.done >= self.settings.trials or self.exhausted or self.late)
            if (step := self.fidelity.promote(finish=over)) is not None:
                if self.run.journal.is_shared:  # so that other drivers see that it is being trained
                    self.ledger.annotate_trial(step.number, **{PROMOTED: step.epochs})
                return step.number, self.request(step)
            if over:
                return None
            # It is None if another driver was faster, or if a dead driver's trial now waits at a rung. Then look again.
            if (claimed := self.propose()) is not None:
                return claimed

    def resume_trial(self, trial: FrozenTrial) -> tuple[int, Request]:
        """Start a trial again whose process died."""
        # starts are counted, so that the driver can move a trial that kills its process into another process
        self.ledger.annotate_trial(trial.number, attempts=trial.user_attrs.get("attempts", 1) + 1)
        return trial.number, self.request(self.fidelity.start(trial.number, Plan.of(trial.user_attrs["plan"])))

    def next_failed(self) -> FrozenTrial | None:
        """Return the next failed trial to try again. The bare backbone comes before all others."""
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
        """Propose a new plan and claim it. Return None if another driver has claimed it first."""
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
        # a model-based sampler can propose its optimum again and again, so the plan is drawn from the unseen plans
        draw = random.Random(f"{self.settings.seed}-{self.ledger.count}")  # the same draw in a resumed search
        unseen = self.space.sample_unseen(draw, self.seen.keys())
        assert unseen is not None, "asked of an exhausted space"
        return self.claim_trial(unseen, self.proposer.fixed(self.space.params(unseen)))

    def claim_trial(self, plan: Plan, proposal: FrozenTrial) -> tuple[int, Request] | None:
        """Claim a plan. Return None if another driver has claimed it first, or if it waits for a promotion."""
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
        """Record a repeated proposal, or a proposal that the space excludes, so that the sampler learns from it."""
        # it gets the values of the plan's first trial, so for the sampler it is a second observation of this plan
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
        """Return the request for one training. Weights are requested only for the full budget."""
        bare = None if self.bare is None else self.bare.values
        plan_hash = Plan.of(step.plan).hash
        return Request(step.plan, plan_hash, self.settings.seed, bare, step.epochs, step.before, step.is_full)

    def others_busy(self) -> bool:
        """Whether to wait for other drivers. Trials that wait at a rung for a promotion need no waiting."""
        return super().others_busy() and not self.fidelity.is_settled

    # -- evaluations -------------------------------------------------------------------------------------------

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Record an evaluation: first its items and weights, then the ledger, then the views."""
        # With this order a kill does no harm: a trial that has ended in the ledger has its files, and views can be
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
            # this driver wrote no heartbeat for so long that other drivers considered it dead
            self.narrate(f"trial {number} was taken over by another process")
            return
        trial = self.ledger.trial(number)
        self.proposer.end(number, trial.state, trial.values, trial.user_attrs)
        self.run.append_trial(replace(evaluation, number=number))
        self.add_known(trial, evaluation)
        if evaluation.weights is not None and self.settings.keep == "front":
            # the new plan can dominate plans whose weights were stored
            further = self.run.journal.evaluations(FINALISTS)  # a resumed search has such evaluations
            raced = {evaluation.number for evaluation in further if evaluation.number is not None}
            bare = self.seen[BARE.hash]
            self.run.folder.remove_weights(but=[*self.front, *raced, *([] if bare is None else [bare.number])])
        self.narrate(evaluation_line(number, evaluation, self.directions))

    def keeps(self, number: int, evaluation: Evaluation) -> bool:
        """Whether to store the weights of an evaluation: of all plans, or of the bare backbone and the front only."""
        if self.settings.keep == "all" or evaluation.is_bare:
            return True
        values = evaluation.objectives(self.directions)
        return values is not None and number in self.front_with(number, values)

    def import_evaluations(self, reusable: Iterable[Reusable]) -> None:
        """Import evaluations of another run as finished trials, one for each plan."""
        # only evaluations with the first seed, because the second phase imports those with further seeds
        new = [
            reused
            for reused in reusable
            if reused.evaluation.seed == self.settings.seed and reused.evaluation.plan_hash not in self.seen
        ]
        with self.ledger.atomically():  # so that the disk is written only once
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
