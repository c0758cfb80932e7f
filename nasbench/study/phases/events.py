"""Events that report the progress of a search to a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nasbench.runs.evaluation import Evaluation

__all__ = ["Event", "Listener"]


@dataclass(frozen=True)
class Event:
    """One step of a search, as reported to a user.

    Attributes:
        stage: "search", "seeds" (trainings with further seeds), "controls" or "latency".
        done: Number of finished units of this stage: plans, trainings or models.
        total: Number of all units of this stage.
        message: A line of text about the step.
        evaluation: The evaluation that was recorded in this step, without items and weights. None in other steps.
    """

    stage: str
    done: int
    total: int
    message: str
    evaluation: Evaluation | None = None


Listener = Callable[[Event], None]
