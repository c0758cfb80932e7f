"""The base class of evaluators. Every request gives one evaluation, even if the plan fails.

Imports no torch, so that a process that only calls a user's function starts quickly.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench.errors import EvaluationError
from nasbench.library.plan import BARE
from nasbench.library.surroundings import surroundings_kept
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation, Items, State, describe_error

if TYPE_CHECKING:
    from nasbench.library.plan import Plan
    from nasbench.measurement.costs.plan_costs import PlanCosts
    from nasbench.measurement.latency.samples import Profile
    from nasbench.study.evaluators.pace import Pace

__all__ = ["Evaluator", "Findings", "RejectedError", "Request", "TimeUp", "failed"]


@dataclass(frozen=True)
class Request:
    """One plan to evaluate with one seed.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: The hash of the plan.
        seed: Seed of the initial weights and of the data order.
        bare: The metrics and costs of the bare backbone, by name. None if the request is for the bare backbone itself.
        epochs: Number of training epochs. None for the full budget.
        before: The evaluation of a shorter training with the same plan and seed. The measured gates are not checked
            again. None if there is none.
        weights: Whether the evaluation must include the trained weights.
        accepted: Whether the plan broke no bound with its first seed, or is a control. Then values that vary between
            seeds are only recorded. If bounds rejected bad seeds, the mean of a plan would be too good.
    """

    plan: str
    plan_hash: str
    seed: int
    bare: Mapping[str, float] | None = None
    epochs: int | None = None
    before: Evaluation | None = None
    weights: bool = False
    accepted: bool = False

    @classmethod
    def of(cls, plan: Plan, seed: int = 0, **more: Any) -> Request:
        """Return the request for a plan."""
        return cls(plan.text, plan.hash, seed, **more)

    @property
    def is_bare(self) -> bool:
        """Whether the plan is the bare backbone."""
        return self.plan == BARE.text

    def reference(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the bare backbone's values, to which relative bounds refer. `values` if this is its own request."""
        return values if self.bare is None else self.bare


class TimeUp(BaseException):
    """Ends an evaluation in this process that exceeds the time limit. A module's `except Exception` cannot catch it."""


class RejectedError(Exception):
    """Rejects a plan before training, because it breaks a bound or because a module does not support its slot."""


@dataclass
class Findings:
    """The results of an evaluation so far. Each step adds its results. They are recorded even if a later step fails.

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
    """Base class of evaluators. An error of a plan is not raised but recorded in its evaluation.

    Every attribute and method that a search uses has a default here, except `find`.

    Attributes:
        constraints: Bounds on the values of a plan.
        device: The torch device on which plans are evaluated.
        takes_seed: Whether another seed can give another result.
        identity_init: Whether each inserted module starts behind a gate with the value 0.
        full_epochs: Number of epochs of the full budget. None if shorter evaluations are not possible.
        plan_costs: Computes the costs of a plan from the costs of its parts. None if the evaluator builds no models.
        is_portable: Whether the evaluator can be sent to another process. If False, each worker builds its own
            evaluator from the settings.
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
        findings = Findings()  # `find` fills in this object, so that the results before a failure are not lost
        try:
            with surroundings_kept():
                self.find(request, findings)
        except (KeyboardInterrupt, TimeUp):
            # Ctrl-C cannot be distinguished from a module that raises KeyboardInterrupt itself. Both end the search. If
            # a module raises it each time, its trial fails in the end, as that of a module that kills its process.
            raise
        except BaseException as error:
            # A module can be anybody's code. Nothing that it raises may end the search, not even SystemExit.
            findings.state, findings.reason = _outcome(error)
        finally:
            if os.getpid() != process:  # a module has forked, and the child must not continue the search
                os._exit(0)
        return Evaluation(
            plan=request.plan,
            plan_hash=request.plan_hash,
            seed=request.seed,
            wall_s=time.perf_counter() - begun,
            device=self.device,
            **vars(findings),
        )

    def watched(self, watch: Callable[[Pace], object]) -> Evaluator:
        """Return this evaluator, which calls `watch` with the pace of each training, if it trains.

        Args:
            watch: Called after the first seconds of a training, and then every ten seconds.
        """
        return self

    @abstractmethod
    def find(self, request: Request, findings: Findings) -> None:
        """Evaluate a plan, and write the results of each step into `findings`.

        Raises:
            RejectedError: If a gate rejects the plan.
            Exception: Any other exception. The evaluation is then a failed one, with the exception as the reason.
        """

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the values of a plan that are known exactly before its evaluation, such as costs, by name.

        Raises:
            InputError: If the plan cannot be built.
        """
        return {}

    def cost_error(self, plan: Plan) -> str | None:
        """Compare the costs of a plan's whole model with the sum of the costs of its parts.

        Returns:
            The differences as text, "" if there are none. None if the evaluator builds no models.
        """
        return None

    def measure_latency(self, plans: Sequence[Plan], seed: int, time_s: float) -> Profile | None:
        """Measure the latency of plans together. The first is the reference. The result names each by its hash.

        Returns:
            The measurement. None if the evaluator builds no models.
        """
        return None

    def check_bounds(
        self, values: Mapping[str, Any], request: Request, findings: Findings, *, varies: bool = True
    ) -> None:
        """Check the bounds on those values that are known so far.

        The bare backbone is the reference of every plan, so it is not rejected. The bound that it breaks is written
        into the reason of its findings.

        Args:
            values: The values, by name.
            request: The request.
            findings: The results so far.
            varies: Whether another seed or measurement can give other values.

        Raises:
            RejectedError: If a plan breaks a bound.
        """
        if varies and request.accepted:
            return
        reference = request.reference(values)
        for constraint in self.constraints:
            if constraint.name in values and not constraint.holds(values[constraint.name], reference):
                reason = constraint.reason(values[constraint.name], reference)
                if not request.is_bare:
                    raise RejectedError(reason)
                if reason not in findings.reason:  # costs are checked again after latency was measured
                    findings.reason = "; ".join(filter(None, [findings.reason, reason]))


def _outcome(error: BaseException) -> tuple[State, str]:
    """Return the state and the reason of an evaluation that an exception ended."""
    if isinstance(error, RejectedError):
        return "rejected", str(error)
    if isinstance(error, EvaluationError) and isinstance(error.reason, str):
        return "failed", f"{error.kind}: {error.reason}"
    return "failed", describe_error(error)


def failed(request: Request, reason: str, wall_s: float = 0.0) -> Evaluation:
    """Return a failed evaluation for a request that no evaluator finished."""
    return Evaluation(request.plan, request.plan_hash, request.seed, 0, "failed", reason, wall_s=wall_s)
