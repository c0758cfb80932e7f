"""The base class of evaluators: every request gives one evaluation, even if the plan fails.

Imports no torch, so that a process that only calls a user's function starts quickly.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench.errors import EvaluationError
from nasbench.library.surroundings import surroundings_kept
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation, Items, State, describe_error

if TYPE_CHECKING:
    from nasbench.library.plan import Plan
    from nasbench.measurement.costs.plan_costs import PlanCosts
    from nasbench.measurement.latency.samples import Profile

__all__ = ["Evaluator", "Findings", "RejectedError", "Request", "TimeUp", "failed"]


@dataclass(frozen=True)
class Request:
    """One plan to evaluate with one seed.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Seed of the initial weights and of the data order.
        bare: The bare backbone's values. None while the bare backbone itself is evaluated.
        epochs: Number of training epochs. None for the full budget.
        before: The evaluation of a shorter training of the same plan and seed. Its gates are not checked again.
        weights: Whether the evaluation must include the trained weights.
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
        """Return the bare backbone's values, to which relative bounds refer. For the bare backbone itself: `values`."""
        return values if self.bare is None else self.bare


class TimeUp(BaseException):
    """Ends an evaluation in this process that takes too long. No `except Exception` of a module can catch it."""


class RejectedError(Exception):
    """Rejects a plan before training, because it breaks a bound or because a module does not support its slot."""


@dataclass
class Findings:
    """The results of a plan so far. Each check adds its results. They are recorded even if a later check fails.

    The fields are those of `Evaluation` with the same names.
    """

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
    """Base class of evaluators. An error of a plan is never raised. It is recorded in the plan's evaluation.

    Every method and attribute of an evaluator that a search uses has a default here.

    Attributes:
        constraints: Bounds on the values of a plan.
        device: The torch device that it evaluates on.
        takes_seed: Whether another seed can give another result.
        identity_init: Whether inserted modules start behind gates that are 0.
        full_epochs: Number of epochs of a full evaluation. None if no shorter evaluation is possible.
        plan_costs: Counts the costs of a plan from its parts. None if no model is built.
        is_portable: Whether the evaluator can be sent to another process. If not, a worker builds its own evaluator
            from the settings.
    """

    constraints: Sequence[Constraint] = ()
    device: str = "cpu"
    takes_seed: bool = True
    identity_init: bool = False
    full_epochs: int | None = None
    plan_costs: PlanCosts | None = None
    is_portable: bool = False

    def evaluate(self, request: Request) -> Evaluation:
        """Evaluate a plan with a seed."""
        begun, process = time.perf_counter(), os.getpid()
        findings = Findings()  # `find` fills it in, so that a failure does not lose the results before it
        try:
            with surroundings_kept():
                self.find(request, findings)
        except (KeyboardInterrupt, TimeUp):
            # Nobody can tell Ctrl-C from a module that raises KeyboardInterrupt itself. Both end the search. A module
            # that does so each time fails in the end, like one that kills its process.
            raise
        except BaseException as error:
            # A module can be anybody's code. Nothing that it raises may end the study, not even SystemExit.
            findings.state, findings.reason = _outcome(error)
        finally:
            if os.getpid() != process:  # a module forked, and its child must not go on as a second search
                os._exit(0)
        return Evaluation(
            plan=request.plan,
            plan_hash=request.plan_hash,
            seed=request.seed,
            wall_s=time.perf_counter() - begun,
            device=self.device,
            **vars(findings),
        )

    @abstractmethod
    def find(self, request: Request, findings: Findings) -> None:
        """Evaluate a plan and fill in `findings` step by step.

        Raises:
            RejectedError: If a gate rejects the plan.
            Exception: Any other exception makes the evaluation a failed one, with the exception as its reason.
        """

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the values of a plan that are known exactly before it is evaluated, by name.

        Raises:
            InputError: If the plan cannot be built.
        """
        return {}

    def cost_error(self, plan: Plan) -> str | None:
        """Compare the costs of a plan's whole model with the sum of its parts.

        Returns:
            The differences as text, "" if there are none. None if no model is built.
        """
        return None

    def measure_latency(self, plans: Sequence[Plan], seed: int, time_s: float) -> Profile | None:
        """Measure the latency of plans side by side, named by hash. The first plan is the reference.

        Returns:
            The measurement. None if no models are built.
        """
        return None

    def check_bounds(self, values: Mapping[str, Any], request: Request) -> None:
        """Check the bounds on the values that are known so far.

        Raises:
            RejectedError: If a bound is broken.
        """
        reference = request.reference(values)
        for constraint in self.constraints:
            if constraint.name in values and not constraint.holds(values[constraint.name], reference):
                raise RejectedError(constraint.reason(values[constraint.name], reference))


def _outcome(error: BaseException) -> tuple[State, str]:
    """Return the state and the reason of an evaluation that an exception ended."""
    if isinstance(error, RejectedError):
        return "rejected", str(error)
    if isinstance(error, EvaluationError) and isinstance(error.reason, str):
        return "failed", f"{error.kind}: {error.reason}"
    return "failed", describe_error(error)


def failed(request: Request, reason: str, wall_s: float = 0.0) -> Evaluation:
    """Return the failed evaluation of a request that no evaluator could finish."""
    return Evaluation(request.plan, request.plan_hash, request.seed, 0, "failed", reason, wall_s=wall_s)
