"""Evaluates a plan by calling a user's function.

Imports no torch, so that a process that only calls the function starts quickly.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasbench.errors import EvaluationError
from nasbench.objectives import COSTS, Constraint
from nasbench.runs.evaluation import Items
from nasbench.study.evaluators.base import Evaluator, Findings, Request

__all__ = ["AskedEvaluator", "EvaluateFunction"]

EvaluateFunction = Callable[..., Mapping[str, Any]]
"""A function `fn(plan)` that returns a dict of metrics. The plan is a dict that maps each slot to an expression's text.

The values of the returned dict are numbers. The function gets the arguments `seed=` and `epochs=` if it accepts them.
It can also return "items", a list with one value for each evaluation item. The mean of these values must be the first
objective that is not a cost.
"""

_ITEMS = "items"

_AGREEMENT = 1e-4
"""Largest allowed difference between the mean of the items and the metric, as a share of the mean absolute item."""


@dataclass(frozen=True)
class AskedEvaluator(Evaluator):
    """Calls a user's function for the metrics of a plan. No model is built and nothing is trained.

    Attributes:
        function: The function.
        expected: Names of the metrics that the function must return.
        constraints: Bounds on the returned metrics.
        epochs: The full budget in epochs, from the settings. None if they do not give it.
    """

    function: EvaluateFunction
    expected: Sequence[str]
    constraints: Sequence[Constraint] = ()
    epochs: int | None = None
    is_portable = True

    @property
    def takes_seed(self) -> bool:  # type: ignore[override]  # depends on the function
        """Whether the function accepts `seed=`."""
        parameters = inspect.signature(self.function).parameters.values()
        return any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)

    @property
    def takes_epochs(self) -> bool:
        """Whether the function has a parameter `epochs`. Only then can evaluations be shorter than the full budget."""
        # `**kwargs` does not count here, unlike for `seed`: it does not show that the function uses the number of
        # epochs
        return "epochs" in inspect.signature(self.function).parameters

    @property
    def full_epochs(self) -> int | None:  # type: ignore[override]
        """The full budget in epochs. None if the function cannot be given a smaller one."""
        return self.epochs if self.takes_epochs else None

    def find(self, request: Request, findings: Findings) -> None:
        """Call the function. It does not continue from the result of a shorter evaluation."""
        options = {"seed": request.seed} if self.takes_seed else {}
        if request.epochs is not None and self.takes_epochs:
            options["epochs"] = request.epochs
        # The canonical text of a plan is JSON. It is parsed without importing any module, so torch is not needed.
        answer = self.function(json.loads(request.plan), **options)
        metrics = self._checked(answer)
        if answer.get(_ITEMS) is not None:
            findings.items = self._checked_items(answer[_ITEMS], metrics)
        findings.metrics = metrics
        findings.fidelity = options.get("epochs", 0)
        self.check_bounds(findings.metrics, request)

    def _checked(self, answer: Mapping[str, Any]) -> dict[str, float]:
        if not isinstance(answer, Mapping):
            raise EvaluationError(f"evaluate returned {type(answer).__name__}, not a mapping of metric to number")
        missing = [name for name in self.expected if name not in answer]
        if missing:
            raise EvaluationError(f"evaluate returned {sorted(answer)}, without {', '.join(missing)}")
        metrics = {str(name): float(value) for name, value in answer.items() if name != _ITEMS}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise EvaluationError(f"{', '.join(bad)} is not finite", kind="nan")
        return metrics

    def _checked_items(self, given: Any, metrics: Mapping[str, float]) -> Items:
        import numpy as np  # imported here, because most functions return no items

        name = next((name for name in self.expected if name not in COSTS), None)
        if name is None:
            raise EvaluationError(
                "evaluate returned items, but every objective is a cost, and a cost has no values by item"
            )
        try:
            items = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            raise EvaluationError("the items that evaluate returned are not numbers") from None
        if items.ndim != 1 or not items.size:
            raise EvaluationError(f"evaluate returned items of shape {items.shape}; each item needs one number")
        if not np.isfinite(items).all():
            raise EvaluationError("an item is not finite", kind="nan")
        mean = float(items.mean())
        if abs(mean - metrics[name]) > _AGREEMENT * float(np.abs(items).mean()):
            raise EvaluationError(f"the mean of the items is {mean:.6g}, but {name} is {metrics[name]:.6g}")
        return items
