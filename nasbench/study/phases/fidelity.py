"""For how long the trials of a search are trained: each in full, or by successive halving.

A strategy knows where each trial stands, what to train next, and why the others stop. With halving, a trial's
evaluations at lower rungs are stored with it (`rungs` in the ledger), so that a resumed search continues from there.
The decisions are those of `nasbench.study.phases.ladder`.
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
    """One training to do.

    Attributes:
        number: The trial.
        plan: The plan's canonical text.
        epochs: How long; None for the full budget.
        before: What the rung below gave; None at a trial's first.
        is_full: Whether it is a training at the full budget.
    """

    number: int
    plan: str
    epochs: int | None = None
    before: Evaluation | None = None
    is_full: bool = True


class FullBudget:
    """Every plan is trained once, in full. What another strategy does more, this one answers with nothing."""

    def start(self, number: int, plan: Plan) -> Step:
        """Return the first training of a new trial."""
        return Step(number, plan.text)

    def restore(self, number: int, rungs: Sequence[Mapping[str, Any]], *, over: bool = False) -> Evaluation | None:
        """Adopt a trial that an earlier process trained at some rungs.

        Args:
            number: The trial.
            rungs: The evaluations at its rungs, lowest first, each as `Evaluation.to_dict`; none where there are no
                rungs.
            over: It has ended since: it is promoted no further, but others are held against it.

        Returns:
            Its result, where it needs no more training.
        """
        return None

    def is_waiting(self, number: int) -> bool:
        """Whether a trial waits at a rung: it is not to be evaluated again from the start."""
        return False

    def add(self, number: int, evaluation: Evaluation) -> Evaluation | None:
        """Add what came of a training; return the trial's result, None where it may be promoted yet."""
        return evaluation

    def promote(self, *, finish: bool = False) -> Step | None:
        """Return the next trial to train for longer; None where none may be.

        Args:
            finish: No new plan will come: at least one of each rung is promoted.
        """
        return None

    def stopped(self) -> list[tuple[int, Evaluation]]:
        """Return how each trial ends that is promoted no further: rejected, with the reason and its last result."""
        return []

    def rungs(self, number: int) -> list[Evaluation]:
        """Return what a trial has given so far, lowest rung first; nothing where there are no rungs."""
        return []

    def describe(self, number: int) -> str:
        """Return where a trial is, for narration: "rung 2 of 3 (9 of 27 epochs)"."""
        return "full budget"


@dataclass
class _Trial:
    """A trial on its way up.

    Attributes:
        plan: The plan's canonical text.
        rung: The highest it was sent to.
        evaluations: What came of each rung, by rung.
        over: Whether it has ended.
    """

    plan: str
    rung: int
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    over: bool = False


class SuccessiveHalving(FullBudget):
    """Every plan is trained briefly, and one in `eta` for longer.

    Args:
        ladder: The rungs.
        directions: The objectives, to "maximize" or "minimize".
        identity_init: Whether modules stand behind gates that start closed.
    """

    def __init__(self, ladder: Ladder, directions: Mapping[str, str], *, identity_init: bool) -> None:
        self.ladder, self._directions, self._identity_init = ladder, dict(directions), identity_init
        self._trials: dict[int, _Trial] = {}

    def start(self, number: int, plan: Plan) -> Step:
        """Send a new trial to its first rung."""
        rung = self.ladder.entry(plan, identity_init=self._identity_init)
        self._trials[number] = _Trial(plan.text, rung)
        return self._step(number, rung)

    def restore(self, number: int, rungs: Sequence[Mapping[str, Any]], *, over: bool = False) -> Evaluation | None:
        """Adopt a trial at its last rung; see `FullBudget.restore`."""
        if not rungs:
            return None
        found = [Evaluation(**rung) for rung in rungs]
        first = self.ladder.entry(Plan.of(found[0].plan), identity_init=self._identity_init)
        known = dict(enumerate(found, start=first))
        ended = over or max(known) == self.ladder.top or not found[-1].is_complete
        self._trials[number] = _Trial(found[0].plan, self.ladder.top if ended else max(known), known, ended)
        return self._result(number) if ended else None

    def is_waiting(self, number: int) -> bool:
        """Whether a trial waits at a rung."""
        return number in self._trials and not self._trials[number].over

    def add(self, number: int, evaluation: Evaluation) -> Evaluation | None:
        """Add what came of a rung; the trial is over once it is trained in full, rejected or failed."""
        trial = self._trials[number]
        trial.evaluations[trial.rung] = evaluation.record
        trial.over = not evaluation.is_complete or trial.rung == self.ladder.top
        if not trial.over:
            return None
        return replace(self._result(number), items=evaluation.items, weights=evaluation.weights)

    def promote(self, *, finish: bool = False) -> Step | None:
        """Send the next trial up; where a training may yet tell another, the last ones wait for it."""
        found = promotable(self._readings(), self.ladder, finish=finish and not self._is_busy)
        if found is None:
            return None
        number = int(found.plan)
        trial = self._trials[number]
        before, trial.rung = trial.evaluations[trial.rung], found.rung
        return self._step(number, found.rung, before)

    def stopped(self) -> list[tuple[int, Evaluation]]:
        """Return how each trial ends that is promoted no further."""
        reasons = {int(number): reason for number, reason in stops(self._readings(), self.ladder).items()}
        return [
            (number, replace(self._result(number), state="rejected", reason=reason))
            for number, reason in sorted(reasons.items())
        ]

    def rungs(self, number: int) -> list[Evaluation]:
        """Return what a trial has given so far, lowest rung first."""
        return [evaluation for _, evaluation in sorted(self._trials[number].evaluations.items())]

    def describe(self, number: int) -> str:
        """Return where a trial is."""
        return self.ladder.name(self._trials[number].rung)

    @property
    def _is_busy(self) -> bool:
        """Whether a trial is being trained."""
        return any(trial.rung not in trial.evaluations and not trial.over for trial in self._trials.values())

    def _step(self, number: int, rung: int, before: Evaluation | None = None) -> Step:
        epochs = self.ladder.epochs[rung]
        return Step(number, self._trials[number].plan, epochs, before, is_full=rung == self.ladder.top)

    def _result(self, number: int) -> Evaluation:
        """Return how a trial has ended: as its last rung, with the time of all."""
        found = self.rungs(number)
        wall_s, training_s = (sum(getattr(one, name) for one in found) for name in ("wall_s", "training_s"))
        return replace(found[-1], wall_s=wall_s, training_s=training_s)

    def _readings(self) -> list[Reading]:
        """Return every reading, called by the trial's number; the bare backbone is held against nobody."""
        return [
            Reading(str(number), rung, self._values(trial.evaluations.get(rung)))
            for number, trial in sorted(self._trials.items())
            for rung in sorted({*trial.evaluations, trial.rung})
            if not Plan.of(trial.plan).is_bare
        ]

    def _values(self, evaluation: Evaluation | None) -> tuple[float, ...] | None:
        """Return the objectives minimised, costs as logarithms; None where it runs or did not end well."""
        values = None if evaluation is None else evaluation.objectives(self._directions)
        if values is None:
            return None
        scaled = [
            np.log(value) if name in COSTS and value > 0 else value
            for name, value in zip(self._directions, values, strict=True)
        ]
        return tuple(float(v) for v in minimised(np.array(scaled), list(self._directions.values()))[0])


def strategy_for(problem: Problem) -> FullBudget:
    """Return how long a search trains its plans.

    Args:
        problem: What the settings stand for.

    Raises:
        InputError: If halving is asked for where nothing can be trained for less: a table, or a function that takes no
            `epochs`; or where several machines share the study, whose trials stay open between two rungs.
    """
    settings = problem.settings
    if not settings.halving:
        return FullBudget()
    if settings.storage is not None:
        raise InputError("halving is for a search of one machine; leave out halving, or storage")
    if problem.evaluator.full_epochs is None:
        raise InputError(
            "halving trains plans for fewer epochs first: a table holds one budget alone, and a function must take "
            "`epochs` and be given the full budget as training={'epochs': N}"
        )
    ladder = Ladder.of(
        problem.evaluator.full_epochs,
        minimum=settings.halving_epochs,
        eta=settings.halving,
        slow_minimum=settings.halving_slow_epochs,
    )
    return SuccessiveHalving(ladder, problem.directions, identity_init=problem.evaluator.identity_init)
