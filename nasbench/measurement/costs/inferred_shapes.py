"""A cache of the output shapes of operators on the meta device.

Shape inference on the meta device runs much Python code. To recreate known outputs takes about a hundredth of its time.
The cache helps because a network repeats its blocks, and because a search counts the same backbone many times.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from nasbench.measurement.costs import formulas

__all__ = ["call_key", "forget", "recalled", "remember"]

_INFERRED: dict[Any, tuple[tuple[Any, ...] | None, int]] = {}
"""For each call, the shape, stride and dtype of each output, and the number of multiply-adds.

None in place of the outputs means that the output is the first argument, changed in place."""

_LIMIT = 20_000  # largest number of stored calls. It limits the memory of a long search


def forget() -> None:
    """Empty the cache."""
    _INFERRED.clear()


def call_key(func: Any, args: Any, kwargs: dict[str, Any]) -> Any | None:
    """Return a key that contains everything on which the output shapes of a call depend.

    Return None if the call cannot be cached, because an output can share memory with an input, or depends on values.
    """
    if not (_makes_new_tensors(func) or _changes_values_only(func)):
        return None
    try:
        key = (func, formulas.generation(), _frozen(args), _frozen(tuple(kwargs.items())))
        hash(key)  # if an argument is unhashable, this fails here and not later
    except (TypeError, _HoldsDataError):
        return None
    return key


@functools.cache
def _makes_new_tensors(func: Any) -> bool:
    """Return whether every output is a new tensor, and the first argument is a tensor or a list of tensors."""
    schema = func._schema
    return (
        not schema.is_mutable
        and bool(schema.returns)
        and all(str(r.type) == "Tensor" and r.alias_info is None for r in schema.returns)
        and bool(schema.arguments)
        and str(schema.arguments[0].type) in ("Tensor", "List[Tensor]")
    )


@functools.cache
def _changes_values_only(func: Any) -> bool:
    """Return whether this is a pointwise operator that works in place. Its result is its first argument."""
    return func._schema.name.endswith("_") and torch.Tag.pointwise in func.tags


class _HoldsDataError(Exception):
    """An argument contains a tensor outside the meta device. The operator can use its values."""


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _HoldsDataError
        return value.shape, value.stride(), value.dtype  # the strides of the output depend on these strides
    if isinstance(value, list | tuple):
        return tuple([_frozen(v) for v in value])
    return value, type(value)  # 1, 1.0 and True are equal, but can give different output dtypes


def recalled(key: Any | None, args: Any) -> tuple[Any, int] | None:
    """Return the recreated outputs of a cached call and its multiply-adds, or None if the call is not cached."""
    if key is None or key not in _INFERRED:
        return None
    made, macs = _INFERRED[key]
    if made is None:
        return args[0], macs
    outputs = tuple(torch.empty_strided(shape, stride, dtype=dtype, device="meta") for shape, stride, dtype in made)
    return outputs[0] if len(outputs) == 1 else outputs, macs


def remember(key: Any | None, out: Any, macs: int) -> None:
    """Store the outputs and multiply-adds of a call, unless `key` is None."""
    if key is None:
        return
    made = None
    if not _changes_values_only(key[0]):
        outputs = out if isinstance(out, tuple | list) else (out,)
        if not all(isinstance(t, Tensor) and t.is_meta and t.layout is torch.strided for t in outputs):
            return
        made = tuple((tuple(t.shape), t.stride(), t.dtype) for t in outputs)
    if len(_INFERRED) >= _LIMIT:
        forget()
    _INFERRED[key] = (made, macs)
