"""Evaluates a plan by calling a user's function.

Imports no torch, so that a process that only calls the function starts quickly.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasbench.errors import EvaluationError, kind_of_number, nearest
from nasbench.library.plan import Plan
from nasbench.objectives import COSTS, Constraint
from nasbench.runs.columns import metric_name_fault
from nasbench.runs.evaluation import Items, describe_error
from nasbench.study.evaluators.base import Evaluator, Findings, Request
from nasbench.text import clean

__all__ = [
    "AskedEvaluator",
    "EvaluateFunction",
    "KnownError",
    "KnownFunction",
    "check_known",
    "is_same",
    "known_values",
]

EvaluateFunction = Callable[..., Mapping[str, Any]]
"""A function `fn(plan)` that returns a dict of metrics. The plan is a dict that maps each slot to an expression's text.

The values of the returned dict are numbers. The function gets the arguments `seed=` and `epochs=` if it accepts them.
It can also return "items", a list with one value for each evaluation item. The mean of these values must be the first
objective that is not a cost.
"""

KnownFunction = Callable[..., Mapping[str, Any]]
"""A function `fn(plan)` that returns a dict of values that are known exactly before the plan is evaluated."""


class KnownError(EvaluationError):
    """A user's function `known` failed for a plan, or returned something else than finite numbers by usable names."""


_ITEMS = "items"

_AGREEMENT = 1e-4
"""Largest allowed difference between the mean of the items and the metric, as a share of the mean absolute item."""

_ROUNDING = 1e-6
"""Largest allowed difference between a value that is known before and the one that is returned, as a share of it."""


@dataclass(frozen=True)
class AskedEvaluator(Evaluator):
    """Calls a user's function for the metrics of a plan. No model is built and nothing is trained.

    Attributes:
        function: The function.
        expected: Names of the metrics that the function must return.
        constraints: Bounds on the returned metrics.
        epochs: The full budget in epochs, from the settings. None if they do not give it.
        known_function: A user's function that returns the values that are known before an evaluation. None if nothing
            is known. A plan whose known values break a bound is rejected, and `function` is not called.
    """

    function: EvaluateFunction
    expected: Sequence[str]
    constraints: Sequence[Constraint] = ()
    epochs: int | None = None
    known_function: KnownFunction | None = None
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

    def known(self, plan: Plan) -> dict[str, Any]:
        """Return the values that the user's function `known` returns for a plan.

        Raises:
            KnownError: If they are not finite numbers, or if it raises an error.
        """
        return known_values(self.known_function, plan)

    def find(self, request: Request, findings: Findings) -> None:
        """Call the function. It does not continue from the result of a shorter evaluation."""
        options = {"seed": request.seed} if self.takes_seed else {}
        if request.epochs is not None and self.takes_epochs:
            options["epochs"] = request.epochs
        findings.metrics = known = self.known(Plan.of(request.plan)) if self.known_function is not None else {}
        self.check_bounds(known, request, findings, varies=False)
        # The canonical text of a plan is JSON. It is parsed without importing any module, so torch is not needed.
        answer = self.function(json.loads(request.plan), **options)
        findings.fidelity = options.get("epochs", 0)
        metrics = self._checked(answer, known, findings)
        if answer.get(_ITEMS) is not None:
            findings.items = self._checked_items(answer[_ITEMS], metrics)
        findings.metrics = metrics
        # A metric after a shorter training says little about that after the full budget. A cost does not change.
        short = self.full_epochs is not None and options.get("epochs", self.full_epochs) < self.full_epochs
        new = {name: value for name, value in metrics.items() if name not in known and (name in COSTS or not short)}
        self.check_bounds(new, request, findings)

    def _checked(self, answer: Mapping[str, Any], known: Mapping[str, float], findings: Findings) -> dict[str, float]:
        """Return the metrics of an answer and the values that are known before. Both must agree.

        If a metric is not finite, the others are kept in the findings.
        """
        if not isinstance(answer, Mapping):
            raise EvaluationError(f"evaluate returned {type(answer).__name__}, not a mapping of metric to number")
        missing = [name for name in self.expected if name not in answer and name not in known]
        if missing:
            raise EvaluationError(self._missing(missing, [*map(str, answer), *known]))
        metrics = {str(name): _number(name, value, "evaluate") for name, value in answer.items() if name != _ITEMS}
        if bad := {name: value for name, value in metrics.items() if not math.isfinite(value)}:
            findings.metrics = {name: value for name, value in {**known, **metrics}.items() if name not in bad}
            raise EvaluationError(f"{', '.join(bad)} is not finite", kind=kind_of_number(*bad.values()))
        check_known(known, metrics)
        return {**known, **metrics}

    def _missing(self, missing: Sequence[str], returned: Sequence[str]) -> str:
        """Return that values are missing, with the nearest names of those that were returned."""
        functions = "evaluate" if self.known_function is None else "evaluate and known"
        told = f"{functions} returned {sorted({*returned} - {_ITEMS})}, without {', '.join(missing)}"
        near = dict.fromkeys(other for name in missing for other in nearest(name, returned) if other != _ITEMS)
        return told + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")

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
            raise EvaluationError("an item is not finite", kind=kind_of_number(*items))
        mean = float(items.mean())
        if abs(mean - metrics[name]) > _AGREEMENT * float(np.abs(items).mean()):
            raise EvaluationError(f"the mean of the items is {mean:.6g}, but {name} is {metrics[name]:.6g}")
        return items


def known_values(function: KnownFunction | None, plan: Plan) -> dict[str, float]:
    """Return the values of a plan that a user's function knows before its evaluation. Empty without a function.

    Raises:
        KnownError: If the function raises an error, or does not return finite numbers by name.
    """
    if function is None:
        return {}
    try:
        return _told_by(function, plan)
    except EvaluationError as error:
        raise KnownError(error.reason) from None
    except (Exception, SystemExit) as error:  # anybody's code, and its reason is recorded with the plan
        raise KnownError(f"known raised {describe_error(error)}") from error


def _told_by(function: KnownFunction, plan: Plan) -> dict[str, float]:
    answer = function(json.loads(plan.text))
    if not isinstance(answer, Mapping):
        raise EvaluationError(f"known returned {type(answer).__name__}, not a mapping of name to number")
    values = {str(name): _number(name, value, "known") for name, value in answer.items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise EvaluationError(f"known returned values that are not finite: {', '.join(bad)}")
    if fault := metric_name_fault(values):
        raise EvaluationError(f"known: {fault}")
    return values


def _number(name: Any, value: Any, function: str) -> float:
    """Return a value that a user's function returned, as a float.

    Args:
        name: Name of the value.
        value: A number: of Python, NumPy or torch.
        function: The function, for the message.

    Raises:
        EvaluationError: If it is not a number. A text such as "0.9" is none, nor is True.
    """
    # `float` also takes texts and truth values, which are more likely a mistake
    if not isinstance(value, (str, bytes, bytearray, bool)) and "bool" not in str(getattr(value, "dtype", "")):
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            return float(value)
    raise EvaluationError(
        f"{function} returned {clean(repr(value), 40)} for {clean(str(name), 40)}, which is not a number; return only "
        "numbers" + (f', and a list as "{_ITEMS}"' if function == "evaluate" else "")
    )


def is_same(known: float, returned: float) -> bool:
    """Whether a value that is known before an evaluation equals the one that was returned, except for rounding."""
    return math.isclose(known, returned, rel_tol=_ROUNDING, abs_tol=1e-12)


def check_known(known: Mapping[str, Any], returned: Mapping[str, Any]) -> None:
    """Check that an evaluation returned the values that were known before it, if it returned them at all.

    Raises:
        EvaluationError: If it did not.
    """
    for name, value in known.items():
        if isinstance(value, float) and name in returned and not is_same(value, returned[name]):
            raise EvaluationError(
                f"known said that {name} is {value:.6g}, but the evaluation returned {returned[name]:.6g}"
            )
