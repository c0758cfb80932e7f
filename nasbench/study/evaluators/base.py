"""What every evaluator shares: one request comes in, one evaluation goes out, whatever the plan does.

Imports no torch, so that a process that only asks a user's function starts at once.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench.errors import EvaluationError
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation, Items, State, describe_error

if TYPE_CHECKING:
    from nasbench.library.plan import Plan
    from nasbench.measurement.costs.plan_costs import PlanCosts
    from nasbench.measurement.latency.samples import Profile

__all__ = ["Evaluator", "Findings", "RejectedError", "Request", "failed"]


@dataclass(frozen=True)
class Request:
    """One plan to evaluate under one seed.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Of weights and data order.
        bare: The bare backbone's values; None while that itself is evaluated.
        epochs: How long to train; the full budget if None.
        before: What a shorter training of the same plan and seed gave: its gates are not passed again.
        weights: Whether the trained weights are wanted.
    """

    plan: str
    plan_hash: str
    seed: int
    bare: Mapping[str, float] | None = None
    epochs: int | None = None
    before: Evaluation | None = None
    weights: bool = False

    @classmethod
    def of(cls, plan: Plan, seed: int = 0, **more: Any) -> Request:
        """Return the request for a plan."""
        return cls(plan.text, plan.hash, seed, **more)

    def reference(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what relative bounds refer to: the bare backbone's values, its own while that is evaluated."""
        return values if self.bare is None else self.bare


class RejectedError(Exception):
    """A bound, or a slot that a module cannot serve, refuses the plan before it is trained."""


@dataclass
class Findings:
    """What is found of a plan on its way through the gates. What was found stays when a later gate breaks."""

    state: State = "complete"
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    proxies: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    fidelity: int = 0
    training_s: float = 0.0
    batch_parts: int = 1
    items: Items | None = None
    weights: bytes | None = None


class Evaluator(ABC):
    """Evaluates plans. Never raises for a fault of a plan: that becomes its record.

    What a search may ask of any evaluator has a default here, for those that cannot tell.

    Attributes:
        constraints: Bounds on what is known or found of a plan.
        device: The torch device that it evaluates on.
        takes_seed: Whether another seed can give another result.
        identity_init: Whether modules stand behind gates that start closed.
        full_epochs: Epochs of a full evaluation; None where nothing can be evaluated for less.
        plan_costs: Counts a plan from its parts; None where no model is built.
        is_portable: Whether it can be sent to another process as it is. Otherwise a worker builds its own from the
            settings.
    """

    constraints: Sequence[Constraint] = ()
    device: str = "cpu"
    takes_seed: bool = True
    identity_init: bool = False
    full_epochs: int | None = None
    plan_costs: PlanCosts | None = None
    is_portable: bool = False

    def evaluate(self, request: Request) -> Evaluation:
        """Evaluate a plan under a seed."""
        begun = time.perf_counter()
        found = Findings()
        try:
            self.find(request, found)
        except RejectedError as refusal:
            found.state, found.reason = "rejected", str(refusal)
        except EvaluationError as error:
            found.state, found.reason = "failed", f"{error.kind}: {error.reason}"
        except Exception as error:
            found.state, found.reason = "failed", describe_error(error)
        return Evaluation(
            plan=request.plan,
            plan_hash=request.plan_hash,
            seed=request.seed,
            wall_s=time.perf_counter() - begun,
            device=self.device,
            **vars(found),
        )

    @abstractmethod
    def find(self, request: Request, found: Findings) -> None:
        """Fill in what is found of a plan.

        Raises:
            RejectedError: If a gate refuses the plan.
            Exception: Whatever breaks: the evaluation has failed for that reason.
        """

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return what is exactly known of a plan before it is evaluated, by name.

        Raises:
            InputError: If the plan cannot be built.
        """
        return {}

    def cost_error(self, plan: Plan) -> str | None:
        """Say where the count of a plan's whole model differs from the sum of its parts.

        Returns:
            "" where it does not; None where no model is built.
        """
        return None

    def measure_latency(self, plans: Sequence[Plan], seed: int, time_s: float) -> Profile | None:
        """Measure the latency of plans side by side, named by hash, the first as reference; None without models."""
        return None

    def check_bounds(self, values: Mapping[str, Any], request: Request) -> None:
        """Check the bounds on what is known so far.

        Raises:
            RejectedError: If one is broken.
        """
        reference = request.reference(values)
        for constraint in self.constraints:
            if constraint.name in values and not constraint.holds(values[constraint.name], reference):
                raise RejectedError(constraint.reason(values[constraint.name], reference))


def failed(request: Request, reason: str, wall_s: float = 0.0) -> Evaluation:
    """Return the evaluation of a request that no evaluator could finish."""
    return Evaluation(request.plan, request.plan_hash, request.seed, 0, "failed", reason, wall_s=wall_s)
