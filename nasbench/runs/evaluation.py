"""What an evaluation leaves behind: the record, and what is too large for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from nasbench.library.plan import Plan
    from nasbench.measurement.latency.profiler import Profile

__all__ = ["Evaluation", "Evaluator", "Outcome", "State", "describe"]

State = Literal["complete", "rejected", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """What is known of one plan after one run through the gates. Immutable once recorded.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Of weights and data order.
        fidelity: Training epochs that were given, which patience may have ended sooner; 0 where nothing was trained.
        state: "complete", "rejected" (a gate refused it) or "failed" (it broke).
        reason: Why not complete; "" if it is.
        metrics: Trained metrics on the validation split.
        costs: params, macs, elementwise_flops, activations, exact, peak_memory_bytes where measured.
        wall_s: Seconds it took.
        training_s: Seconds of these spent in training.
        device: Where it ran.
        history: One entry an epoch.
        batch_parts: Parts that each training batch was cut into because memory ran out; 1 where it did not.
        reused_from: The run that it was brought in from; "" where it was made here.
        proxies: Zero-cost proxies of the untrained model, and of a second one under `<name>_retest`; one that has no
            value is left out.
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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-able data; `Evaluation(**data)` gives it back."""
        return asdict(self)

    @property
    def values(self) -> dict[str, float]:
        """Metrics, costs and proxies in one mapping: what objectives and constraints are named after."""
        return {**self.proxies, **self.costs, **self.metrics}


@dataclass(frozen=True)
class Outcome:
    """An evaluation with what is too large for its record.

    Attributes:
        evaluation: The record.
        per_item: The primary metric per validation item, for paired comparisons; None where not trained.
        model: The trained model; None where not trained.
        latency: What a latency measured before training comes from, raw samples included; None where none was.
    """

    evaluation: Evaluation
    per_item: NDArray[np.float64] | None = None
    model: nn.Module | None = None
    latency: Profile | None = None


class Evaluator(Protocol):
    """Evaluates one plan under one seed. Never raises for a fault of the plan."""

    def __call__(
        self,
        plan: Plan,
        seed: int,
        bare: Mapping[str, float] | None,
        epochs: int | None = None,
        before: Evaluation | None = None,
    ) -> Outcome:
        """Evaluate `plan`.

        Args:
            plan: The plan.
            seed: Of weights and data order.
            bare: The bare backbone's values, None while that itself is evaluated.
            epochs: How long to train, where anything is trained; None for the full budget.
            before: What a shorter training of the same plan and seed gave.
        """


def describe(error: BaseException) -> str:
    """Return an exception as one line for the reason column."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
