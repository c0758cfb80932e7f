"""Multiply-adds, activations and elementwise work of a module: counted by fvcore, audited by FlopCounterMode."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from nasbench.errors import InputError
from nasbench.library.faults import fault_text
from nasbench.measurement.costs import formulas
from nasbench.measurement.costs.auditor import Observer, PythonSide, flop_counter
from nasbench.measurement.costs.counter import GraphCount, Opaque, graph_count
from nasbench.measurement.costs.shadow import on_meta, rng_kept, shadow

__all__ = ["TOLERANCE", "Count", "count"]

TOLERANCE = 1e-3
"""Largest relative difference at which the counts of the two engines still count as equal."""

DATA_DEPENDENT = "control flow depends on data; the branch for one random input was counted"

UNUSED = "it computes contractions whose results it does not use, and these are counted"


@dataclass(frozen=True)
class Count:
    """The cost of one forward pass in evaluation mode.

    Attributes:
        macs: Multiply-adds of contractions (convolution, matrix product, einsum, attention, recurrent cell, bilinear
            sampling). 1 MAC is one multiply-add.
        elementwise_flops: Number of all other arithmetic operations: 1 for each output element of a pointwise operator,
            1 for each input element of a reduction, 5 for each element of softmax and norms, and 5·N·log2 N for an FFT
            of N points.
        activations: Number of elements in the outputs of contractions.
        exact: Whether the two engines agree and know every operator. If not, `macs` is a lower bound.
        unknown_ops: The reasons why the count is not exact. These are mostly operators that are in no table, or that
            the two engines count differently.
        formula_ops: Operators that both engines count with this package's formulas. So the two counts of these
            operators are not independent.
        notes: Other facts that a reader should know, such as data-dependent control flow.
        macs_by_operator: For each operator, its part of `macs`.
    """

    macs: int
    elementwise_flops: int
    activations: int
    exact: bool
    unknown_ops: tuple[str, ...] = ()
    formula_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    macs_by_operator: tuple[tuple[str, int], ...] = ()


def count(model: nn.Module, *inputs: Any) -> Count:
    """Count one forward pass of `model` on `inputs`.

    A copy of the model without data runs on the meta device. The model itself does not change, and it can be as large
    as you like. Some models cannot run on the meta device, because their control flow depends on data or because an
    operator has no shape inference. Then a copy with data runs on the model's own device, and `notes` says so.

    Args:
        model: Any module: a backbone, a plug-in, a fusion or a neck.
        *inputs: The arguments of the model's forward: tensors, or lists of tensors. Only shapes and dtypes matter.

    Raises:
        InputError: If the model cannot be copied, or fails on these inputs.

    Example:
        >>> import torch
        >>> from nasbench.measurement import costs
        >>> costs.count(torch.nn.Conv2d(3, 8, 3, padding=1), torch.empty(1, 3, 16, 16)).macs
        55296
    """
    model = getattr(model, "_orig_mod", model)  # unwrap torch.compile, because a compiled model cannot be traced
    meta = torch.device("meta")
    try:
        return _either(shadow(model, meta=True), on_meta(inputs), meta)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # also SystemExit, because user code can call sys.exit
        return _for_real(model, inputs, error)


def _for_real(model: nn.Module, inputs: Sequence[Any], reason: BaseException) -> Count:
    """Count with real data, after the count on the meta device failed with `reason`."""
    states = [*model.parameters(), *model.buffers()]
    if any(t.is_meta for t in states):
        cause = "its control flow depends on data" if _data_dependent(reason) else fault_text(reason)
        raise InputError(f"{type(model).__name__} is on the meta device, and cannot run there: {cause}") from reason
    device = states[0].device if states else torch.device("cpu")
    with rng_kept(device):
        torch.manual_seed(0)  # so that random data takes the same branch in every process
        real = tuple(tree_map_only(Tensor, lambda t: _filled(t, device), list(inputs)))
        try:
            counted = _either(shadow(model, meta=False), real, device)
        except (Exception, SystemExit) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in tree_leaves(list(inputs)) if isinstance(t, Tensor))
            raise InputError(
                f"{type(model).__name__} fails on inputs of shape {shapes}: {fault_text(error)}"
            ) from error
    names = counted.unknown_ops if _harmless(reason) else (*counted.unknown_ops, _why(reason))
    return replace(counted, exact=not names, unknown_ops=names, notes=(*counted.notes, _why(reason)))


def _filled(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor with data: a copy of `tensor`, or random numbers of its shape if it has no data."""
    if not tensor.is_meta:
        return tensor.detach().to(device, copy=True)
    made = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    return made.normal_() if tensor.is_floating_point() else made


def _harmless(reason: BaseException) -> bool:
    """Return whether a count with real data can be complete although the count on the meta device failed.

    It can be complete if the model reads data, or if an operator has no shape inference. Any other failure may come
    from code that works on memory directly. Torch sees no operator there.
    """
    return _data_dependent(reason) or isinstance(reason, NotImplementedError) or "no fake impl" in str(reason)


def _data_dependent(reason: BaseException) -> bool:
    # torch has no exception class for this, and the wording of its message differs from operator to operator.
    return any(mark in str(reason) for mark in ("meta tensors", "_local_scalar_dense", "data-dependent", "data-indep"))


def _why(reason: BaseException) -> str:
    return DATA_DEPENDENT if _data_dependent(reason) else f"does not run on the meta device: {_first_line(reason)}"


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 160 else f"{line[:157]}..."


def _either(model: nn.Module, inputs: tuple[Any, ...], device: torch.device) -> Count:
    """Count with both engines. If the model cannot be traced, use the auditor's count. It is a lower bound."""
    try:
        return _both(model, inputs, device)
    except InputError:
        raise
    except Exception as untraceable:
        opaque, observer = Opaque(model, inputs), Observer(flop_counter())
        with _under(observer, device):
            opaque(*opaque.tensors)
        return Count(
            macs=observer.macs,
            elementwise_flops=0,
            activations=0,
            exact=False,
            unknown_ops=(f"cannot be traced: {_first_line(untraceable)}", *observer.unknown()),
            formula_ops=observer.formula(),
        )


def _both(model: nn.Module, inputs: tuple[Any, ...], device: torch.device) -> Count:
    """Run both engines and compare them.

    A trace drops operators whose results are not used. If this can explain a difference between the engines, run once
    more, with the results of all contractions as outputs.
    """
    first = _compared(model, inputs, device, None)
    # The larger of the two counts is reported. If it is the count of the trace, the trace dropped nothing that the
    # auditor saw.
    if first.exact or first.macs == sum(macs for _, macs in first.macs_by_operator):
        return first
    try:
        again = _compared(model, inputs, device, [])
    except Exception:  # a tensor from inside vmap cannot be used outside of vmap, so it cannot be returned
        return first
    return replace(again, notes=(UNUSED,)) if again.exact else first


def _compared(model: nn.Module, inputs: tuple[Any, ...], device: torch.device, kept: list[Tensor] | None) -> Count:
    opaque, observer = Opaque(model, inputs, kept), Observer(flop_counter())
    with _under(observer, device, kept):
        graph = graph_count(opaque)
    if not opaque.outputs:
        raise InputError(f"{type(model).__name__} returned no tensor")
    observer.returned(opaque.outputs)
    return _agreed(graph, observer)


def _under(observer: Observer, device: torch.device, kept: list[Tensor] | None = None) -> ExitStack:
    """Enter the contexts of a run: no warnings, no gradients, new tensors on `device`, and the auditor. Return them."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        python = PythonSide(observer, kept)
        # The order matters, because the mode that is entered last sees an operator first. So the observer comes last.
        for context in (rng_kept(device), torch.no_grad(), device, python, observer.counter, observer):
            stack.enter_context(context)
        return stack.pop_all()


def _agreed(graph: GraphCount, observer: Observer) -> Count:
    counted, audited = sum(graph.macs.values()), observer.macs
    # The auditor sees the operators inside some autograd functions and scripts, but not inside others. So its count is
    # compared with and without the counts that the formulas give for these.
    agree = any(abs(a - counted) <= TOLERANCE * max(a, counted) for a in (audited, audited + graph.hidden))
    names = {*graph.unknown, *observer.unknown()}
    notes = () if agree else (f"fvcore counts {counted} MACs, FlopCounterMode {audited}",)
    # The possible causes are the user's formulas, if any were used, and otherwise every contraction.
    if not agree and not names:
        names = set(graph.macs) & formulas.REGISTERED or set(graph.macs) or {"an operator that the trace does not show"}
    return Count(
        # If the counts differ, both are lower bounds, and the larger one is the better bound.
        macs=max(counted, audited),
        elementwise_flops=sum(graph.elementwise_flops.values()),
        activations=graph.activations,
        exact=agree and not names,
        unknown_ops=tuple(sorted(names)),
        formula_ops=tuple(sorted({*graph.formula, *observer.formula()})),
        notes=notes,
        macs_by_operator=tuple(sorted(graph.macs.items())),
    )
