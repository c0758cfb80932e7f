"""The base class of the phases that evaluate known plans with further seeds, and those phases that work from a list.

A claim in these phases is on a plan and a seed. It contains everything that is needed to evaluate the plan, and the
reason for this training. So any driver can continue the phase from the ledger alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nasbench.library.plan import Plan
from nasbench.library.surroundings import surroundings_kept
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import evaluation_of, is_abandoned, standing
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.runs.trainings import RunTrainings, trainings_of
from nasbench.study.evaluators.base import Request
from nasbench.study.phases.phase import Phase, evaluation_line
from nasbench.study.phases.reuse import Reusable, find_reusable

__all__ = ["FurtherSeeds", "ListedSeeds", "Retries", "Wanted", "explored", "repeats_of"]


@dataclass(frozen=True)
class Wanted:
    """A plan to evaluate with a further seed.

    Attributes:
        number: Number of the plan's trial in the search.
        plan: The plan's canonical text.
        plan_hash: The hash of the plan.
        seed: The seed.
        reason: The reason for this training. "" if the training was listed and not chosen by the race.
    """

    number: int
    plan: str
    plan_hash: str
    seed: int
    reason: str = ""

    @classmethod
    def of(cls, evaluation: Evaluation, seed: int, reason: str = "") -> Wanted:
        """Return the request to evaluate a plan with a seed. The plan is given by its evaluation in the search."""
        assert evaluation.number is not None
        return cls(evaluation.number, evaluation.plan, evaluation.plan_hash, seed, reason)

    @property
    def key(self) -> str:
        """The key of the claim: plan and seed."""
        return f"{self.plan_hash}:{self.seed}"

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes that are written with the claim."""
        # "wanted" has every field, so that another driver can continue the trial from the claim alone
        return {"plan": self.plan, "number": self.number, "reason": self.reason, "wanted": asdict(self)}


class FurtherSeeds(Phase):
    """Base class of phases that evaluate plans with further seeds."""

    stage, title = FINALISTS, "seeds"

    noun = ""
    """Text that begins the messages about an evaluation of this phase, such as "control, "."""

    checks_costs = True
    """Whether to compare the costs of each plan's complete model with the sum of the costs of its parts."""

    keeps_weights = True
    """Whether to store the weights of a plan whose weights are not stored yet."""

    @abstractmethod
    def next_wanted(self) -> Wanted | None:
        """Return the next plan and seed to evaluate. None if there is nothing to start now."""

    def begin(self) -> None:
        """End the trials that an earlier process left running, or list them to be evaluated again."""
        self.unfinished: deque[FrozenTrial] = deque()
        for trial in self.ledger.new_trials():
            if trial.state == TrialState.RUNNING and self.ledger.owns(trial):
                if (evaluation := evaluation_of(trial)) is not None:
                    # the process died after writing the evaluation and before ending the trial
                    self.ledger.close_trial(trial.number, evaluation)
                else:
                    self.unfinished.append(trial)
        self.numbers: dict[int, int] = {}  # trial number in this study -> number of the plan's trial in the search

    @cached_property
    def bare(self) -> Evaluation:
        """The bare backbone's evaluation in the search."""
        return next(one for one in explored(self.run.journal.evaluations(SEARCH)) if one.is_bare)

    def trainings(self) -> RunTrainings:
        """Return all trainings of the run, including those that other machines made."""
        if self.run.journal.is_shared:
            self.run.journal.fetch_items()
        return trainings_of(self.run)

    # -- the ledger --------------------------------------------------------------------------------------------

    def claims(self) -> dict[str, FrozenTrial]:
        """Return the valid claims, by their keys of plan and seed."""
        return standing(self.ledger.trials())

    def abandoned(self, claims: Mapping[str, FrozenTrial]) -> dict[str, Wanted]:
        """Return the trainings that dead drivers did not finish and that nobody has claimed since, by key."""
        return {
            trial.user_attrs["claim"]: Wanted(**trial.user_attrs["wanted"])
            for trial in self.ledger.trials()
            if is_abandoned(trial) and trial.user_attrs["claim"] not in claims
        }

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next trial: this driver's unfinished one, a dead driver's, or the next wanted training."""
        self.ledger.new_trials()  # this writes the heartbeat and finds dead drivers
        if self.unfinished:
            trial = self.unfinished.popleft()
            # Starts are counted. A trial that kills its process is evaluated in another process next time (see the
            # driver).
            self.ledger.annotate_trial(trial.number, attempts=trial.user_attrs.get("attempts", 1) + 1)
            return self.started(trial.number, Wanted(**trial.user_attrs["wanted"]))
        while not self.late:
            left = self.abandoned(self.claims())
            wanted = next(iter(left.values()), None) or self.next_wanted()
            if wanted is None:
                return None
            number = self.ledger.claim_trial(wanted.key, wanted.attrs)
            if number is None:
                continue  # another driver was faster
            if (known := self.reusable.get((wanted.plan_hash, wanted.seed))) is None:
                return self.started(number, wanted)
            self.import_evaluation(number, wanted, known)
        return None

    def started(self, number: int, wanted: Wanted) -> tuple[int, Request]:
        """Return a claimed trial with its request."""
        self.numbers[number] = wanted.number
        if self.checks_costs:
            self.check_costs(Plan.of(wanted.plan))
        # with halving, a function that takes `epochs` gets the full budget, as in the search
        epochs = self.problem.evaluator.full_epochs if self.settings.halving else None
        # A plan that was not on the front after one seed can still be called BETTER, and the report tests every
        # compared plan.
        weights = self.keeps_weights and wanted.number not in self.run.folder.stored_weights
        return number, Request(
            wanted.plan, wanted.plan_hash, wanted.seed, self.bare.values, epochs, weights=weights, accepted=True
        )

    def record(self, number: int, evaluation: Evaluation) -> None:
        """Record the evaluation of one further seed."""
        # items are written first, as in the search, so that every evaluation in the ledger has its items
        self.save_items(evaluation)
        if evaluation.weights is not None:
            self.run.folder.save_weights(self.numbers[number], evaluation.weights)
        evaluation = replace(evaluation, number=self.numbers[number])
        if self.ledger.close_trial(number, evaluation):
            self.append_trial(evaluation)
        self.done += 1
        self.report(evaluation)

    def called(self, number: int) -> str:
        """Return the name of a training in messages, with the number of the plan's trial in the search."""
        return f"{self.noun}trial {self.numbers[number]}"

    def report(self, evaluation: Evaluation) -> None:
        """Report the evaluation of one further seed to the user."""
        assert evaluation.number is not None
        line = evaluation_line(evaluation.number, evaluation, self.problem.directions)
        self.narrate(f"{self.noun}seed {evaluation.seed}: {line}", evaluation)

    def append_trial(self, evaluation: Evaluation) -> None:
        """Add an evaluation to the trials table."""
        self.run.append_trial(evaluation)

    def check_costs(self, plan: Plan) -> None:
        """Record how the costs of a plan's complete model differ from the sum of the costs of its parts."""
        if plan.hash not in self.run.journal.cost_checks:
            with surroundings_kept():  # the model runs in this process
                error = self.problem.evaluator.cost_error(plan)
            if error is not None:
                self.run.journal.record_cost_checks({plan.hash: error})

    # -- evaluations of another run ----------------------------------------------------------------------------

    @cached_property
    def reusable(self) -> dict[tuple[str, int], Reusable]:
        """The evaluations of the run to reuse, by plan hash and seed."""
        return {} if self.settings.reuse is None else find_reusable(self.settings.reuse, self.problem)

    def import_evaluation(self, number: int, wanted: Wanted, known: Reusable) -> None:
        """Record an evaluation of another run as the evaluation of a claimed trial."""
        self.numbers[number] = wanted.number
        self.record(number, replace(known.evaluation, items=known.items))


class ListedSeeds(FurtherSeeds):
    """Base class of phases that evaluate a list of plans and seeds."""

    def work_through(self, wanted: Iterable[Wanted]) -> None:
        """Evaluate the listed plans and seeds that no driver has claimed yet."""
        claims = self.claims()
        self.todo = deque(one for one in wanted if one.key not in claims)
        self.done, self.total = 0, len(self.todo) + len(self.unfinished)
        self.work()

    def next_wanted(self) -> Wanted | None:
        """Return the next plan and seed of the list that no driver has claimed."""
        claims = self.claims()
        while self.todo:
            if (wanted := self.todo.popleft()).key not in claims:
                return wanted
        return None


class Retries(FurtherSeeds):
    """The phase that evaluates each failed trial of its study once more."""

    def run_all(self) -> None:
        """Evaluate the failed trials. A trial that fails again in this phase is not repeated."""
        self.begin()
        claims = self.claims().values()
        failed = [trial for trial in claims if (one := evaluation_of(trial)) is not None and one.state == "failed"]
        self.failed = deque(failed)
        self.done, self.total = 0, len(failed) + len(self.unfinished)
        self.work()

    def next_request(self) -> tuple[int, Request] | None:
        """Return the next trial: an unfinished one, or a failed one under a new number."""
        if self.unfinished or self.late:
            return super().next_request()
        while self.failed:
            trial = self.failed.popleft()
            if (number := self.ledger.retry_trial(trial)) is not None:
                return self.started(number, Wanted(**trial.user_attrs["wanted"]))
        return None

    def next_wanted(self) -> Wanted | None:
        """Return None, because this phase has no other trainings."""
        return None


def explored(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Return the complete evaluations of a search, one for each plan."""
    return [evaluation for evaluation in evaluations if evaluation.is_complete]


def repeats_of(run: Run) -> dict[Plan, list[dict[str, float]]]:
    """Return the values of the complete evaluations with further seeds, by plan."""
    repeats: dict[Plan, list[dict[str, float]]] = {}
    for evaluation in run.journal.evaluations(FINALISTS):
        if evaluation.is_complete:
            repeats.setdefault(Plan.of(evaluation.plan), []).append(evaluation.values)
    return repeats
