"""The race for additional trainings: which plan, if any, is trained next with another seed, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.hierarchy import Contents, Posterior, posterior
from nasbench.evidence.standing import Standing

__all__ = ["BARE_SEEDS", "BUDGET", "MOST_SEEDS", "UNTIL_BUDGET", "Race", "State", "Step", "Until", "race", "sureness"]

BARE_SEEDS = 3
"""Number of trainings that the bare backbone gets first. They give a first estimate of the noise."""

BUDGET = 10
"""Default number of additional trainings, including those of the bare backbone."""

UNTIL_BUDGET = 20
"""Default number of additional trainings if a search continues until every plan is decided."""

MOST_SEEDS = 8
"""Default for the largest number of seeds of a plan."""

_FEWEST_TO_CALL, _FEWEST_TO_DROP = 3, 2
_FAILURES = 2
"""If the training of a plan failed this often, the plan gets no more trainings."""

State = Literal["called", "dropped", "left out", "failed", "infeasible", "at most seeds", "open"]
"""The state of a plan in the race: the first that applies.

failed: it has no successful training, or two of its trainings failed. infeasible: it breaks a bound. left out: it is
far below the bare backbone (`Standing.left_out`). called: it has at least three seeds, and P(better) is above
`sureness`. dropped: it has at least two seeds, and its posterior mean is below 0. at most seeds: it has the largest
number of seeds. open: none of these."""

Until = Literal["decided", "first"]


@dataclass(frozen=True)
class Step:
    """The next training.

    Attributes:
        plan: Index of the plan. None for the bare backbone.
        reason: The reason for the training, in words that can follow "next:" in a message.
    """

    plan: int | None
    reason: str


@dataclass(frozen=True)
class Race:
    """The state of the race.

    Attributes:
        next: The next training. None if the race has ended, or if its last trainings are still running.
        ended: The reason why there is no next training, or "" if there is one.
        states: The state of each plan. Running trainings have no influence on the states.
        posterior: The posterior of each plan. None as long as the noise is not known.
    """

    next: Step | None
    ended: str
    states: tuple[State, ...]
    posterior: Posterior | None


def sureness(until: Until | None = None) -> float:
    """Return the value that P(better) of a plan must exceed, so that the plan is called BETTER.

    A search that tests after every training, and can end after any of them, needs a higher probability than a single
    test does.
    """
    return 0.975 if until is None else 0.995


def race(
    standing: Standing,
    contents: Contents,
    *,
    spent: int,
    budget: int | None = None,
    most_seeds: int = MOST_SEEDS,
    front: Sequence[int] = (),
    until: Until | None = None,
    running: Sequence[int | None] = (),
    failures: Sequence[int] | None = None,
    infeasible: Sequence[bool] | None = None,
) -> Race:
    """Return the state of the race and the next training.

    The same arguments always give the same step. So a resumed search can continue from its records.

    Args:
        standing: The results of the finished trainings.
        contents: The (slot, module) pairs of each plan.
        spent: Number of additional trainings that were started so far. Trainings of the bare backbone, failed trainings
            and running trainings are included.
        budget: Largest number of additional trainings. None means `BUDGET`, or `UNTIL_BUDGET` if `until` is given.
        most_seeds: Largest number of seeds of a plan.
        front: The plans on the front after exploration, in order of the hypervolume that each adds. Of the first ones,
            at most half as many as the budget, those that are open and have one seed get a second seed once the bare
            backbone has its first trainings. This front must be found together with the bare backbone. Otherwise it
            would have cheap plans that are worse than the bare backbone, and they would use trainings that the race
            needs.
        until: The race always ends when no plan is open or the budget is spent. With "decided" or "first", the
            default of the budget and the probability for BETTER are higher. With "first", the race also ends when the
            first plan is called BETTER.
        running: For each running training its plan, or None for the bare backbone. A running training counts as if its
            result was the posterior mean of the plan (for the bare backbone, its present mean).
        failures: Number of failed trainings of each plan. None if nothing failed.
        infeasible: Whether each plan breaks a bound. It gets no more trainings. None if no plan breaks one.
    """
    budget = (BUDGET if until is None else UNTIL_BUDGET) if budget is None else budget
    tried = np.zeros(len(contents), dtype=int) if failures is None else np.asarray(failures, dtype=int)
    refused = np.zeros(len(contents), dtype=bool) if infeasible is None else np.asarray(infeasible, dtype=bool)
    believed = posterior(standing, contents)
    states = _states(standing, believed, tried, refused, most_seeds, sureness(until))

    def end(reason: str) -> Race:
        return Race(None, reason, states, believed)

    if until == "first" and "called" in states:
        return end("a plan is called BETTER")
    if spent >= budget:
        return end(f"the {budget} further trainings are spent")
    seen, expected, expected_states = standing, believed, states
    if running:
        seen = _with_running(standing, believed, running)
        expected = posterior(seen, contents)
        expected_states = _states(seen, expected, tried, refused, most_seeds, sureness(until))
    if seen.bare_seeds < min(BARE_SEEDS, most_seeds):
        return Race(Step(None, "how much the metric of the bare backbone varies between seeds"), "", states, believed)
    for plan in front[: budget // 2]:
        if seen.seeds[plan] == 1 and expected_states[plan] == "open" and most_seeds > 1:
            return Race(Step(plan, "a second seed for a plan on the front"), "", states, believed)
    still = [plan for plan, state in enumerate(expected_states) if state == "open"]
    if expected is None or not still:
        return end("no plan is open any more" if expected is not None else "no plan has two seeds")
    best = max(still, key=lambda plan: float(expected.mean[plan]))  # if plans are equal, the first one is taken
    if seen.bare_seeds <= seen.seeds[best]:
        return Race(Step(None, "the bare backbone has no more seeds than the best open plan"), "", states, believed)
    chance = float(expected.better[best])
    return Race(Step(best, f"the best open plan, better with probability {chance:.3f}"), "", states, believed)


def _states(
    standing: Standing,
    believed: Posterior | None,
    failures: NDArray[np.int64],
    infeasible: NDArray[np.bool_],
    most_seeds: int,
    sure: float,
) -> tuple[State, ...]:
    return tuple(
        _state(standing, believed, plan, int(failures[plan]), bool(infeasible[plan]), most_seeds, sure)
        for plan in range(len(standing.seeds))
    )


def _state(
    standing: Standing,
    believed: Posterior | None,
    plan: int,
    failures: int,
    infeasible: bool,
    most_seeds: int,
    sure: float,
) -> State:
    seeds = int(standing.seeds[plan])
    if seeds == 0 or failures >= _FAILURES:
        return "failed"
    if infeasible:
        return "infeasible"
    if standing.left_out[plan]:
        return "left out"
    if believed is not None and seeds >= _FEWEST_TO_CALL and believed.better[plan] > sure:
        return "called"
    if believed is not None and seeds >= _FEWEST_TO_DROP and believed.mean[plan] < 0:
        return "dropped"
    return "at most seeds" if seeds >= most_seeds else "open"


def _with_running(standing: Standing, believed: Posterior | None, running: Sequence[int | None]) -> Standing:
    """Return the standing that results if each running training gives the posterior mean of its plan."""
    difference, seeds, bare_seeds = standing.difference.copy(), standing.seeds.copy(), standing.bare_seeds
    for plan in running:
        if plan is None:
            bare_seeds += 1
            continue
        mean = np.nan if believed is None else believed.mean[plan]
        expected = difference[plan] if np.isnan(mean) else mean
        difference[plan] = (seeds[plan] * difference[plan] + expected) / (seeds[plan] + 1)
        seeds[plan] += 1
    return Standing(difference, seeds, bare_seeds, standing.noise)
