"""What every engine offers: jobs go in, answers come out in any order; a worker that dies is an answer too."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from nasbench.runs.evaluation import Evaluation, Evaluator
from nasbench.study.evaluators.asked import CallableEvaluator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["Answer", "Engine", "Job", "Lost", "Result", "evaluate_job", "failure"]


@dataclass(frozen=True)
class Job:
    """One plan to evaluate under one seed.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Of weights and data order.
        bare: The bare backbone's values; None while that itself is evaluated.
        weights: Whether the trained weights are wanted.
        epochs: How long to train; the full budget if None.
        before: What a shorter training of the same plan and seed gave.
    """

    plan: str
    plan_hash: str
    seed: int
    bare: Mapping[str, float] | None = None
    weights: bool = False
    epochs: int | None = None
    before: Evaluation | None = None


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        evaluation: The record.
        per_item: The primary metric per validation item; None where not trained.
        weights: The trained model's weights in the safetensors format; None where none were wanted or trained.
    """

    evaluation: Evaluation
    per_item: NDArray[np.float64] | None = None
    weights: bytes | None = None


@dataclass(frozen=True)
class Lost:
    """A worker died with its job, whose fault it need not be."""

    reason: str


Answer = Result | Lost


class Engine(ABC):
    """Evaluates jobs, up to `capacity` at a time. A context manager: leaving it ends every worker.

    Attributes:
        capacity: Jobs that can run at once.
    """

    capacity: int

    @abstractmethod
    def submit(self, ticket: int, job: Job) -> None:
        """Take a job; `ticket`, unique among the jobs at work, comes back with its answer."""

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> list[tuple[int, Answer]]:
        """Wait for answers.

        Args:
            timeout_s: Seconds after which it returns without any; None waits for one.

        Returns:
            Answers with their tickets, oldest first; none where nothing is at work.

        Raises:
            NasbenchError: If no worker can be started.
        """

    def held_up(self) -> str:
        """Say what jobs wait for where none is at work though some are queued; "" where nothing holds them up."""
        return ""

    def close(self) -> None:  # noqa: B027  # an engine without workers has nothing to end
        """End every worker at once; jobs at work are lost."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def evaluate_job(evaluator: Evaluator, job: Job) -> Result:
    """Evaluate a job in this process."""
    if isinstance(evaluator, CallableEvaluator):
        return Result(evaluator.ask(job.plan, job.plan_hash, job.seed, job.bare, job.epochs).evaluation)
    from nasbench.library.plan import Plan  # imports torch, which asking a function does not need

    outcome = evaluator(Plan.of(job.plan), job.seed, job.bare, job.epochs, job.before)
    wanted = job.weights and outcome.model is not None and outcome.evaluation.state == "complete"
    return Result(outcome.evaluation, outcome.per_item, _weights(outcome.model) if wanted else None)


def failure(job: Job, reason: str, wall_s: float = 0.0) -> Result:
    """Return the result of a job that no evaluator could finish."""
    return Result(Evaluation(job.plan, job.plan_hash, job.seed, 0, "failed", reason, wall_s=wall_s))


def _weights(model: nn.Module | None) -> bytes:
    from safetensors.torch import save_model  # knows what to do with weights that two names share

    assert model is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(model, str(file))
        return file.read_bytes()
