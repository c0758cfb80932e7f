"""Copies of models. Counting runs and hooks a copy, so that the model itself never changes."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from nasbench.errors import InputError

__all__ = ["on_meta", "rng_kept", "shadow"]


def shadow(model: nn.Module, *, meta: bool, training: bool = False) -> nn.Module:
    """Return a copy of `model`.

    Args:
        model: Any module. It does not change.
        meta: Whether the copy's tensors are on the meta device, where they have no data and compute nothing.
        training: Whether the copy is in training mode. There, parameters keep their `requires_grad`. In evaluation
            mode, no parameter requires a gradient.

    Raises:
        InputError: If the model has uninitialised (lazy) parameters, or if it cannot be copied.
    """
    memo: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"parameter {name} is not initialised; run one batch through the model first")
        # deepcopy does not copy an object that is in its memo. It uses the entry of the memo instead.
        memo[id(parameter)] = nn.Parameter(_twin(parameter, meta), requires_grad=training and parameter.requires_grad)
    with _CopyTensors(meta):
        try:
            # deepcopy gets a copy of the memo, because a failure would leave the memo half filled
            twin = copy.deepcopy(model, dict(memo))
        except Exception:
            twin = _copied_where_possible(model, memo)
    return twin.train(training)


def _copied_where_possible(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a copy of `model`. Attributes that cannot be copied (an operator, a generator) are shared with it."""
    for module in model.modules():
        for value in vars(module).values():
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:
                if not _holds_modules(value):  # if a submodule were shared, the copy could change the model
                    memo[id(value)] = value
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise InputError(f"{type(model).__name__} cannot be copied with copy.deepcopy: {error}") from error


def _holds_modules(value: Any) -> bool:
    return any(isinstance(leaf, nn.Module) for leaf in tree_leaves(value))


def on_meta(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Return the inputs with every tensor moved to the meta device, without data."""
    return tuple(tree_map_only(Tensor, lambda t: _twin(t, meta=True), list(inputs)))


def _twin(tensor: Tensor, meta: bool) -> Tensor:
    source = tensor.detach()
    return torch.empty_like(source, device="meta") if meta else source.clone()


class _CopyTensors(TorchFunctionMode):
    """Change how `copy.deepcopy` copies buffers, and tensors that are plain attributes.

    deepcopy itself would copy their data. It also fails for a tensor that is not a leaf of the autograd graph.
    """

    def __init__(self, meta: bool) -> None:
        super().__init__()
        self.meta = meta

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = _twin(tensor, self.meta)
        return memo[id(tensor)]


@contextmanager
def rng_kept(device: torch.device) -> Iterator[None]:
    """Restore the random states of Python, numpy and torch (CPU and `device`) when the context ends."""
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
