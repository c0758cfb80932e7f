"""What another run has evaluated, where this one may take it over: same backbone, task, data, training and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasbench.errors import RunError
from nasbench.library.plan import Plan
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Record, Run, load_run
from nasbench.runs.settings import differences
from nasbench.study.problem import Prepared

__all__ = ["Reusable", "find_reusable"]

FREE = ("space", "objectives", "constraints")
"""Parts of a run's identity that may differ: what an evaluation found does not depend on them."""


@dataclass(frozen=True)
class Reusable:
    """An evaluation of another run.

    Attributes:
        evaluation: It, with the name of that run.
        run: That run.
        number: Its trial there.
    """

    evaluation: Evaluation
    run: Run
    number: int

    @property
    def per_item(self) -> NDArray[np.float64] | None:
        """The metric per validation item; None where none was stored."""
        return self.run.per_item(self.evaluation.plan_hash, self.evaluation.seed)

    @property
    def weights(self) -> bytes | None:
        """The trained weights, in the safetensors format; None where they were not kept."""
        file = self.run.weights_file(self.number)
        return file.read_bytes() if self.evaluation.seed == self.run.settings.seed and file.is_file() else None


def find_reusable(path: str | Path, prepared: Prepared) -> dict[tuple[str, int], Reusable]:
    """Return the complete evaluations of another run by plan hash and seed, as far as they belong to a search.

    Left out are plans outside the search's space, evaluations that lack one of its objectives, and those that break
    one of its constraints.

    Args:
        path: The other run's folder.
        prepared: The search.

    Raises:
        RunError: If there is no run, or it was made under other conditions; says which.
    """
    run = load_run(path)
    there, here = (
        {key: value for key, value in identity.items() if key not in FREE}
        for identity in (run.config["identity"], prepared.identity)
    )
    if differing := differences(there, here):
        raise RunError(
            f"the evaluations of {path} were made under other conditions, so they cannot be reused. What differs:\n  "
            + "\n  ".join(differing)
        )
    records = [record for record in run.records() if _belongs(record.evaluation, prepared)]
    bare = next((r.evaluation for r in records if r.evaluation.plan == "{}"), None)
    if bare is None:
        raise RunError(f"{path} has no complete evaluation of the bare backbone, so there is nothing to reuse")
    kept = [record for record in records if _holds(record, bare, prepared)]
    return {
        (r.evaluation.plan_hash, r.evaluation.seed): Reusable(
            replace(r.evaluation, reused_from=r.evaluation.reused_from or run.path.resolve().name), run, r.number
        )
        for r in kept
    }


def _belongs(evaluation: Evaluation, prepared: Prepared) -> bool:
    plan = Plan.of(evaluation.plan)
    return (
        evaluation.state == "complete"
        and all(name in evaluation.values for name in prepared.directions)
        and (plan.is_bare or plan in prepared.space)
    )


def _holds(record: Record, bare: Evaluation, prepared: Prepared) -> bool:
    values = record.evaluation.values
    bounds: Sequence[Constraint] = getattr(prepared.evaluator, "constraints", ())
    return all(bound.holds(values[bound.name], bare.values) for bound in bounds if bound.name in values)
