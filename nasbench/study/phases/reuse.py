"""Finds evaluations of another run to import. Both runs must have the same backbone, task, data, training and seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nasbench.errors import RunError
from nasbench.library.plan import Plan
from nasbench.runs.damage import damage_of
from nasbench.runs.evaluation import Evaluation, Items
from nasbench.runs.run import Run, load_run
from nasbench.runs.settings import differences
from nasbench.runs.trainings import trainings_of
from nasbench.study.problem import Problem

__all__ = ["Reusable", "find_reusable", "record_earlier_noise"]

FREE = ("space", "objectives", "constraints")
"""Parts of the identity that may differ between the runs, because the result of an evaluation does not depend on
them."""


@dataclass(frozen=True)
class Reusable:
    """An evaluation of another run.

    Attributes:
        evaluation: The evaluation, with the name of the other run (`reused_from`) and the trial number in the other
            run.
        run: The other run.
    """

    evaluation: Evaluation
    run: Run

    @property
    def items(self) -> Items | None:
        """The metric of each of N validation items, `(N,)`. None if it was not stored."""
        return self.run.folder.load_items(self.evaluation.plan_hash, self.evaluation.seed)

    @property
    def weights(self) -> bytes | None:
        """The trained weights in the safetensors format. None if they were not stored."""
        assert self.evaluation.number is not None
        file = self.run.folder.weights_file(self.evaluation.number)
        if not file.is_file():
            return None
        # a trial has one file of weights: of its first seed, or of a further seed if those of the first were not stored
        seed = self.run.folder.weights_seed(self.evaluation.number)
        return file.read_bytes() if self.evaluation.seed == (self.run.settings.seed if seed is None else seed) else None


def find_reusable(path: str | Path, problem: Problem) -> dict[tuple[str, int], Reusable]:
    """Return the complete evaluations of another run that a search can import, by plan hash and seed.

    Plans outside the search's space are left out. Evaluations that lack an objective of the search or break one of its
    constraints are left out too.

    Args:
        path: The other run's folder.
        problem: The problem of the search.

    Raises:
        RunError: If the folder contains no run, or a run that was made under other conditions. The message says what
            differs.
    """
    run = load_run(path)
    there, here = (
        {key: value for key, value in identity.items() if key not in FREE}
        for identity in (run.config["identity"], problem.identity)
    )
    if differing := differences(there, here):
        raise RunError(
            f"the evaluations of {path} were made under other conditions, so they cannot be reused. What differs:\n  "
            + "\n  ".join(differing)
        )
    evaluations = [evaluation for evaluation in run.evaluations() if _belongs(evaluation, problem)]
    bare = next((evaluation for evaluation in evaluations if evaluation.is_bare), None)
    if bare is None:
        raise RunError(f"{path} has no complete evaluation of the bare backbone, so there is nothing to reuse")
    name = run.path.resolve().name
    return {
        (e.plan_hash, e.seed): Reusable(replace(e, reused_from=e.reused_from or name), run)
        for e in evaluations
        if _holds(e, bare, problem)
    }


def record_earlier_noise(run: Run, path: str | Path) -> tuple[str, ...]:
    """Record the noise of another run of the same task, if that run has the same metric and a plan with two seeds.

    Args:
        run: The run.
        path: The other run's folder. `find_reusable` must accept it.

    Returns:
        What is left out of the other run, because a record or a file is damaged.
    """
    other = load_run(path)
    if other.metric is None or other.metric != run.metric:
        return ()
    noise = trainings_of(other).noise
    if noise.freedom:
        run.journal.record_earlier_noise(other.path.resolve().name, noise.to_dict())
    return tuple(f"{other.folder.name}: {line}" for line in damage_of(other))


def _belongs(evaluation: Evaluation, problem: Problem) -> bool:
    return (
        evaluation.is_complete
        and all(name in evaluation.values for name in problem.directions)
        and (evaluation.is_bare or Plan.of(evaluation.plan) in problem.space)
    )


def _holds(evaluation: Evaluation, bare: Evaluation, problem: Problem) -> bool:
    values = evaluation.values
    return all(
        bound.holds(values[bound.name], bare.values) for bound in problem.evaluator.constraints if bound.name in values
    )
