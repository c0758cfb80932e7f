"""The gate ladder: what happens to one plan, from building it to an immutable record.

    cost -> constraints -> build -> (latency) -> (zero-cost proxies) -> train -> record

A gate that refuses ends the ladder with state "rejected"; anything that breaks ends it with "failed". Either way the
evaluation is recorded with its reason, and never with a made-up number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench import backbones
from nasbench.backbones import insertion
from nasbench.errors import EvaluationError, InputError
from nasbench.library.plan import Plan
from nasbench.measurement import costs
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.measurement.latency.device_profile import DeviceProfile
from nasbench.measurement.latency.profiler import Profile, device_lock, profile
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation, Evaluator, Outcome, State, describe
from nasbench.study.evaluators.asked import CallableEvaluator
from nasbench.tasks import Task
from nasbench.training import loop as training
from nasbench.training import proxies

__all__ = ["CallableEvaluator", "Evaluation", "Evaluator", "Outcome", "State", "TrainingEvaluator"]

RETEST = "_retest"
"""Ends the name of a proxy's second score: other initial weights, other batches."""


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
        predictor: Predicts latency before anything is built, instead of a measurement.
        predictor_name: What the predictor was read from.
        proxies: Zero-cost proxies to compute before training, twice each, so that their own noise is known.
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
    predictor: DeviceProfile | None = None
    predictor_name: str = ""
    proxies: Sequence[str] = ()

    @property
    def identity_init(self) -> bool:
        """Whether insertion preserves the function: where weights were loaded (DESIGN rule 7)."""
        return self.pretrained or self.checkpoint is not None

    def __call__(
        self,
        plan: Plan,
        seed: int,
        bare: Mapping[str, float] | None,
        epochs: int | None = None,
        before: Evaluation | None = None,
    ) -> Outcome:
        """Run `plan` through the gates.

        Args:
            plan: The plan.
            seed: Of weights and data order.
            bare: The bare backbone's values, None while that itself is evaluated.
            epochs: Train so long, from the start and with a schedule of that length; the recipe's epochs if None.
            before: What a shorter training of the same plan and seed gave: it passed the gates, they are not run again.
        """
        begun = time.perf_counter()
        found = _Findings()
        recipe = self.recipe if epochs is None else self.recipe.with_settings({"epochs": epochs})
        try:
            result = self._ladder(plan, seed, bare, found, recipe, before)
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
            fidelity=recipe.epochs if result else 0,
            state=state,
            reason=reason,
            metrics=result.metrics if result else {},
            costs=found.costs,
            wall_s=time.perf_counter() - begun,
            training_s=result.wall_s if result else 0.0,
            device=self.device,
            history=list(result.history) if result else [],
            batch_parts=result.batch_parts if result else 1,
            proxies=found.proxies,
        )
        model = found.model if result else None
        return Outcome(evaluation, result.per_item if result else None, model, found.latency)

    def build(self, plan: Plan, seed: int = 0, *, identity_init: bool | None = None) -> nn.Module:
        """Build the model of a plan; the host's initial weights depend on the seed alone, not on the plan.

        Args:
            plan: The plan.
            seed: Of the initial weights.
            identity_init: Whether modules stand behind closed gates; `self.identity_init` if None.
        """
        torch.manual_seed(seed)
        host = backbones.create_backbone(
            self.backbone,
            input_size=self.task.input_size,
            pretrained=self.pretrained,
            checkpoint=self.checkpoint,
            **self.task.model_kwargs,
        )
        torch.manual_seed(seed)
        gated = self.identity_init if identity_init is None else identity_init
        model = insertion.insert(host, plan, input_size=self.task.input_size, identity_init=gated)
        if self.freeze:
            insertion.freeze_backbone(model)
        return model

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return what is known of a plan before it is built: its counts and, with a device profile, its latency.

        Raises:
            InputError: If a module cannot serve its slot, or the plan is not in the space that was profiled.
        """
        found = self.costs(plan).columns
        return found if self.predictor is None else found | predicted_columns(self.predictor, plan, self.predictor_name)

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
        self,
        plan: Plan,
        seed: int,
        bare: Mapping[str, float] | None,
        found: _Findings,
        recipe: training.Recipe,
        before: Evaluation | None,
    ) -> training.TrainResult:
        try:
            found.costs = self.known(plan) if before is None else dict(before.costs)
            self._check(found.costs, found.costs if bare is None else bare)
            found.model = self.build(plan, seed)
        except InputError as error:
            raise _RejectedError(str(error)) from None
        if before is None:
            self._measured_gates(plan, seed, bare, found)
        else:
            found.proxies = dict(before.proxies)
        with device_lock(self.device, shared=True) as lock:  # a measurement elsewhere waits for one step, no longer
            result = training.train(
                found.model, self.task, recipe, seed=seed, device=self.device, on_step=lock.yield_device
            )
        bad = [name for name, value in result.metrics.items() if not math.isfinite(value)]
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite after training", kind="nan")
        return result

    def _measured_gates(self, plan: Plan, seed: int, bare: Mapping[str, float] | None, found: _Findings) -> None:
        """Measure what is asked for before training, and reject on it."""
        assert found.model is not None
        if "latency_ms" in self.counted and self.predictor is None:
            found.latency = self._latency(found.model)
            found.costs |= _relative(latency_columns(found.latency, "bare" if bare is None else "plan"), bare)
            self._check(found.costs, found.costs if bare is None else bare)
        if self.proxies:
            found.proxies = self._proxies(plan, seed)
            self._check_bounds(found.proxies, found.proxies if bare is None else bare)

    def _proxies(self, plan: Plan, seed: int) -> dict[str, float]:
        """Score the untrained model, and a second one with other weights and batches.

        A proxy that has no value is left out; where it is bounded, the plan is rejected. Modules stand without gates:
        behind closed ones every plan scores as the bare backbone does.
        """
        again = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
        bounded = {constraint.name for constraint in self.constraints}
        scores: dict[str, float] = {}
        with device_lock(self.device, shared=True):
            for drawn, ending in ((seed, ""), (again, RETEST)):
                model = self.build(plan, drawn, identity_init=False)
                for name in self.proxies:
                    try:
                        scores[name + ending] = proxies.score(name, model, self.task, seed=drawn, device=self.device)
                    except EvaluationError as error:
                        if name + ending in bounded:
                            raise _RejectedError(error.reason) from None
        return scores

    def _latency(self, model: nn.Module) -> Profile:
        """Measure "plan" beside the "bare" backbone."""
        models = {"bare": self.build(Plan({})), "plan": model}
        found = profile(models, input_size=self.task.input_size, device=self.device, time_s=self.latency_s)
        if found.stopped == "no accepted samples":
            raise EvaluationError(f"no accepted latency samples: the clock of {self.device} stayed low")
        return found

    def _check(self, found: Mapping[str, Any], bare: Mapping[str, float]) -> None:
        if not found["exact"] and not self.allow_lower_bound and {"macs", "elementwise_flops"} & set(self.counted):
            raise _RejectedError(
                f"its MACs are only a lower bound: no formula for {', '.join(found['unknown_ops'])} "
                "(nasbench.measurement.costs.register_formula adds one, allow_lower_bound accepts it)"
            )
        self._check_bounds(found, bare)

    def _check_bounds(self, found: Mapping[str, Any], bare: Mapping[str, float]) -> None:
        for constraint in self.constraints:
            if constraint.name in found and not constraint.holds(found[constraint.name], bare):
                raise _RejectedError(constraint.reason(found[constraint.name], bare))


class _RejectedError(Exception):
    """A gate refused the plan."""


class _Findings:
    """What the ladder has found so far, kept when a later rung breaks."""

    def __init__(self) -> None:
        self.costs: dict[str, Any] = {}
        self.proxies: dict[str, float] = {}
        self.model: nn.Module | None = None
        self.latency: Profile | None = None


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


def _relative(columns: dict[str, Any], bare: Mapping[str, float] | None) -> dict[str, Any]:
    """Scale the bare backbone's own figure by the ratio to it, in which drift cancels."""
    return columns if bare is None else {**columns, "latency_ms": columns["latency_ratio"] * bare["latency_ms"]}


def predicted_columns(found: DeviceProfile, plan: Plan, name: str) -> dict[str, Any]:
    """Return the columns of the trials table that a prediction fills; `name` tells where the device profile is."""
    predicted, scenario = found.predict(plan), found.scenario
    return {
        "latency_ms": predicted.latency_ms,
        "latency_ratio": predicted.ratio,
        "latency_predicted": True,
        "latency_scenario": f"predicted from {name}, made {scenario.date[:10]}: {scenario.text}",
    }
