"""The second phase of a search: a race, in which the bare backbone and the best plans are trained with further seeds.

After every training, `nasbench.evidence.race` chooses the next plan to train. The choice depends on the recorded
trainings alone. So a search that was killed and resumed continues the same race, and several workers and machines take
part in one race.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from optuna.trial import TrialState

from nasbench.evidence.pareto import minimised, non_dominated
from nasbench.evidence.race import BARE_SEEDS, State, race
from nasbench.evidence.race import Race as Position
from nasbench.evidence.verdicts import judge_plans
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.feasibility import broken_bounds, infeasible
from nasbench.runs.ledger import evaluation_of
from nasbench.runs.refinement import further_trainings, most_seeds
from nasbench.runs.run import Run
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.runs.trainings import PlanTrainings, RunTrainings
from nasbench.study.phases.further_seeds import FurtherSeeds, Wanted, explored

__all__ = ["Race", "explored_front"]

_OUT = 2
"""A plan whose trainings failed this often gets no further training."""


@dataclass(frozen=True, eq=False)
class View:
    """The state of the race, as read by one driver.

    Attributes:
        trainings: All finished trainings.
        position: The state of each plan in the race, the posterior of its difference, and the next training.
        tried: The seeds with which a training was started, by plan hash.
        spent: Number of further trainings that were started. Imported ones do not count.
        running: Number of these trainings that are not finished.
    """

    trainings: RunTrainings
    position: Position
    tried: dict[str, set[int]]
    spent: int
    running: int

    def plan(self, index: int | None) -> PlanTrainings:
        """Return a plan by its index in the race. The index None means the bare backbone."""
        found = self.trainings.bare if index is None else self.trainings.plans[index]
        assert found is not None
        return found

    def name(self, index: int | None) -> str:
        """Return the name of a plan in messages."""
        return "the bare backbone" if index is None else f"trial {self.plan(index).evaluations[0].number}"

    def belief(self, index: int) -> str:
        """Return the state of a plan and the probability that it is better, in a few words."""
        return f"{self.name(index)} {_SAID[self.position.states[index]]}{self.chance(index)}"

    def chance(self, index: int) -> str:
        """Return the probability that a plan is better, as text in brackets. "" if it is not known."""
        believed = self.position.posterior
        if believed is None or np.isnan(believed.better[index]):
            return ""
        better = float(believed.better[index])
        # a rounded "1.000" would mean that it is certain
        return " (P > .999)" if better > 0.9995 else f" (P {better:.3f})".replace("P 0.", "P .")


_SAID: dict[State, str] = {
    "called": "is BETTER",
    "dropped": "is dropped, its estimate is below the bare backbone",
    "left out": "is left out, it is far below the bare backbone",
    "failed": "is left out, because its trainings fail",
    "infeasible": "is infeasible, because the mean of its seeds breaks a bound",
    "at most seeds": "has all its seeds",
    "open": "is not decided",
}


class Race(FurtherSeeds):
    """The phase that trains the bare backbone and the open plans that look best with further seeds."""

    def run_all(self) -> None:
        """Train one plan after another, until the race has ended."""
        self.begin()
        self.total = self.ledger.budget = further_trainings(self.settings)
        # this order depends only on the exploration, so it is the same for every driver at any time
        self.front = [evaluation.plan_hash for evaluation in explored_front(self.run)]
        self.view = self.look()
        self.done = self.view.spent - self.view.running
        self.work()
        self.view = self.look()
        self.narrate(self.ending())

    def look(self) -> View:
        """Read the present state of the race."""
        claims = self.claims()  # before the trainings are read: a training that ends in between then counts as ended
        trainings = self.trainings()
        first = self.settings.seed
        tried = {one.plan_hash: {first} for one in trainings.all_plans}
        failures: Counter[str] = Counter()
        running, spent = [], len(self.abandoned(claims))
        ended = {(one.plan_hash, one.seed) for plan in trainings.all_plans for one in plan.evaluations}
        index = {one.plan_hash: number for number, one in enumerate(trainings.plans)}
        for key, trial in claims.items():
            plan_hash, _, seed = key.partition(":")
            evaluation = evaluation_of(trial)
            spent += evaluation is None or not evaluation.reused_from
            if plan_hash not in tried:  # a plan that does not count any more
                continue
            tried[plan_hash].add(int(seed))
            failures[plan_hash] += evaluation is not None and not evaluation.is_complete
            if trial.state == TrialState.RUNNING and (plan_hash, int(seed)) not in ended:
                running.append(index.get(plan_hash))
        for plan_hash, seeds in tried.items():
            if plan_hash in index and len(seeds) >= self.most and failures[plan_hash]:
                failures[plan_hash] = _OUT  # all its seeds were tried, including the failed ones
        position = race(
            trainings.standing,
            trainings.contents,
            spent=spent,
            budget=self.total,
            most_seeds=self.most,
            front=[index[plan_hash] for plan_hash in self.front if plan_hash in index],
            until=self.settings.until,
            running=running,
            failures=[failures[one.plan_hash] for one in trainings.plans],
            infeasible=infeasible(trainings, self.settings.constraints),
        )
        return View(trainings, position, tried, spent, len(running))

    @property
    def most(self) -> int:
        """Largest number of seeds of a plan."""
        return most_seeds(self.settings)

    def next_wanted(self) -> Wanted | None:
        """Return the plan and the seed to train next. None if the race has ended or must wait."""
        view = self.look()
        if (step := view.position.next) is None:
            return None
        plan = view.plan(step.plan)
        first = self.settings.seed
        free = (seed for seed in range(first, first + self.most) if seed not in view.tried[plan.plan_hash])
        # only the bare backbone can have no seed left here, after some of its trainings failed
        return None if (seed := next(free, None)) is None else Wanted.of(plan.evaluations[0], seed, step.reason)

    # -- messages ----------------------------------------------------------------------------------------------

    def report(self, evaluation: Evaluation) -> None:
        """Report the result of a training, the plans whose state has changed, and the next training with its reason."""
        before, self.view = self.view, self.look()
        self.done = self.view.spent - self.view.running
        parts = [self.result(evaluation), *self.decided(evaluation.plan_hash, before)]
        if (step := self.view.position.next) is not None and not self.late:
            parts.append(f"next: {self.view.name(step.plan)} ({step.reason})")
        self.narrate("; ".join(parts))

    def result(self, evaluation: Evaluation) -> str:
        """Return the result of a training in a few words."""
        name = "the bare backbone" if evaluation.is_bare else f"trial {evaluation.number}"
        metric = self.run.metric
        if not evaluation.is_complete or metric is None:
            return f"seed {evaluation.seed} of {name} {evaluation.state}: {evaluation.reason}"
        return f"seed {evaluation.seed} of {name}: {metric} {evaluation.values[metric]:.4g}"

    def decided(self, plan_hash: str, before: View) -> list[str]:
        """Return the states of the trained plan and of all plans whose state has changed, one text for each."""
        view = self.view
        states = {one.plan_hash: state for one, state in _states(before)}
        return [
            view.belief(index)
            for index, (one, state) in enumerate(_states(view))
            if one.plan_hash == plan_hash
            # a plan is not reported while it has only one seed
            or (one.trainings.seeds > 1 and states.get(one.plan_hash, state) != state)
        ]

    def ending(self) -> str:
        """Return in one line why the race has ended, and its result."""
        view, reason = self.view, self.view.position.ended
        if not reason:
            reason = "the time limit has passed" if self.late else "the bare backbone has no seed left"
        trainings = view.trainings
        assert trainings.bare is not None
        # these are the verdicts that the report shows: they need two seeds, while a call in the race needs three
        judged = judge_plans(
            [plan.trainings for plan in trainings.plans],
            trainings.bare.trainings,
            trainings.contents,
            noise=trainings.noise,
            until=self.settings.until,
        )
        better = [
            view.name(index)
            for index, verdict in enumerate(judged.verdicts)
            if verdict == "BETTER" and view.position.states[index] != "infeasible"
        ]
        found = f"BETTER than the bare backbone: {', '.join(better)}" if better else "no plan is called BETTER"
        return f"no further trainings: {reason}; {found}"


def _states(view: View) -> Sequence[tuple[PlanTrainings, State]]:
    return list(zip(view.trainings.plans, view.position.states, strict=True))


def explored_front(run: Run) -> list[Evaluation]:
    """Return the plans on the front after the exploration, without the bare backbone, largest added hypervolume first.

    A plan that the bare backbone dominates is left out, because it would take a training from a better plan. For this,
    the bare backbone has the mean values of its first seeds, because the value of a single seed may be high by chance.
    """
    directions = list(run.directions.values())
    every = explored(run.journal.evaluations(SEARCH))
    plans = [one for one in every if not one.is_bare]
    if not plans:
        return []
    values = np.array([one.objectives(run.directions) for one in plans], dtype=float)
    first = {one.plan_hash: _first_seeds(run, one) for one in every if one.is_bare}
    # a bare backbone that breaks a bound is no alternative to a plan
    breaks = broken_bounds(first, run.settings.constraints)
    bare = np.array([_mean(run, seeds) for key, seeds in first.items() if not breaks[key]], dtype=float)
    kept = non_dominated(np.concatenate([values, bare.reshape(-1, values.shape[1])]), directions)
    front = np.flatnonzero(kept[: len(plans)])
    if not len(front):
        return []
    if values.shape[1] == 1:  # with one objective, all plans on the front have the same value
        return [plans[index] for index in front]
    points = minimised(values[front], directions)
    # The reference point is beyond the worst values. At the worst values, the extreme points would add no volume.
    gains = moocore.hv_contributions(points, ref=points.max(axis=0) + np.ptp(points, axis=0) * 0.1 + 1e-9)
    # a stable sort, so that plans with equal volumes stay in order of their trials
    return [plans[front[index]] for index in np.argsort(-gains, kind="stable")]


def _first_seeds(run: Run, bare: Evaluation) -> list[Evaluation]:
    """Return the complete evaluations of the bare backbone with its first seeds.

    Later seeds are left out. Otherwise the front would change during the race.
    """
    first = range(run.settings.seed, run.settings.seed + BARE_SEEDS)
    further = [one for one in run.journal.evaluations(FINALISTS) if one.is_bare and one.seed in first]
    return [one for one in (bare, *further) if one.is_complete]


def _mean(run: Run, seeds: Sequence[Evaluation]) -> list[float]:
    """Return the mean of each objective."""
    values = np.array([one.objectives(run.directions) for one in seeds], dtype=float)
    return [float(value) for value in values.mean(axis=0)]
