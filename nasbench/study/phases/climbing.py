"""Successive halving of a search's trials: where each stands on the ladder, what to train next, why the others stop.

A trial's evaluations at lower rungs are kept beside it (`rungs` in the ledger), so that a resumed search goes on from
there. The decisions are `nasbench.study.phases.ladder`'s; this keeps the books.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nasbench.errors import InputError
from nasbench.evidence.pareto import minimised
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.runs.evaluation import Evaluation
from nasbench.study.evaluators.trained import CallableEvaluator, TrainingEvaluator
from nasbench.study.phases.ladder import Ladder, Reading, promotable, stops
from nasbench.study.problem import Prepared
from nasbench.tasks.recipe import Recipe

__all__ = ["Climb", "Step", "climb_for"]


@dataclass(frozen=True)
class Step:
    """One training to do.

    Attributes:
        number: The trial.
        plan: The plan's canonical text.
        epochs: How long; None for the full budget.
        before: What the rung below gave; None at a trial's first.
    """

    number: int
    plan: str
    epochs: int | None
    before: Evaluation | None = None


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


class Climb:
    """The trials of a search on a ladder.

    Args:
        ladder: The rungs.
        directions: The objectives, to "maximize" or "minimize".
        identity_init: Whether modules stand behind gates that start closed.
    """

    def __init__(self, ladder: Ladder, directions: Mapping[str, str], *, identity_init: bool) -> None:
        self.ladder, self._directions, self._identity_init = ladder, dict(directions), identity_init
        self._trials: dict[int, _Trial] = {}

    def begin(self, number: int, plan: Plan) -> Step:
        """Send a new trial to its first rung."""
        rung = self.ladder.entry(plan, identity_init=self._identity_init)
        self._trials[number] = _Trial(plan.text, rung)
        return Step(number, plan.text, self.ladder.epochs[rung])

    def restore(self, number: int, rungs: Iterable[Mapping[str, Any]], *, over: bool = False) -> bool:
        """Take up a trial that an earlier process trained at some rungs; it waits at the last of them.

        Args:
            number: The trial.
            rungs: The evaluations at its rungs, as `evaluations` gave them, each as `Evaluation.to_dict`.
            over: It has ended since; it goes no further, but others are held against it.

        Returns:
            Whether it is over, as `take_in`.
        """
        found = [Evaluation(**rung) for rung in rungs]
        first = self.ladder.entry(Plan.of(found[0].plan), identity_init=self._identity_init)
        known = dict(enumerate(found, start=first))
        ended = over or max(known) == self.ladder.top or found[-1].state != "complete"
        self._trials[number] = _Trial(found[0].plan, self.ladder.top if ended else max(known), known, ended)
        return ended

    def take_in(self, number: int, evaluation: Evaluation) -> bool:
        """Note what came of a step; return whether the trial is over: trained in full, rejected or failed."""
        trial = self._trials[number]
        trial.evaluations[trial.rung] = evaluation
        trial.over = evaluation.state != "complete" or trial.rung == self.ladder.top
        return trial.over

    @property
    def at_work(self) -> bool:
        """Whether a trial is being trained."""
        return any(trial.rung not in trial.evaluations and not trial.over for trial in self._trials.values())

    def outcome(self, number: int) -> Evaluation:
        """Return how a trial has ended: as its last rung, with the time of all."""
        found = self.evaluations(number)
        wall_s, training_s = (sum(getattr(one, name) for one in found) for name in ("wall_s", "training_s"))
        return replace(found[-1], wall_s=wall_s, training_s=training_s)

    def where(self, number: int) -> str:
        """Return where a trial is, for narration: "rung 2 of 3 (9 of 27 epochs)"."""
        return self.ladder.name(self._trials[number].rung)

    def evaluations(self, number: int) -> list[Evaluation]:
        """Return what a trial has given so far, lowest rung first."""
        return [evaluation for _, evaluation in sorted(self._trials[number].evaluations.items())]

    def promote(self, *, finish: bool = False) -> Step | None:
        """Send the next trial up; None where none may go.

        Args:
            finish: No new plan will come: at least one of each rung goes on.
        """
        found = promotable(self._readings(), self.ladder, finish=finish)
        if found is None:
            return None
        number = int(found.plan)
        trial = self._trials[number]
        before = trial.evaluations[trial.rung]
        trial.rung = found.rung
        return Step(number, trial.plan, self.ladder.epochs[found.rung], before)

    def stopped(self) -> list[tuple[int, Evaluation]]:
        """Return how each trial ends that goes no further: rejected, with the reason and what its last rung gave."""
        reasons = stops(self._readings(), self.ladder)
        found = {int(number): reason for number, reason in reasons.items()}
        return [
            (number, replace(self.outcome(number), state="rejected", reason=reason))
            for number, reason in sorted(found.items())
        ]

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
        if evaluation is None or evaluation.state != "complete":
            return None
        values = [float(evaluation.values[name]) for name in self._directions]
        scaled = [
            np.log(value) if name in COSTS and value > 0 else value
            for name, value in zip(self._directions, values, strict=True)
        ]
        return tuple(float(v) for v in minimised(np.array(scaled), list(self._directions.values()))[0])


def climb_for(prepared: Prepared) -> Climb | None:
    """Return the climb of a search; None where every plan is trained in full.

    Args:
        prepared: What the settings stand for.

    Raises:
        InputError: If nothing can be trained for less: a table, or a function that takes no `epochs`; or if several
            machines share the study, whose trials stay open between two rungs.
    """
    settings = prepared.settings
    if not settings.halving:
        return None
    if settings.storage is not None:
        raise InputError("halving is for a search of one machine; leave out halving, or storage")
    ladder = Ladder.of(
        _full_budget(prepared),
        minimum=settings.halving_epochs,
        eta=settings.halving,
        slow_minimum=settings.halving_slow_epochs,
    )
    return Climb(ladder, prepared.directions, identity_init=getattr(prepared.evaluator, "identity_init", False))


def _full_budget(prepared: Prepared) -> int:
    """Return the epochs of a full training."""
    evaluator = prepared.evaluator
    if isinstance(evaluator, TrainingEvaluator):
        return evaluator.recipe.epochs
    epochs = prepared.settings.training.get("epochs")
    if isinstance(evaluator, CallableEvaluator) and evaluator.takes_epochs and epochs is not None:
        return Recipe().with_settings({"epochs": epochs}).epochs
    raise InputError(
        "halving trains plans for fewer epochs first: a table holds one budget alone, and a function must take "
        "`epochs` and be given the full budget as training={'epochs': N}"
    )
