"""Strategies for the number of epochs of each trial: all trials at the full budget, or successive halving.

A strategy knows the rung of each trial, the trial to promote next, and the reason why a trial is not promoted further.
With halving, the evaluations of a trial at its rungs are stored with the trial (`rungs` in the ledger), so that a
resumed search continues from them. `nasbench.study.phases.ladder` makes the decisions.

If several drivers share a study, each of them ranks the trials of all drivers. A driver promotes only the trials that
it has claimed itself, so no rung is trained twice. Another driver can claim a trial of a dead driver, and continues
from its rungs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nasbench.errors import InputError
from nasbench.evidence.pareto import minimised
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.runs.evaluation import Evaluation
from nasbench.study.phases.ladder import Ladder, Reading, promotable, stops
from nasbench.study.problem import Problem

__all__ = ["FullBudget", "Step", "SuccessiveHalving", "strategy_for"]


@dataclass(frozen=True)
class Step:
    """One training to start.

    Attributes:
        number: Number of the trial.
        plan: The plan's canonical text.
        epochs: Number of epochs. None for the full budget.
        before: The evaluation of the trial at the rung below. None for the first training of a trial.
        is_full: Whether this is a training at the full budget.
    """

    number: int
    plan: str
    epochs: int | None = None
    before: Evaluation | None = None
    is_full: bool = True


class FullBudget:
    """The strategy that trains every plan once, with the full budget. Base class of other strategies."""

    def start(self, number: int, plan: Plan) -> Step:
        """Return the first training of a new trial."""
        return Step(number, plan.text)

    def restore(self, number: int, rungs: Sequence[Mapping[str, Any]], *, over: bool = False) -> Evaluation | None:
        """Adopt a trial that an earlier process trained at some rungs.

        Args:
            number: Number of the trial.
            rungs: The evaluations at its rungs, lowest rung first, each as `Evaluation.to_dict`. Empty if it has
                finished no rung.
            over: Whether the trial has ended. It is then not promoted, but it still takes part in the ranking of its
                rungs.

        Returns:
            The result of the trial if it has ended, otherwise None.
        """
        return None

    def follow(self, number: int, plan: Plan, rungs: Sequence[Mapping[str, Any]], epochs: int | None) -> None:
        """Adopt the state of a trial that another driver has claimed.

        Args:
            number: Number of the trial.
            plan: The plan of the trial.
            rungs: As in `restore`.
            epochs: Number of epochs of the rung to which the trial was promoted last. None if it was not promoted.
        """

    def drop(self, number: int) -> None:
        """Forget a trial whose claim is void."""

    def left_to_others(self, rungs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the rungs of a dead driver's trial with which another driver can continue."""
        return []

    @property
    def is_settled(self) -> bool:
        """Whether no driver is training a trial, and no driver can promote one. False for a strategy without rungs."""
        return False

    def is_waiting(self, number: int) -> bool:
        """Whether a trial waits at a rung for a promotion. Such a trial must not be started again at its first rung."""
        return False

    def add(self, number: int, evaluation: Evaluation) -> Evaluation | None:
        """Add the evaluation of one training. Return the trial's result, or None if it can still be promoted."""
        return evaluation

    def promote(self, *, finish: bool = False) -> Step | None:
        """Promote a trial and return its next training, or None if no trial can be promoted now.

        Args:
            finish: Whether no new plan will be started. At least one plan of each rung is then promoted.
        """
        return None

    def stopped(self) -> list[tuple[int, Evaluation]]:
        """Return the results of the trials that are not promoted further, as rejected, with reasons and last values."""
        return []

    def rungs(self, number: int) -> list[Evaluation]:
        """Return the evaluations of a trial at its finished rungs, lowest rung first. Empty without rungs."""
        return []

    def describe(self, number: int) -> str:
        """Return the rung of a trial as text for messages: "rung 2 of 3 (9 of 27 epochs)"."""
        return "full budget"


@dataclass
class _Trial:
    """A trial on the ladder.

    Attributes:
        plan: The plan's canonical text.
        rung: Index of the highest rung at which the trial was started. For a trial of an earlier process that has
            ended, the top rung, so that it is not promoted.
        evaluations: The evaluation of the trial at each finished rung, by index of the rung.
        over: Whether the trial has ended.
        own: Whether this driver has claimed the trial.
    """

    plan: str
    rung: int
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    over: bool = False
    own: bool = True


class SuccessiveHalving(FullBudget):
    """The strategy that trains every plan for few epochs, and promotes one in `eta` plans to the next rung.

    Args:
        ladder: The rungs.
        directions: The objectives, each to "maximize" or "minimize".
        identity_init: Whether each inserted module starts behind a gate with the value 0.
    """

    def __init__(self, ladder: Ladder, directions: Mapping[str, str], *, identity_init: bool) -> None:
        self.ladder, self._directions, self._identity_init = ladder, dict(directions), identity_init
        self._trials: dict[int, _Trial] = {}

    def start(self, number: int, plan: Plan) -> Step:
        """Start a new trial at its first rung."""
        rung = self.ladder.entry(plan, identity_init=self._identity_init)
        self._trials[number] = _Trial(plan.text, rung)
        return self._step(number, rung)

    def restore(self, number: int, rungs: Sequence[Mapping[str, Any]], *, over: bool = False) -> Evaluation | None:
        """Adopt a trial at its last rung. See `FullBudget.restore`."""
        if not rungs:
            self.drop(number)  # the trial may be known already, from another driver
            return None
        known = self._by_rung(rungs)
        evaluations = list(known.values())
        # A trial that has ended gets the top rung, so that `promotable` does not promote it again.
        ended = over or max(known) == self.ladder.top or not evaluations[-1].is_complete
        self._trials[number] = _Trial(evaluations[0].plan, self.ladder.top if ended else max(known), known, ended)
        return self._result(number) if ended else None

    def follow(self, number: int, plan: Plan, rungs: Sequence[Mapping[str, Any]], epochs: int | None) -> None:
        """Adopt the state of a trial that another driver has claimed. See `FullBudget.follow`."""
        known = self._by_rung(rungs)
        entry = self.ladder.entry(plan, identity_init=self._identity_init)
        sent = self.ladder.epochs.index(epochs) if epochs in self.ladder.epochs else entry
        self._trials[number] = _Trial(plan.text, max([sent, *known]), known, own=False)

    def drop(self, number: int) -> None:
        """Forget a trial whose claim is void."""
        self._trials.pop(number, None)

    def left_to_others(self, rungs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the rungs below the full budget. The items of a full training are on the dead driver's machine."""
        return [rung for rung in rungs if rung["fidelity"] < self.ladder.epochs[-1]]

    @property
    def is_settled(self) -> bool:
        """Whether no driver is training a trial, and no driver can promote one."""
        return not self._is_busy and not promotable(self._readings(), self.ladder, finish=True)

    def is_waiting(self, number: int) -> bool:
        """Whether a trial waits at a rung."""
        return number in self._trials and not self._trials[number].over

    def add(self, number: int, evaluation: Evaluation) -> Evaluation | None:
        """Add the evaluation of a trial at its rung. The trial ends at the top rung, and if it is rejected or fails."""
        if (trial := self._trials.get(number)) is None:  # another driver has taken over the trial
            return evaluation
        trial.evaluations[trial.rung] = evaluation.record  # without items and weights, which would fill the memory
        trial.over = not evaluation.is_complete or trial.rung == self.ladder.top
        if not trial.over:
            return None
        return replace(self._result(number), items=evaluation.items, weights=evaluation.weights)

    def promote(self, *, finish: bool = False) -> Step | None:
        """Promote the next trial. With `finish`, the forced promotions wait until no trial is being trained."""
        # With `finish`, one plan of each rung is promoted in any case. A plan that is still being trained may be
        # better, so the promotion waits for this plan.
        promotions = promotable(self._readings(), self.ladder, finish=finish and not self._is_busy)
        promotion = next((each for each in promotions if self._trials[int(each.plan)].own), None)
        if promotion is None:
            return None
        number = int(promotion.plan)
        trial = self._trials[number]
        before, trial.rung = trial.evaluations[trial.rung], promotion.rung
        return self._step(number, promotion.rung, before)

    def stopped(self) -> list[tuple[int, Evaluation]]:
        """Return the result of each trial that is not promoted further. See `FullBudget.stopped`."""
        reasons = {int(number): reason for number, reason in stops(self._readings(), self.ladder).items()}
        return [
            (number, replace(self._result(number), state="rejected", reason=reason))
            for number, reason in sorted(reasons.items())
            if self._trials[number].own and not self._trials[number].over
        ]

    def rungs(self, number: int) -> list[Evaluation]:
        """Return the evaluations of a trial so far, lowest rung first."""
        trial = self._trials.get(number)
        return [] if trial is None else [evaluation for _, evaluation in sorted(trial.evaluations.items())]

    def describe(self, number: int) -> str:
        """Return the rung of a trial as text."""
        return self.ladder.name(self._trials[number].rung)

    def _by_rung(self, rungs: Sequence[Mapping[str, Any]]) -> dict[int, Evaluation]:
        """Return stored evaluations by index of their rung."""
        if not rungs:
            return {}
        evaluations = [Evaluation(**rung) for rung in rungs]
        # the stored list begins at the first rung of the trial, whose index is not 0 for a plan that starts slowly
        first = self.ladder.entry(Plan.of(evaluations[0].plan), identity_init=self._identity_init)
        return dict(enumerate(evaluations, start=first))

    @property
    def _is_busy(self) -> bool:
        """Whether this or another driver is training a trial."""
        return any(trial.rung not in trial.evaluations and not trial.over for trial in self._trials.values())

    def _step(self, number: int, rung: int, before: Evaluation | None = None) -> Step:
        epochs = self.ladder.epochs[rung]
        return Step(number, self._trials[number].plan, epochs, before, is_full=rung == self.ladder.top)

    def _result(self, number: int) -> Evaluation:
        """Return the result of a trial: the evaluation at its last rung, with the summed times of all its rungs."""
        evaluations = self.rungs(number)
        wall_s, training_s = (sum(getattr(e, name) for e in evaluations) for name in ("wall_s", "training_s"))
        return replace(evaluations[-1], wall_s=wall_s, training_s=training_s)

    def _readings(self) -> list[Reading]:
        """Return the readings of all trials. The bare backbone is not ranked, so it has none."""
        # A trial also has a reading, without values, at the rung at which it is being trained. It shows that it was
        # promoted.
        return [
            Reading(str(number), rung, self._values(trial.evaluations.get(rung)))
            for number, trial in sorted(self._trials.items())
            for rung in sorted({*trial.evaluations, trial.rung})
            if not Plan.of(trial.plan).is_bare
        ]

    def _values(self, evaluation: Evaluation | None) -> tuple[float, ...] | None:
        """Return the objectives, all to be minimised and costs as logarithms. None without a complete evaluation."""
        values = None if evaluation is None else evaluation.objectives(self._directions)
        if values is None:
            return None
        # Costs differ by orders of magnitude. Without the logarithm, the most expensive plan would determine the
        # hypervolumes.
        scaled = [
            np.log(value) if name in COSTS and value > 0 else value
            for name, value in zip(self._directions, values, strict=True)
        ]
        return tuple(float(v) for v in minimised(np.array(scaled), list(self._directions.values()))[0])


def strategy_for(problem: Problem) -> FullBudget:
    """Return the strategy that chooses how many epochs each training of a search gets.

    Args:
        problem: The problem of the search.

    Raises:
        InputError: If halving is requested but shorter trainings are not possible. This is so for a table, and for a
            function without an argument `epochs`.
    """
    settings = problem.settings
    if not settings.halving:
        return FullBudget()
    if problem.evaluator.full_epochs is None:
        raise InputError(
            "halving first trains plans for fewer epochs; a table has only one number of epochs, and a function must "
            "have an argument `epochs`, with the full budget given as training={'epochs': N}"
        )
    ladder = Ladder.of(
        problem.evaluator.full_epochs,
        minimum=settings.halving_epochs,
        eta=settings.halving,
        slow_minimum=settings.halving_slow_epochs,
    )
    return SuccessiveHalving(ladder, problem.directions, identity_init=problem.evaluator.identity_init)
