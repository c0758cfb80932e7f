"""The costs of a whole model, which a search compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasbench.errors import BackboneError, InputError
from nasbench.measurement.costs.macs import count
from nasbench.measurement.costs.memory import peak_memory_of

__all__ = ["Cost", "measure", "peak_memory"]


@dataclass(frozen=True)
class Cost:
    """The costs of a model at one input size and batch size.

    Attributes:
        params: Number of parameters. A parameter that is shared between modules counts once.
        trainable_params: Number of parameters that need a gradient.
        macs: Number of multiply-adds of tensor contractions (convolutions and matrix products) for the whole batch. If
            `exact` is False, it is a lower bound.
        elementwise_flops: Number of all other arithmetic operations, as defined in `Count`.
        activations: Number of elements in the outputs of contractions.
        exact: Whether fvcore and FlopCounterMode agree and know every operator.
        unknown_ops: The reasons why the count is not exact, as in `Count`.
        formula_ops: Operators that both engines count with this package's formulas.
        notes: Other facts that a reader should know.
        peak_memory_bytes: Peak memory of an inference pass. None if it was not asked for.
        training_memory_bytes: Peak memory of a forward and a backward pass, without the state of an optimiser. None if
            it was not asked for, or if a training step failed.
        input_size: Shape of one input, without the batch dimension.
        batch_size: Number of inputs in the batch.
    """

    params: int
    trainable_params: int
    macs: int
    elementwise_flops: int
    activations: int
    exact: bool
    unknown_ops: tuple[str, ...] = ()
    formula_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None
    training_memory_bytes: int | None = None
    input_size: tuple[int, ...] = ()
    batch_size: int = 1


def measure(
    model: nn.Module,
    *,
    input_size: Sequence[int] | None = None,
    batch_size: int = 1,
    peak_memory: bool = False,
    inputs: Sequence[Any] | None = None,
) -> Cost:
    """Measure the costs of one forward pass of `model`, in evaluation mode and without gradients.

    The model does not change.

    Args:
        model: Any module, on any device (including meta), in training or evaluation mode.
        input_size: Shape of one input without the batch dimension: (3, 224, 224) for images, (lookback, series) for
            series. None means the default size of a timm model.
        batch_size: Number of inputs in the batch. All costs except the numbers of parameters are for the whole batch.
        peak_memory: Whether to also measure the peak memory of inference and of a training step.
        inputs: The positional arguments of forward. Pass them in place of `input_size` if the input of the model is not
            a single floating-point tensor. Only shapes and dtypes matter.

    Raises:
        InputError: If the input size is missing or impossible, or if the model fails on such an input.

    Example:
        >>> import timm
        >>> from nasbench.measurement import costs
        >>> cost = costs.measure(timm.create_model("resnet18"), input_size=(3, 64, 64))
        >>> cost.params, cost.macs, cost.exact
        (11689512, 148557824, True)
    """
    if inputs is None:
        size = _input_size(model, input_size)
        arguments: tuple[Any, ...] = (_batch(model, size, batch_size),)
    else:
        arguments, size, batch_size = _given(inputs)
    counted = count(model, *arguments)
    notes, inference, step = counted.notes, None, None
    if peak_memory:
        inference = peak_memory_of(model, arguments, training=False)
        step, why = _training_step(model, arguments)
        notes += why
    parameters = list(model.parameters())
    return Cost(
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        macs=counted.macs,
        elementwise_flops=counted.elementwise_flops,
        activations=counted.activations,
        exact=counted.exact,
        unknown_ops=counted.unknown_ops,
        formula_ops=counted.formula_ops,
        notes=notes,
        peak_memory_bytes=inference,
        training_memory_bytes=step,
        input_size=size,
        batch_size=batch_size,
    )


def peak_memory(model: nn.Module, input_size: Sequence[int], batch_size: int = 1, *, training: bool = False) -> int:
    """Return the peak memory, in bytes, of a training step or of inference.

    `peak_memory_of` says what is included.

    Args:
        model: Any module. If its weights are on a GPU, the memory is measured. Otherwise it is estimated.
        input_size: Shape of one input, without the batch dimension.
        batch_size: Number of inputs in the batch.
        training: Whether to run in training mode and with a backward pass.

    Raises:
        InputError: If the size is impossible.
        BackboneError: If the model fails on an input of this size.
    """
    size = _input_size(model, input_size)
    return peak_memory_of(model, (_batch(model, size, batch_size),), training=training)


def _training_step(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[int | None, tuple[str, ...]]:
    """Return the peak memory of a training step, or a note that says why the step failed.

    For example, a batch norm fails in training mode if it gets only one value in each channel.
    """
    try:
        return peak_memory_of(model, arguments, training=True), ()
    except BackboneError as error:
        # torch's words for a batch norm that gets one value in each channel
        way = (
            "; with two items or more it has one: --batch 2, or batch_size=2"
            if "more than 1 value" in str(error)
            else ""
        )
        return None, (f"no training step: {error}{way}",)


def _input_size(model: nn.Module, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None:
        given = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    if given is None:
        raise InputError(
            f"{type(model).__name__} does not say its input size; pass input_size without the batch dimension: "
            "(3, 224, 224) for images, (lookback, series) for series"
        )
    size = tuple(given)
    if not size or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"input_size {given!r} is not a shape; pass positive whole numbers, without the batch")
    return size


def _batch(model: nn.Module, size: tuple[int, ...], batch_size: int) -> Tensor:
    """Return an input batch without data, in the dtype of the model's weights."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a positive whole number, got {batch_size!r}")
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex())
    return torch.empty(batch_size, *size, dtype=next(dtypes, torch.float32), device="meta")


def _given(inputs: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[int, ...], int]:
    tensors = [leaf for leaf in tree_leaves(list(inputs)) if isinstance(leaf, Tensor)]
    if not tensors or tensors[0].ndim == 0:
        raise InputError("inputs= contains no tensor; pass the positional arguments of forward, batch first")
    return tuple(inputs), tuple(tensors[0].shape[1:]), int(tensors[0].shape[0])
