"""The line that says how long a search may take."""

from __future__ import annotations

from nasbench.runs.refinement import planned_further
from nasbench.study.problem import Problem
from nasbench.text import duration_text

__all__ = ["outlook"]


def outlook(problem: Problem, explored: int, refined: int, evaluation_s: float, capacity: int) -> str:
    """Return in one line how long the rest of a search may take. Controls are left out: what they need is known late.

    Args:
        problem: The problem of the search.
        explored: Number of plans that are evaluated with the first seed, including the bare backbone.
        refined: Number of evaluations with further seeds that are done.
        evaluation_s: Duration of one evaluation of the bare backbone in seconds.
        capacity: Number of evaluations that can run at the same time.
    """
    settings = problem.settings
    further = planned_further(settings, problem.plans) if problem.is_refined else 0
    left = max(0, 1 + problem.plans - explored) + max(0, further - refined)
    latency_s = settings.latency_s if problem.evaluator.plan_costs is not None else 0.0
    total_s = -(-left // capacity) * evaluation_s + latency_s
    word = "training" if problem.task is not None else "evaluation"
    # a race can end early, and with halving most trainings are shorter
    at_most = "at most " if settings.halving or not settings.plans else ""
    line = f"{at_most}{left} more {word}{'' if left == 1 else 's'} of about {duration_text(evaluation_s)}"
    line += f", then {duration_text(latency_s)} for latencies" if latency_s else ""
    if settings.time_s is not None and total_s > settings.time_s:
        return f"about {duration_text(settings.time_s)}, the time limit ({line})"
    return f"about {duration_text(total_s)}: {line}"
