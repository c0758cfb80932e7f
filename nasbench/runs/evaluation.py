"""The evaluation of one plan with one seed. Evaluators return it, the journal stores it, and tables show it.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from nasbench.library.faults import fault_text
from nasbench.library.plan import BARE
from nasbench.text import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Items = NDArray[np.float64]
else:  # pydantic resolves this name at run time, and reading a record must not import NumPy
    Items = Any

__all__ = ["STOPPED", "Evaluation", "Items", "State", "at_full_budget", "describe_error"]

State = Literal["complete", "rejected", "failed"]

STOPPED = "stopped at"
"""Beginning of the reason of a rejected evaluation that successive halving did not promote. No bound is broken."""


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one plan with one seed. It is not changed after it was recorded.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: The hash of the plan.
        seed: Seed of the initial weights and of the data order.
        fidelity: Largest number of training epochs. Early stopping can end the training before. 0 if nothing was
            trained.
        state: "complete", "rejected" (it breaks a constraint, or a module does not fit its slot) or "failed" (an error
            ended it).
        reason: Why the evaluation is not complete, in one line of clean text (`nasbench.text.clean`). "" if it is
            complete. If the bare backbone breaks a bound, it is complete nevertheless, and this is the bound.
        metrics: Metrics on the validation split.
        costs: params, macs, elementwise_flops, activations, exact and, where it was measured, peak_memory_bytes.
        wall_s: Seconds that the evaluation took.
        training_s: Seconds of `wall_s` that were spent in training.
        device: The torch device of the evaluation.
        history: The values of each epoch, one entry per epoch.
        batch_parts: Number of parts into which each training batch was split because memory ran out. 1 if it was not
            split.
        reused_from: Name of the run from which the evaluation was imported. "" if this run evaluated the plan.
        proxies: Zero-cost proxies of the untrained model, by name. The score of a second untrained model is
            `<name>_retest`. A proxy without a value is left out.
        number: Number of the trial in the search. None before the evaluation is recorded. It is not part of the record.
        items: The task's metric for each validation item, for paired comparisons. None if the metric has no values by
            item, or if the evaluation was read from a journal. The values are stored in a separate file.
        weights: The trained weights in the safetensors format. None if they were not requested. They are stored in a
            separate file.
    """

    plan: str
    plan_hash: str
    seed: int
    fidelity: int
    state: State
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    wall_s: float = 0.0
    training_s: float = 0.0
    device: str = "cpu"
    history: list[dict[str, float]] = field(default_factory=list)
    batch_parts: int = 1
    reused_from: str = ""
    proxies: dict[str, float] = field(default_factory=dict)
    number: int | None = field(default=None, compare=False)
    items: Items | None = field(default=None, compare=False, repr=False)
    weights: bytes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Only here the text of an exception, which can contain anything, enters a record. It must fit into every file
        # and table.
        if isinstance(self.reason, str):
            object.__setattr__(self, "reason", clean(self.reason))

    def to_dict(self) -> dict[str, Any]:
        """Return the recorded fields as JSON-serialisable data. `Evaluation(**data)` restores the evaluation."""
        return {name: getattr(self, name) for name in _RECORDED}

    @property
    def values(self) -> dict[str, float]:
        """Metrics, costs and proxies in one mapping, by the names that objectives and constraints use."""
        return {**self.proxies, **self.costs, **self.metrics}

    @property
    def is_complete(self) -> bool:
        """Whether the evaluation finished without being rejected or failing."""
        return self.state == "complete"

    @property
    def is_bare(self) -> bool:
        """Whether the plan is the bare backbone."""
        return self.plan == BARE.text

    @property
    def record(self) -> Evaluation:
        """The evaluation without items and weights, which can be large."""
        return replace(self, items=None, weights=None)

    def objectives(self, directions: Mapping[str, str]) -> list[float] | None:
        """Return the objectives' values in the order of `directions`, or None if the evaluation is not complete."""
        return [float(self.values[name]) for name in directions] if self.is_complete else None


def at_full_budget(evaluations: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return the complete evaluations with the full budget by plan hash, those of each plan in order of trials.

    Successive halving trains some plans for fewer epochs. Their metrics are not comparable with those after the full
    budget.
    """
    complete = [evaluation for evaluation in evaluations if evaluation.is_complete]
    full = max((evaluation.fidelity for evaluation in complete), default=0)
    plans: dict[str, list[Evaluation]] = {}
    for evaluation in complete:
        if evaluation.fidelity == full:
            plans.setdefault(evaluation.plan_hash, []).append(evaluation)
    return plans


_RECORDED = tuple(one.name for one in fields(Evaluation) if one.name not in ("number", "items", "weights"))


def describe_error(error: BaseException) -> str:
    """Return what raised an exception, its type and its first line, for the column `reason`."""
    # torch's errors can have kilobytes of text, but the reason must fit into a cell of a table
    return fault_text(error)[:400]
