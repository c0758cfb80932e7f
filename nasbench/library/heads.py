"""Put a head on a host."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from nasbench.errors import PlanError, UnsupportedError
from nasbench.library.expression import Leaf, parse
from nasbench.library.modules import create_head, list_modules
from nasbench.ops.headed import DenseModel

__all__ = ["attach_head"]


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
    part, levels = parse(head), cast(Any, host)
    if not isinstance(part, Leaf):
        raise PlanError(f"{head} is no head; the heads are {', '.join(list_modules(kind='head'))}")
    try:
        built = create_head(part.name, list(levels.channels), strides=list(levels.strides), **known, **dict(part.hyper))
    except UnsupportedError as error:
        raise PlanError(str(error)) from error
    parameter = next(host.parameters())
    return DenseModel(host, built.to(parameter.device, parameter.dtype).train(host.training))
