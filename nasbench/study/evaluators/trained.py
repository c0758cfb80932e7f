"""The gates that a plan must pass before it is trained, and the training itself.

    cost -> constraints -> build -> (latency) -> (zero-cost proxies) -> train -> record

A gate is a check that can reject the plan. The cheapest gate comes first, so the model of a plan that breaks a bound on
its costs is never built. If a gate rejects the plan, the state of the evaluation is "rejected". If an error occurs, the
state is "failed". In both cases, the evaluation is recorded with the reason and the values known so far.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_model  # unlike `save_file`, it can store a tensor that has two names
from torch import Tensor, nn

from nasbench.backbones.insertion import plugins_of
from nasbench.errors import EvaluationError, InputError, kind_of_number
from nasbench.library.plan import BARE, Plan
from nasbench.measurement import costs
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.measurement.latency.device_profile import DeviceProfile
from nasbench.measurement.latency.profiler import Profile, device_lock, profile
from nasbench.objectives import RETEST, Constraint
from nasbench.runs.latency import measured_columns, predicted_columns
from nasbench.runs.models import ModelBuilder
from nasbench.study.evaluators.base import Evaluator, Findings, RejectedError, Request
from nasbench.study.evaluators.pace import Pace, PaceMaker
from nasbench.tasks import Task, apply
from nasbench.tasks.recipe import Recipe
from nasbench.training import proxies
from nasbench.training.loop import total_steps, train

__all__ = ["TrainedEvaluator"]

_LOOKED_AT = 32
"""Number of items with which the module is looked for whose output is not finite."""


@dataclass(frozen=True)
class TrainedEvaluator(Evaluator):
    """Builds a plan's model, counts its costs and trains it on a task.

    Attributes:
        builder: Builds the models of plans.
        task: Data, loss and metric.
        recipe: The training recipe.
        plan_costs: Computes the costs of a plan from the costs of its parts, before its model is built.
        constraints: Bounds on costs and proxies, checked before training.
        counted: Names of the values that are objectives or have a bound. If macs or elementwise_flops is among them,
            the counts of operations must be exact.
        device: Torch device.
        allow_lower_bound: Whether to accept counts that are only lower bounds.
        latency_s: Seconds that one latency measurement takes. Latency is measured if it is an objective or has a bound.
        predictor: Device profile that predicts latency before the model is built. With it, latency is not measured.
        predictor_name: The file of the device profile.
        proxies: Zero-cost proxies to compute before training. Each is computed for two untrained models, to estimate
            its noise.
        watch: Called with the pace of each training, as `Evaluator.watched` says. None if nobody watches.
    """

    builder: ModelBuilder
    task: Task
    recipe: Recipe
    # `field()` makes it required. Without it, the default would be None, as in the base class.
    plan_costs: PlanCosts = field()
    constraints: Sequence[Constraint] = ()
    counted: Sequence[str] = ()
    device: str = "cpu"
    allow_lower_bound: bool = False
    latency_s: float = 5.0
    predictor: DeviceProfile | None = None
    predictor_name: str = ""
    proxies: Sequence[str] = ()
    watch: Callable[[Pace], object] | None = None

    @property
    def identity_init(self) -> bool:  # type: ignore[override]  # defined by the builder
        """Whether the backbone computes the same function after the modules are inserted."""
        return self.builder.identity_init

    @property
    def full_epochs(self) -> int:  # type: ignore[override]  # defined by the recipe
        """Number of epochs of the full budget."""
        return self.recipe.epochs

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the costs of a plan and, if there is a device profile, the predicted latency.

        Raises:
            InputError: If a module does not support its slot, or if the plan is not in the profiled space.
        """
        costs = self.plan_costs(plan).columns
        return costs if self.predictor is None else costs | predicted_columns(self.predictor, plan, self.predictor_name)

    def watched(self, watch: Callable[[Pace], object]) -> TrainedEvaluator:
        """Return this evaluator with a watcher. See `Evaluator.watched`."""
        return replace(self, watch=watch)

    def cost_error(self, plan: Plan) -> str:
        """Count the costs of a plan's whole model, and return how they differ from the sum of the costs of its parts.

        See `Evaluator.cost_error`.
        """
        added = self.plan_costs(plan)
        whole = costs.measure(self.builder.build(plan), input_size=self.task.input_size)
        names = ("params", "macs", "elementwise_flops", "activations")
        return "; ".join(
            f"{name}: {getattr(added, name):,} from the parts, {getattr(whole, name):,} as a whole"
            for name in names
            if getattr(added, name) != getattr(whole, name)
        )

    def measure_latency(self, plans: Sequence[Plan], seed: int, time_s: float) -> Profile:
        """Measure the latency of plans together. See `Evaluator.measure_latency`."""
        models = {plan.hash: self.builder.build(plan, seed) for plan in plans}
        return profile(models, input_size=self.task.input_size, device=self.device, time_s=time_s)

    def find(self, request: Request, findings: Findings) -> None:
        """Check the gates, then train. After a shorter training, latency and proxies are not measured again."""
        plan, before = Plan.of(request.plan), request.before
        try:
            # the costs of a shorter training can include a measured latency, so they are used again
            findings.costs = self.known(plan) if before is None else dict(before.costs)
            self._check(findings.costs, request, findings, varies=before is not None)
            model = self.builder.build(plan, request.seed)
        except InputError as error:
            raise RejectedError(str(error)) from None
        if before is None:
            self._pass_measured_gates(plan, model, request, findings)
        else:
            findings.proxies = dict(before.proxies)
        try:
            self._train(model, request, findings)
        except EvaluationError as error:
            try:
                who = self._not_finite(plan, request.seed) if error.kind in ("nan", "inf") else ""
            except Exception:  # the reason of the failure counts, and not that of a second look
                who = ""
            if not who:
                raise
            raise EvaluationError(f"{error.reason}: {who}", kind=error.kind) from error

    def _not_finite(self, plan: Plan, seed: int) -> str:
        """Return which module of a plan is the first whose output is not finite, in an untrained model. "" if none is.

        In a trained model every output can be, because one that is not finite spreads to all weights in one step.
        """
        model = self.builder.build(plan, seed, identity_init=False)
        found: list[str] = []

        def watch(slot: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                if not found and isinstance(output, Tensor) and not bool(output.isfinite().all()):
                    found.append(slot)

            return hook

        for slot, module in plugins_of(model).items():
            module.register_forward_hook(watch(slot))
        size = min(self.recipe.batch_size, _LOOKED_AT)
        batch, _ = next(iter(self.task.train_batches(size, seed=seed, epoch=0)))
        with torch.no_grad():
            apply(model.train(), batch)
        return (
            f"slot {found[0]}, {plan[found[0]]} gives values that are not finite before any training" if found else ""
        )

    def _train(self, model: nn.Module, request: Request, findings: Findings) -> None:
        # a shorter training has a recipe whose learning-rate schedule ends with its last epoch
        recipe = self.recipe if request.epochs is None else self.recipe.with_settings({"epochs": request.epochs})
        # Several trainings share the device. A latency measurement needs the device alone, so a training pauses between
        # two steps while it runs.
        with device_lock(self.device, shared=True) as lock:
            pace = None if self.watch is None else PaceMaker(total_steps(recipe, self.task), self.watch)

            def on_step(steps: int) -> None:
                lock.yield_device()
                if pace is not None:
                    pace.step(steps)

            result = train(model, self.task, recipe, seed=request.seed, device=self.device, on_step=on_step)
        bad = {name: value for name, value in result.metrics.items() if not math.isfinite(value)}
        findings.metrics = {name: value for name, value in result.metrics.items() if name not in bad}
        findings.fidelity, findings.training_s, findings.batch_parts = recipe.epochs, result.wall_s, result.batch_parts
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite after training", kind=kind_of_number(*bad.values()))
        findings.items, findings.history = result.per_item, list(result.history)
        if request.weights:
            findings.weights = _weights_of(model, request.seed)

    def _pass_measured_gates(self, plan: Plan, model: nn.Module, request: Request, findings: Findings) -> None:
        """Measure latency and compute proxies, if they are requested, and check their bounds."""
        if "latency_ms" in self.counted and self.predictor is None:
            # Without a device profile, latency is not known before this point. Its bounds are checked before the
            # training, which takes longer.
            findings.costs |= self._latency(model, request)
            self._check(findings.costs, request, findings, varies=True)
        if self.proxies:
            findings.proxies = self._proxies(plan, request)
            self.check_bounds(findings.proxies, request, findings)

    def _proxies(self, plan: Plan, request: Request) -> dict[str, float]:
        """Compute the proxies of the untrained model, and of a second one with other weights and batches.

        A proxy without a value is left out. If there is a bound on this proxy, the plan is rejected. Modules are
        inserted without gates: with gates of value 0, every plan would have the score of the bare backbone.
        """
        # the second seed is derived from the first, so that the second score can also be reproduced
        seed = request.seed
        again = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
        bounded = set() if request.accepted else {constraint.name for constraint in self.constraints}
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
        """Measure the plan together with the bare backbone, and return the latency columns of the plan.

        The latency of a plan is the measured ratio of plan to bare backbone, times the latency that was recorded for
        the bare backbone, and so is its interval. If the speed of the device changes between two measurements, the
        ratio does not change.
        """
        models = {"bare": self.builder.build(BARE), "plan": model}
        measurement = profile(models, input_size=self.task.input_size, device=self.device, time_s=self.latency_s)
        if measurement.stopped == "no accepted samples":
            raise EvaluationError(f"no accepted latency samples: the clock of {self.device} stayed low")
        if request.bare is None:  # the request is for the bare backbone itself
            return measured_columns(measurement, "bare")
        columns = measured_columns(measurement, "plan")
        for end in ("", "_low", "_high"):
            columns[f"latency{end}_ms"] = columns[f"latency_ratio{end}"] * request.bare["latency_ms"]
        return columns

    def _check(self, known: Mapping[str, Any], request: Request, findings: Findings, *, varies: bool) -> None:
        if not known["exact"] and not self.allow_lower_bound and {"macs", "elementwise_flops"} & set(self.counted):
            raise RejectedError(
                "its operation counts are only lower bounds, because there is no formula for "
                f"{', '.join(known['unknown_ops'])} "
                "(nasbench.register_formula adds one, allow_lower_bound accepts it)"
            )
        self.check_bounds(known, request, findings, varies=varies)


def _weights_of(model: nn.Module, seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # `save_model` can write only to a file
        file = Path(folder) / "model.safetensors"
        save_model(model, str(file), {"seed": str(seed)})
        return file.read_bytes()
