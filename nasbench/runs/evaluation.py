"""What is recorded of one plan under one seed: the one form of a result, from evaluator to table. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Items = NDArray[np.float64]
else:  # whoever validates a record, or only names a plan, need not import NumPy
    Items = Any

__all__ = ["BARE_TEXT", "Evaluation", "Items", "State", "describe_error"]

State = Literal["complete", "rejected", "failed"]

BARE_TEXT = "{}"
"""The canonical text of the empty plan: the bare backbone."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of one plan after one evaluation. Immutable once recorded.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Of weights and data order.
        fidelity: Training epochs that were given, which patience may have ended sooner. 0 where nothing was trained.
        state: "complete", "rejected" (a bound refused it) or "failed" (it broke).
        reason: Why not complete; "" if it is.
        metrics: Trained metrics on the validation split.
        costs: params, macs, elementwise_flops, activations, exact, peak_memory_bytes where measured.
        wall_s: Seconds it took.
        training_s: Seconds of these spent in training.
        device: Where it ran.
        history: One entry an epoch.
        batch_parts: Parts that each training batch was cut into because memory ran out; 1 where it did not.
        reused_from: The run that it was imported from; "" where it was made here.
        proxies: Zero-cost proxies of the untrained model, and of a second one under `<name>_retest`. A proxy that has
            no value is left out.
        number: The trial of the search that it belongs to; None before it is recorded. Not part of the record.
        items: The primary metric per validation item, for paired comparisons; None where there is none, and in what
            is read from a journal. Stored in a file of its own.
        weights: The trained weights in the safetensors format, where they were asked for. Stored in a file of its own.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON-able data. `Evaluation(**data)` gives it back."""
        return {name: getattr(self, name) for name in _RECORDED}

    @property
    def values(self) -> dict[str, float]:
        """Metrics, costs and proxies in one mapping: what objectives and constraints are named after."""
        return {**self.proxies, **self.costs, **self.metrics}

    @property
    def is_complete(self) -> bool:
        """Whether it was evaluated to the end."""
        return self.state == "complete"

    @property
    def is_bare(self) -> bool:
        """Whether it is of the bare backbone."""
        return self.plan == BARE_TEXT

    @property
    def record(self) -> Evaluation:
        """The evaluation without items and weights, which may be large."""
        return replace(self, items=None, weights=None)

    def objectives(self, directions: Mapping[str, str]) -> list[float] | None:
        """Return the objectives in the order of `directions`; None where it is not complete."""
        return [float(self.values[name]) for name in directions] if self.is_complete else None


_RECORDED = tuple(one.name for one in fields(Evaluation) if one.name not in ("number", "items", "weights"))


def describe_error(error: BaseException) -> str:
    """Return an exception as one line for the reason column."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
