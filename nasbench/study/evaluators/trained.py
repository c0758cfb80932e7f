"""The gate ladder: what happens to one plan, from building it to an immutable record.

    cost -> constraints -> build -> (latency) -> (zero-cost proxies) -> train -> record

A gate that refuses ends the ladder with state "rejected". Anything that breaks ends it with "failed". Either way the
evaluation is recorded with its reason, and never with a made-up number.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_model  # knows what to do with weights that two names share
from torch import nn

from nasbench.errors import EvaluationError, InputError
from nasbench.library.plan import BARE, Plan
from nasbench.measurement import costs
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.measurement.latency.device_profile import DeviceProfile
from nasbench.measurement.latency.profiler import Profile, device_lock, profile
from nasbench.objectives import RETEST, Constraint
from nasbench.runs.latency import measured_columns, predicted_columns
from nasbench.runs.models import ModelBuilder
from nasbench.study.evaluators.base import Evaluator, Findings, RejectedError, Request
from nasbench.tasks import Task
from nasbench.tasks.recipe import Recipe
from nasbench.training import proxies
from nasbench.training.loop import train

__all__ = ["TrainedEvaluator"]


@dataclass(frozen=True)
class TrainedEvaluator(Evaluator):
    """Builds, counts and trains a plan on a task.

    Attributes:
        builder: Builds the model of a plan.
        task: Data, loss and metric.
        recipe: How it is trained.
        plan_costs: Counts a plan from its parts, before anything is built.
        constraints: Bounds on costs, checked before training.
        counted: Costs that are objectives or bounded: their count must be exact.
        device: Torch device.
        allow_lower_bound: Accept counts that are only lower bounds.
        latency_s: Seconds of one latency measurement, where latency is an objective or bounded.
        predictor: Predicts latency before anything is built, instead of a measurement.
        predictor_name: What the predictor was read from.
        proxies: Zero-cost proxies to compute before training, twice each, so that their own noise is known.
    """

    builder: ModelBuilder
    task: Task
    recipe: Recipe
    plan_costs: PlanCosts = field()  # required: the base class has a default that must not be taken
    constraints: Sequence[Constraint] = ()
    counted: Sequence[str] = ()
    device: str = "cpu"
    allow_lower_bound: bool = False
    latency_s: float = 5.0
    predictor: DeviceProfile | None = None
    predictor_name: str = ""
    proxies: Sequence[str] = ()

    @property
    def identity_init(self) -> bool:  # type: ignore[override]  # the builder knows
        """Whether insertion preserves the host's function."""
        return self.builder.identity_init

    @property
    def full_epochs(self) -> int:  # type: ignore[override]  # the recipe knows
        """Epochs of a full training."""
        return self.recipe.epochs

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return a plan's counts and, with a device profile, its latency.

        Raises:
            InputError: If a module cannot serve its slot, or the plan is not in the space that was profiled.
        """
        found = self.plan_costs(plan).columns
        return found if self.predictor is None else found | predicted_columns(self.predictor, plan, self.predictor_name)

    def cost_error(self, plan: Plan) -> str:
        """Count a plan's whole model, and say where that differs from the sum of its parts; "" where it does not."""
        added = self.plan_costs(plan)
        whole = costs.measure(self.builder.build(plan), input_size=self.task.input_size)
        names = ("params", "macs", "elementwise_flops", "activations")
        return "; ".join(
            f"{name}: {getattr(added, name):,} from the parts, {getattr(whole, name):,} as a whole"
            for name in names
            if getattr(added, name) != getattr(whole, name)
        )

    def measure_latency(self, plans: Sequence[Plan], seed: int, time_s: float) -> Profile:
        """Measure the latency of plans side by side; see `Evaluator.measure_latency`."""
        models = {plan.hash: self.builder.build(plan, seed) for plan in plans}
        return profile(models, input_size=self.task.input_size, device=self.device, time_s=time_s)

    def find(self, request: Request, found: Findings) -> None:
        """Pass the gates and train; after a shorter training the gates are not passed again."""
        plan, before = Plan.of(request.plan), request.before
        try:
            found.costs = self.known(plan) if before is None else dict(before.costs)
            self._check(found.costs, request)
            model = self.builder.build(plan, request.seed)
        except InputError as error:
            raise RejectedError(str(error)) from None
        if before is None:
            self._pass_measured_gates(plan, model, request, found)
        else:
            found.proxies = dict(before.proxies)
        self._train(model, request, found)

    def _train(self, model: nn.Module, request: Request, found: Findings) -> None:
        recipe = self.recipe if request.epochs is None else self.recipe.with_settings({"epochs": request.epochs})
        with device_lock(self.device, shared=True) as lock:  # a measurement elsewhere waits for one step, no longer
            result = train(model, self.task, recipe, seed=request.seed, device=self.device, on_step=lock.yield_device)
        bad = [name for name, value in result.metrics.items() if not math.isfinite(value)]
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite after training", kind="nan")
        found.metrics, found.items, found.history = result.metrics, result.per_item, list(result.history)
        found.fidelity, found.training_s, found.batch_parts = recipe.epochs, result.wall_s, result.batch_parts
        if request.weights:
            found.weights = _weights_of(model)

    def _pass_measured_gates(self, plan: Plan, model: nn.Module, request: Request, found: Findings) -> None:
        """Measure what is asked for before training, and reject on it."""
        if "latency_ms" in self.counted and self.predictor is None:
            found.costs |= self._latency(model, request)
            self._check(found.costs, request)
        if self.proxies:
            found.proxies = self._proxies(plan, request.seed)
            self.check_bounds(found.proxies, request)

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
                model = self.builder.build(plan, drawn, identity_init=False)
                for name in self.proxies:
                    try:
                        scores[name + ending] = proxies.score(name, model, self.task, seed=drawn, device=self.device)
                    except EvaluationError as error:
                        if name + ending in bounded:
                            raise RejectedError(error.reason) from None
        return scores

    def _latency(self, model: nn.Module, request: Request) -> dict[str, Any]:
        """Measure the plan beside the bare backbone and return its columns.

        The bare backbone's own figure is scaled by the ratio to it, in which drift cancels.
        """
        models = {"bare": self.builder.build(BARE), "plan": model}
        found = profile(models, input_size=self.task.input_size, device=self.device, time_s=self.latency_s)
        if found.stopped == "no accepted samples":
            raise EvaluationError(f"no accepted latency samples: the clock of {self.device} stayed low")
        if request.bare is None:
            return measured_columns(found, "bare")
        columns = measured_columns(found, "plan")
        return {**columns, "latency_ms": columns["latency_ratio"] * request.bare["latency_ms"]}

    def _check(self, known: Mapping[str, Any], request: Request) -> None:
        if not known["exact"] and not self.allow_lower_bound and {"macs", "elementwise_flops"} & set(self.counted):
            raise RejectedError(
                f"its MACs are only a lower bound: no formula for {', '.join(known['unknown_ops'])} "
                "(nasbench.costs.register_formula adds one, allow_lower_bound accepts it)"
            )
        self.check_bounds(known, request)


def _weights_of(model: nn.Module) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(model, str(file))
        return file.read_bytes()
