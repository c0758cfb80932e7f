"""The race for further trainings: which plan, if any, is trained next with a further seed, and why."""

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
"""Number of trainings of the bare backbone before all further trainings. They give a first estimate of the noise."""

BUDGET = 10
"""Default number of further trainings, including those of the bare backbone."""

UNTIL_BUDGET = 20
"""The same if a search continues until every plan is decided."""

MOST_SEEDS = 8
"""Default of the largest number of seeds of a plan."""

_FEWEST_TO_CALL, _FEWEST_TO_DROP = 3, 2
_FAILURES = 2
"""A plan whose training failed this often gets no further training."""

State = Literal["called", "dropped", "left out", "failed", "at most seeds", "open"]
"""called: the plan is BETTER with enough certainty. dropped: its estimate is below the bare backbone. left out: far
below."""

Until = Literal["decided", "first"]


@dataclass(frozen=True)
class Step:
    """The next training.

    Attributes:
        plan: Index of the plan. None for the bare backbone.
        reason: The reason for the training, as it follows "next:" in a message.
    """

    plan: int | None
    reason: str


@dataclass(frozen=True)
class Race:
    """The state of the race.

    Attributes:
        next: The next training. None if the race has ended, or if its last trainings are running.
        ended: The reason why there is no next training. "" if there is one.
        states: The state of each plan. Running trainings have no influence on it.
        posterior: The posterior of each plan. None before the noise is known.
    """

    next: Step | None
    ended: str
    states: tuple[State, ...]
    posterior: Posterior | None


def sureness(until: Until | None = None) -> float:
    """Return the smallest probability of being better for which a plan is called BETTER.

    A search that tests after every training, and can end after any of them, needs a higher probability than a single
    test.
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
) -> Race:
    """Return the state of the race and the next training.

    The same arguments give the same step. So a resumed search can continue from the records.

    Args:
        standing: The results of the finished trainings.
        contents: The (slot, module) pairs of each plan.
        spent: Number of further trainings started so far, including those of the bare backbone, failed and running
            trainings.
        budget: Largest number of further trainings. By default `BUDGET`, or `UNTIL_BUDGET` with `until`.
        most_seeds: Largest number of seeds of a plan.
        front: The plans on the front after exploration, in order of hypervolume. Plans with one seed get a second seed
            first, with at most half of the budget. The bare backbone is included in this front. Otherwise cheap plans
            that are worse than the bare backbone would use trainings that the race needs.
        until: "decided" ends the race when every plan is called or dropped, "first" at the first plan called BETTER.
        running: The plan of each running training, None for the bare backbone. They count as if their result was the
            posterior mean (for the bare backbone its present mean).
        failures: Number of failed trainings of each plan. None if nothing failed.
    """
    budget = (BUDGET if until is None else UNTIL_BUDGET) if budget is None else budget
    tried = np.zeros(len(contents), dtype=int) if failures is None else np.asarray(failures, dtype=int)
    believed = posterior(standing, contents)
    states = _states(standing, believed, tried, most_seeds, sureness(until))

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
        expected_states = _states(seen, expected, tried, most_seeds, sureness(until))
    if seen.bare_seeds < min(BARE_SEEDS, most_seeds):
        return Race(Step(None, "how much the metric of the bare backbone varies between seeds"), "", states, believed)
    for plan in front[: budget // 2]:
        if seen.seeds[plan] == 1 and expected_states[plan] == "open" and most_seeds > 1:
            return Race(Step(plan, "a second seed for a plan on the front"), "", states, believed)
    still = [plan for plan, state in enumerate(expected_states) if state == "open"]
    if expected is None or not still:
        return end("no plan is open any more" if expected is not None else "no plan has two seeds")
    best = max(still, key=lambda plan: float(expected.mean[plan]))  # of equal plans, the first
    if seen.bare_seeds <= seen.seeds[best]:
        return Race(Step(None, "the bare backbone has no more seeds than the best open plan"), "", states, believed)
    chance = float(expected.better[best])
    return Race(Step(best, f"the best open plan, better with probability {chance:.3f}"), "", states, believed)


def _states(
    standing: Standing, believed: Posterior | None, failures: NDArray[np.int64], most_seeds: int, sure: float
) -> tuple[State, ...]:
    return tuple(
        _state(standing, believed, plan, int(failures[plan]), most_seeds, sure) for plan in range(len(standing.seeds))
    )


def _state(
    standing: Standing, believed: Posterior | None, plan: int, failures: int, most_seeds: int, sure: float
) -> State:
    seeds = int(standing.seeds[plan])
    if seeds == 0 or failures >= _FAILURES:
        return "failed"
    if standing.left_out[plan]:
        return "left out"
    if believed is not None and seeds >= _FEWEST_TO_CALL and believed.better[plan] > sure:
        return "called"
    if believed is not None and seeds >= _FEWEST_TO_DROP and believed.mean[plan] < 0:
        return "dropped"
    return "at most seeds" if seeds >= most_seeds else "open"


def _with_running(standing: Standing, believed: Posterior | None, running: Sequence[int | None]) -> Standing:
    """Return the standing as if the result of each running training was the posterior mean of its plan."""
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
