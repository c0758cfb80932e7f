"""Evaluates a plan by asking a user's function. Imports no torch, so that a process that only asks starts at once."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasbench.errors import EvaluationError
from nasbench.objectives import Constraint
from nasbench.runs.evaluation import Evaluation, Outcome, State, describe

if TYPE_CHECKING:
    from nasbench.library.plan import Plan

__all__ = ["CallableEvaluator"]


@dataclass(frozen=True)
class CallableEvaluator:
    """Asks a user's function for the metrics of a plan; no model is built and nothing is trained.

    Attributes:
        function: `fn(plan)`, with the plan as a dict of slot to expression text; returns a mapping of metric to number.
            It gets `seed=` and `epochs=` where it takes them.
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

    @property
    def takes_epochs(self) -> bool:
        """Whether the function names `epochs=`: only then does a shorter evaluation make sense."""
        return "epochs" in inspect.signature(self.function).parameters

    def __call__(
        self,
        plan: Plan,
        seed: int,
        bare: Mapping[str, float] | None,
        epochs: int | None = None,
        before: Evaluation | None = None,
    ) -> Outcome:
        """Call the function on `plan`; what came before is not looked at."""
        return self.ask(plan.text, plan.hash, seed, bare, epochs)

    def ask(
        self, text: str, plan_hash: str, seed: int, bare: Mapping[str, float] | None, epochs: int | None = None
    ) -> Outcome:
        """Call the function on the plan with this canonical text and hash."""
        begun = time.perf_counter()
        metrics: dict[str, float] = {}
        options: dict[str, int] = {}
        state: State = "complete"
        reason = ""
        try:
            texts = json.loads(text)
            options = {"seed": seed} if self.takes_seed else {}
            if epochs is not None and self.takes_epochs:
                options["epochs"] = epochs
            metrics = self._checked(self.function(texts, **options))
            for constraint in self.constraints:
                if not constraint.holds(metrics[constraint.name], metrics if bare is None else bare):
                    state, reason = "rejected", constraint.reason(metrics[constraint.name], bare or metrics)
        except EvaluationError as error:
            state, reason, metrics = "failed", f"{error.kind}: {error.reason}", {}
        except Exception as error:
            state, reason, metrics = "failed", describe(error), {}
        wall_s = time.perf_counter() - begun
        fidelity = options.get("epochs", 0) if metrics else 0
        return Outcome(Evaluation(text, plan_hash, seed, fidelity, state, reason, metrics=metrics, wall_s=wall_s))

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
