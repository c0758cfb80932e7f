"""The line that says how long a search may take."""

from __future__ import annotations

import random
from dataclasses import dataclass

from nasbench.library.plan import BARE, Plan
from nasbench.runs.refinement import planned_controls, planned_further
from nasbench.study.problem import Problem
from nasbench.study.samplers.knowledge import known_before
from nasbench.text import duration_text

__all__ = ["Done", "outlook"]

_WEIGHED = 12
"""Number of plans whose MACs are counted to weigh the time of a training."""

_HEAVIER = 1.15
"""Only if the plans have at least this many times the MACs of the bare backbone, the line says so."""


@dataclass(frozen=True)
class Done:
    """What is done of a search.

    Attributes:
        explored: Number of plans that are evaluated with the first seed, including the bare backbone.
        refined: Number of evaluations with further seeds.
        controls: Number of evaluations of controls.
    """

    explored: int = 0
    refined: int = 0
    controls: int = 0


def outlook(problem: Problem, done: Done, evaluation_s: float, capacity: int) -> str:
    """Return in one line how long the rest of a search may take.

    The controls of given plans are counted. In a search of a space, it is known late which plans get controls, and only
    few do.

    Args:
        problem: The problem of the search.
        done: What is done already.
        evaluation_s: Duration of one evaluation of the bare backbone in seconds.
        capacity: Number of evaluations that can run at the same time.
    """
    settings, builds = problem.settings, problem.evaluator.plan_costs is not None
    further = planned_further(settings, problem.plans) if problem.is_refined else 0
    left = max(0, 1 + problem.plans - done.explored) + max(0, further - done.refined)
    controls = max(0, planned_controls(settings, problem.plans) - done.controls) if problem.is_refined and builds else 0
    weight = _relative_cost(problem) if left + controls else 1.0
    # one evaluation of the bare backbone for each evaluation of all plans
    mean_s = evaluation_s * (1 + problem.plans * weight) / (1 + problem.plans)
    latency_s = settings.latency_s if builds else 0.0
    total_s = -(-(left + controls) // capacity) * mean_s + latency_s
    word = "training" if problem.task is not None else "evaluation"
    # a race can end early, and with halving most trainings are shorter
    at_most = "at most " if settings.halving or not settings.plans else ""
    line = f"{at_most}{left} more {word}{'' if left == 1 else 's'}"
    line += f" and {controls} control{'' if controls == 1 else 's'}" if controls else ""
    line += f" of about {duration_text(mean_s)}"
    line += f" (by the MACs of the plans, {weight:.1f} times the bare backbone's)" if weight >= _HEAVIER else ""
    line += f", then {duration_text(latency_s)} for latencies and the report" if latency_s else ", then the report"
    if settings.time_s is not None and total_s > settings.time_s:
        return f"about {duration_text(settings.time_s)}, the time limit ({line})"
    return f"about {duration_text(total_s)}: {line}"


def _relative_cost(problem: Problem) -> float:
    """Return the mean MACs of the plans, or of some of a large space, as a multiple of the bare backbone's, at least 1.

    A training takes about as many times longer. A module that lowers the MACs does not make it shorter in general.
    """
    if problem.evaluator.plan_costs is None:  # the time of a function need not follow the MACs
        return 1.0
    known = known_before(problem.evaluator)
    bare = (known(BARE) or {}).get("macs")
    # a plan that does not fit has no costs, and is rejected before its training
    counted = [costs["macs"] for plan in _some_plans(problem) if (costs := known(plan))]
    return sum(max(1.0, macs / bare) for macs in counted) / len(counted) if bare and counted else 1.0


def _some_plans(problem: Problem) -> list[Plan]:
    space = problem.space
    if space.count <= _WEIGHED:
        return list(space)
    rng = random.Random(0)  # the estimate must not change the proposals of the search
    return [space.sample(rng) for _ in range(_WEIGHED)]
