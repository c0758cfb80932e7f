"""Put a head on a host."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from nasbench.errors import PlanError, UnsupportedError
from nasbench.library.expression import Leaf, parse
from nasbench.library.modules import create_head, list_modules, module_spec
from nasbench.ops.headed import DenseModel

__all__ = ["attach_head", "check_head"]


def check_head(head: str, kind: str) -> None:
    """Check that an expression is a head for a kind of task.

    Raises:
        UnknownNameError: If no head has this name.
        PlanError: If it is no head, or one for another kind of task.
    """
    spec = module_spec(_leaf(head).name)
    if kind not in spec.tasks:
        what = f"a head for {' and '.join(spec.tasks)}" if spec.kind == "head" else f"a {spec.kind}, not a head"
        fitting = [name for name in list_modules(kind="head") if kind in module_spec(name).tasks]
        raise PlanError(f"{spec.name} is {what}; the heads for {kind} are {', '.join(fitting)}")


def attach_head(host: nn.Module, head: str, **known: Any) -> DenseModel:
    """Put a head on a host.

    Args:
        host: A dense host with its plan: it has `channels` and `strides`, a number for each level.
        head: A head of the library, as an expression.
        known: What the task knows: `num_classes`.

    Raises:
        UnknownNameError: If no head has this name.
        PlanError: If it is no head, or does not fit the levels.
    """
    part, levels = _leaf(head), cast(Any, host)
    try:
        built = create_head(part.name, list(levels.channels), strides=list(levels.strides), **known, **dict(part.hyper))
    except UnsupportedError as error:
        raise PlanError(str(error)) from error
    parameter = next(host.parameters())
    return DenseModel(host, built.to(parameter.device, parameter.dtype).train(host.training))


def _leaf(head: str) -> Leaf:
    part = parse(head)
    if not isinstance(part, Leaf):
        raise PlanError(f"{head} is no head; the heads are {', '.join(list_modules(kind='head'))}")
    return part
