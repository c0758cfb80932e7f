"""The gate ladder: what happens to one plan, from building it to an immutable record.

    cost -> constraints -> build -> (latency) -> train -> record

A gate that refuses ends the ladder with state "rejected"; anything that breaks ends it with "failed". Either way the
evaluation is recorded with its reason, and never with a made-up number.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasbench import backbones, costs, insertion, training
from nasbench.costs.latency import Profile, device_lock, profile
from nasbench.errors import EvaluationError, InputError
from nasbench.objectives import Constraint
from nasbench.plan import Plan
from nasbench.plan_costs import PlanCosts
from nasbench.tasks import Task

__all__ = ["CallableEvaluator", "Evaluation", "Evaluator", "State", "TrainingEvaluator"]

State = Literal["complete", "rejected", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """What is known of one plan after one run through the gates. Immutable once recorded.

    Attributes:
        plan: The plan's canonical text.
        plan_hash: Its hash.
        seed: Of weights and data order.
        fidelity: Training epochs; 0 where nothing was trained.
        state: "complete", "rejected" (a gate refused it) or "failed" (it broke).
        reason: Why not complete; "" if it is.
        metrics: Trained metrics on the validation split.
        costs: params, macs, elementwise_flops, activations, exact, peak_memory_bytes where measured.
        wall_s: Seconds it took.
        training_s: Seconds of these spent in training.
        device: Where it ran.
        history: One entry an epoch.
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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-able data; `Evaluation(**data)` gives it back."""
        return asdict(self)

    @property
    def values(self) -> dict[str, float]:
        """Metrics and costs in one mapping: what objectives and constraints are named after."""
        return {**self.costs, **self.metrics}


@dataclass(frozen=True)
class Outcome:
    """An evaluation with what is too large for its record.

    Attributes:
        evaluation: The record.
        per_item: The primary metric per validation item, for paired comparisons; None where not trained.
        model: The trained model; None where not trained.
    """

    evaluation: Evaluation
    per_item: NDArray[np.float64] | None = None
    model: nn.Module | None = None


class Evaluator(Protocol):
    """Evaluates one plan under one seed. Never raises for a fault of the plan."""

    def __call__(self, plan: Plan, seed: int, bare: Mapping[str, float] | None) -> Outcome:
        """Evaluate `plan`; `bare` holds the bare backbone's values, None while that itself is evaluated."""


@dataclass(frozen=True)
class TrainingEvaluator:
    """Builds, counts and trains a plan on a task.

    Attributes:
        backbone: Name of the host.
        task: Data, loss and metric.
        recipe: How it is trained.
        costs: Counts a plan from its parts, before anything is built.
        constraints: Bounds on costs, checked before training.
        counted: Costs that are objectives or bounded: their count must be exact.
        device: Torch device.
        pretrained: Load timm's weights.
        checkpoint: Load these weights.
        freeze: Train what was inserted, and the head, alone.
        allow_lower_bound: Accept counts that are only lower bounds.
        latency_s: Seconds of one latency measurement, where latency is an objective or bounded.
    """

    backbone: str
    task: Task
    recipe: training.Recipe
    costs: PlanCosts
    constraints: Sequence[Constraint] = ()
    counted: Sequence[str] = ()
    device: str = "cpu"
    pretrained: bool = False
    checkpoint: str | None = None
    freeze: bool = False
    allow_lower_bound: bool = False
    latency_s: float = 5.0

    @property
    def identity_init(self) -> bool:
        """Whether insertion preserves the function: where weights were loaded (DESIGN rule 7)."""
        return self.pretrained or self.checkpoint is not None

    def __call__(self, plan: Plan, seed: int, bare: Mapping[str, float] | None) -> Outcome:
        """Run `plan` through the gates."""
        begun = time.perf_counter()
        found = _Findings()
        try:
            result = self._ladder(plan, seed, bare, found)
            state: State = "complete"
            reason = ""
        except _RejectedError as refusal:
            result, state, reason = None, "rejected", str(refusal)
        except EvaluationError as error:
            result, state, reason = None, "failed", f"{error.kind}: {error.reason}"
        except Exception as error:
            result, state, reason = None, "failed", describe(error)
        evaluation = Evaluation(
            plan=plan.text,
            plan_hash=plan.hash,
            seed=seed,
            fidelity=result.epochs if result else 0,
            state=state,
            reason=reason,
            metrics=result.metrics if result else {},
            costs=found.costs,
            wall_s=time.perf_counter() - begun,
            training_s=result.wall_s if result else 0.0,
            device=self.device,
            history=list(result.history) if result else [],
        )
        return Outcome(evaluation, result.per_item if result else None, found.model if result else None)

    def build(self, plan: Plan, seed: int = 0) -> nn.Module:
        """Build the model of a plan; the host's initial weights depend on the seed alone, not on the plan."""
        torch.manual_seed(seed)
        host = backbones.create_backbone(
            self.backbone,
            input_size=self.task.input_size,
            pretrained=self.pretrained,
            checkpoint=self.checkpoint,
            **self.task.model_kwargs,
        )
        torch.manual_seed(seed)
        model = insertion.insert(host, plan, input_size=self.task.input_size, identity_init=self.identity_init)
        if self.freeze:
            insertion.freeze_backbone(model)
        return model

    def cost_error(self, plan: Plan) -> str:
        """Count a plan's whole model, and say where that differs from the sum of its parts; "" where it does not."""
        added = self.costs(plan)
        whole = costs.measure(self.build(plan), input_size=self.task.input_size)
        names = ("params", "macs", "elementwise_flops", "activations")
        return "; ".join(
            f"{name}: {getattr(added, name):,} from the parts, {getattr(whole, name):,} as a whole"
            for name in names
            if getattr(added, name) != getattr(whole, name)
        )

    def _ladder(
        self, plan: Plan, seed: int, bare: Mapping[str, float] | None, found: _Findings
    ) -> training.TrainResult:
        try:
            found.costs = self.costs(plan).columns
            self._check(found.costs, found.costs if bare is None else bare)
            found.model = self.build(plan, seed)
        except InputError as error:
            raise _RejectedError(str(error)) from None
        if "latency_ms" in self.counted:
            found.costs |= self._latency(found.model, bare)
            self._check(found.costs, found.costs if bare is None else bare)
        with device_lock(self.device, shared=True) as lock:  # a measurement elsewhere waits for one step, no longer
            result = training.train(
                found.model, self.task, self.recipe, seed=seed, device=self.device, on_step=lock.yield_device
            )
        bad = [name for name, value in result.metrics.items() if not math.isfinite(value)]
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite after training", kind="nan")
        return result

    def _latency(self, model: nn.Module, bare: Mapping[str, float] | None) -> dict[str, Any]:
        """Measure beside the bare backbone; drift cancels in the ratio, which scales the bare backbone's figure."""
        models = {"bare": self.build(Plan({})), "plan": model}
        found = profile(models, input_size=self.task.input_size, device=self.device, time_s=self.latency_s)
        columns = latency_columns(found, "bare" if bare is None else "plan")
        return columns if bare is None else {**columns, "latency_ms": columns["latency_ratio"] * bare["latency_ms"]}

    def _check(self, found: Mapping[str, Any], bare: Mapping[str, float]) -> None:
        if not found["exact"] and not self.allow_lower_bound and {"macs", "elementwise_flops"} & set(self.counted):
            raise _RejectedError(
                f"its MACs are only a lower bound: no formula for {', '.join(found['unknown_ops'])} "
                "(nasbench.costs.register_formula adds one, allow_lower_bound accepts it)"
            )
        for constraint in self.constraints:
            if constraint.name in found and not constraint.holds(found[constraint.name], bare):
                raise _RejectedError(constraint.reason(found[constraint.name], bare))


@dataclass(frozen=True)
class CallableEvaluator:
    """Asks a user's function for the metrics of a plan; no model is built and nothing is trained.

    Attributes:
        function: `fn(plan)` or `fn(plan, seed=...)`, with the plan as a dict of slot to expression text; returns a
            mapping of metric to number.
        expected: Metrics it must return.
        constraints: Bounds on what it returns.
    """

    function: Callable[..., Mapping[str, float]]
    expected: Sequence[str]
    constraints: Sequence[Constraint] = ()

    @property
    def takes_seed(self) -> bool:
        """Whether the function accepts `seed=`: only then does a second seed make sense."""
        parameters = inspect.signature(self.function).parameters.values()
        return any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)

    def __call__(self, plan: Plan, seed: int, bare: Mapping[str, float] | None) -> Outcome:
        """Call the function on `plan`."""
        begun = time.perf_counter()
        metrics: dict[str, float] = {}
        state: State = "complete"
        reason = ""
        try:
            texts = {slot: expression.canonical() for slot, expression in plan.items()}
            answer = self.function(texts, seed=seed) if self.takes_seed else self.function(texts)
            metrics = self._checked(answer)
            for constraint in self.constraints:
                if not constraint.holds(metrics[constraint.name], metrics if bare is None else bare):
                    state, reason = "rejected", constraint.reason(metrics[constraint.name], bare or metrics)
        except EvaluationError as error:
            state, reason, metrics = "failed", f"{error.kind}: {error.reason}", {}
        except Exception as error:
            state, reason, metrics = "failed", describe(error), {}
        return Outcome(
            Evaluation(
                plan.text, plan.hash, seed, 0, state, reason, metrics=metrics, wall_s=time.perf_counter() - begun
            )
        )

    def _checked(self, answer: Mapping[str, float]) -> dict[str, float]:
        if not isinstance(answer, Mapping):
            raise EvaluationError(f"evaluate returned {type(answer).__name__}, not a mapping of metric to number")
        missing = [name for name in self.expected if name not in answer]
        if missing:
            raise EvaluationError(f"evaluate returned {sorted(answer)}, without {', '.join(missing)}")
        metrics = {str(name): float(value) for name, value in answer.items()}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite", kind="nan")
        return metrics


class _RejectedError(Exception):
    """A gate refused the plan."""


class _Findings:
    """What the ladder has found so far, kept when a later rung breaks."""

    def __init__(self) -> None:
        self.costs: dict[str, Any] = {}
        self.model: nn.Module | None = None


def latency_columns(found: Profile, name: str) -> dict[str, Any]:
    """Return the columns of the trials table that a latency measurement fills."""
    row = found[name]
    return {
        "latency_ms": row.latency_ms,
        "latency_low_ms": row.low_ms,
        "latency_high_ms": row.high_ms,
        "latency_ratio": row.ratio,
        "latency_ratio_low": row.ratio_low,
        "latency_ratio_high": row.ratio_high,
        "latency_verdict": row.verdict,
        "latency_scenario": found.scenario.text,
    }


def describe(error: BaseException) -> str:
    """Return an exception as one line for the reason column."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
