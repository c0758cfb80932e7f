"""Put a head on a host."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasbench.errors import PlanError, UnsupportedError
from nasbench.library.expression import Leaf, parse
from nasbench.library.modules import create_head, list_modules, module_spec
from nasbench.library.surroundings import surroundings_kept
from nasbench.ops.headed import DenseModel

__all__ = ["attach_head", "check_head", "levels_read"]

_KNOWN = {"num_classes": 2, "scale": 2}  # which levels a head reads does not depend on what a task knows


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
        known: What the task knows: `num_classes`, or `scale`.

    Raises:
        UnknownNameError: If no head has this name.
        PlanError: If it is no head, or does not fit the levels.
    """
    part, levels = _leaf(head), cast(Any, host)
    built = _built(part, levels.channels, levels.strides, **known)
    parameter = next(host.parameters())
    return DenseModel(host, built.to(parameter.device, parameter.dtype).train(host.training))


@lru_cache(maxsize=64)
def levels_read(
    head: str, levels: tuple[tuple[int, ...], ...], strides: tuple[int, ...], image: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the numbers, from 0, of the levels on which the output of a head depends.

    A level counts if a gradient goes from the output to it. The head runs on the meta device, so nothing is computed.

    Args:
        head: A head of the library, as an expression.
        levels: Shape `(B, C, H, W)` of each level, fine to coarse.
        strides: Stride of each level.
        image: Shape `(B, 3, H, W)` of the images.

    Raises:
        UnknownNameError: If no head has this name.
        PlanError: If it is no head, or does not fit the levels.
    """
    part = _leaf(head)
    with surroundings_kept(), torch.enable_grad(), torch.device("meta"):
        maps = [torch.zeros(shape, requires_grad=True) for shape in levels]
        built = _built(part, [shape[1] for shape in levels], strides, **_KNOWN)
        found: list[Tensor] = []
        _collect(built.eval()(maps, torch.zeros(image)), found)
        gradients = torch.autograd.grad([y.sum() for y in found], maps, allow_unused=True) if found else ()
    return tuple(number for number, gradient in enumerate(gradients) if gradient is not None)


def _collect(value: Any, found: list[Tensor]) -> None:
    """Add the tensors of a nested value through which a gradient can go to `found`."""
    if isinstance(value, Tensor):
        found += [value] if value.requires_grad else []
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _collect(part, found)


def _built(part: Leaf, channels: Sequence[int], strides: Sequence[int], **known: Any) -> nn.Module:
    try:
        return create_head(part.name, list(channels), strides=list(strides), **known, **dict(part.hyper))
    except UnsupportedError as error:
        raise PlanError(str(error)) from error


def _leaf(head: str) -> Leaf:
    name = head.partition("(")[0].strip()
    if name.isidentifier():
        module_spec(name, "head")  # the message about an unknown name suggests heads
    part = parse(head)
    if not isinstance(part, Leaf):
        raise PlanError(f"{head} is no head; the heads are {', '.join(list_modules(kind='head'))}")
    return part
