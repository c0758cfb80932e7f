"""The costs of plans, added up from their parts. The models are not built.

The bare backbone is measured once. A module is measured once for each slot shape, and a fusion once for each shape and
number of branches. These measurements are stored, and they are added up for each plan. So a module that a plan uses
twice counts twice. The gate that makes a module start as an identity adds three operations for each element. As a
check, the complete models of the finalists are measured too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasbench.backbones import Slot
from nasbench.backbones.dense import DenseHost, with_neck
from nasbench.errors import InputError, PlanError, UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import NONE, Expression, Fused, Leaf, Series
from nasbench.library.modules import create_module
from nasbench.library.plan import NECK, Plan, is_reached
from nasbench.library.surroundings import surroundings_kept
from nasbench.measurement.costs import count, measure
from nasbench.text import clean

__all__ = ["PartCost", "PlanCosts"]

_GATE_OPERATIONS = 3  # x + g·(f(x) − x) subtracts, multiplies and adds for each element


@dataclass(frozen=True)
class PartCost:
    """The cost that one part of a plan adds for one input. Two of these costs can be added with `+`.

    Attributes:
        params: Number of parameters.
        macs: Number of multiply-adds of tensor contractions (convolutions and matrix products).
        elementwise_flops: Number of all other arithmetic operations.
        activations: Number of elements in the outputs of tensor contractions.
        unknown_ops: The reasons why the counts are not exact, as in `Count`. If there are any, they are lower bounds.
    """

    params: int = 0
    macs: int = 0
    elementwise_flops: int = 0
    activations: int = 0
    unknown_ops: tuple[str, ...] = ()

    def __add__(self, other: PartCost) -> PartCost:
        return PartCost(
            self.params + other.params,
            self.macs + other.macs,
            self.elementwise_flops + other.elementwise_flops,
            self.activations + other.activations,
            tuple(dict.fromkeys((*self.unknown_ops, *other.unknown_ops))),
        )

    @property
    def columns(self) -> dict[str, Any]:
        """The values of this cost, by their columns in the trials table."""
        counts = {name: getattr(self, name) for name in ("params", "macs", "elementwise_flops", "activations")}
        return {**counts, "exact": not self.unknown_ops, "unknown_ops": list(self.unknown_ops)}


class PlanCosts:
    """A function that returns the cost of any plan in one backbone.

    If all parts of a plan have been measured before, a call takes microseconds.

    Args:
        host: The bare backbone, on any device. It does not change.
        slots: The slots of the backbone. Those that only reach the output with a neck of a plan can be among them.
        input_size: Shape of one input, without the batch dimension.
        identity_init: Whether plans are inserted behind gates that start at zero.
        attach: Function that puts the head on a host. By default the host ends the model itself.

    Attributes:
        slots: The slots that reach the output without a neck of a plan, by name.
        bare: The cost of the backbone without a plan.

    Raises:
        InputError: If the backbone fails on an input of this size.
    """

    def __init__(
        self,
        host: nn.Module,
        slots: Sequence[Slot],
        *,
        input_size: tuple[int, ...],
        identity_init: bool,
        attach: Callable[[nn.Module], nn.Module] = lambda host: host,
    ) -> None:
        self._identity_init = identity_init
        self.slots = {slot.name: slot for slot in slots if is_reached(slot, NONE.canonical())}
        self._input_size, self._attach = input_size, attach
        self._parts: dict[tuple[object, ...], PartCost] = {}
        # The `attach` of a user's task can change its host.
        self.bare = _whole(attach(copy.deepcopy(host)), input_size)
        # A neck changes what follows it: the channels of the levels, and with them the head.
        self._necks: dict[Expression, tuple[PartCost, dict[str, Slot]]] = {}
        self._dense = with_neck(host, NONE) if isinstance(host, DenseHost) else None
        every = slots if self._dense is None else self._dense.places(input_size)
        self._batch_sizes = _batch_sizes(host, every, input_size)

    def __call__(self, plan: Plan) -> PartCost:
        """Return the cost, for one input, of the backbone with a resolved plan.

        Raises:
            UnsupportedError: If a module does not support the map in its slot.
            PlanError: If a module fails on the map in its slot, or if nothing in one of its slots reaches the output
                with the neck of the plan.
        """
        total, places = self._with_neck(plan[NECK]) if NECK in plan else (self.bare, self.slots)
        for name, expression in plan.items():
            if name != NECK:
                if name not in places and self._dense is not None:
                    with_neck(self._dense, plan.get(NECK, NONE)).find_slots(self._input_size, plan)
                try:
                    total = total + self._slot_cost(expression, places[name])
                except UnsupportedError:
                    raise
                except InputError as error:  # each part is counted alone, so the error does not know its place
                    raise PlanError(f"plan {clean(plan.typed, 100)}, slot {name}, {expression}: {error}") from error
        return total

    def _with_neck(self, neck: Expression) -> tuple[PartCost, dict[str, Slot]]:
        """Return the cost of the host with a neck and nothing else, and its slots."""
        if neck not in self._necks:
            assert self._dense is not None
            host = with_neck(self._dense, neck)
            with surroundings_kept(), torch.device("meta"):
                cost = _whole(self._attach(host), self._input_size)
            self._necks[neck] = cost, {slot.name: slot for slot in host.find_slots(self._input_size)}
        return self._necks[neck]

    def _slot_cost(self, expression: Expression, slot: Slot) -> PartCost:
        batch = self._batch_sizes[slot.name]
        shape = (batch, slot.channels, *slot.size)
        cost = self._expression_cost(expression, shape, slot.rows_are_series)
        if self._identity_init and not expression.starts_as_identity:
            cost = cost + PartCost(params=1, elementwise_flops=_GATE_OPERATIONS * self._elements(slot, batch))
        return cost

    def _elements(self, slot: Slot, batch: int) -> int:
        """Return the number of elements that a gate multiplies: the whole tensor, including prefix tokens."""
        return batch * slot.channels * (torch.Size(slot.size).numel() + slot.prefix_tokens)

    def _expression_cost(self, expression: Expression, shape: tuple[int, ...], rowwise: bool) -> PartCost:
        if isinstance(expression, Series):
            return sum((self._expression_cost(part, shape, rowwise) for part in expression.parts), PartCost())
        if isinstance(expression, Fused):
            branches = sum(
                (self._expression_cost(branch, shape, rowwise) for branch in expression.branches), PartCost()
            )
            return branches + self._fusion_cost(expression, shape)
        assert isinstance(expression, Leaf)
        return self._part_cost(
            (expression, shape, rowwise),
            lambda: build(expression, channels=shape[1], dims=len(shape) - 2, rowwise=rowwise),
            shape,
        )

    def _fusion_cost(self, fused: Fused, shape: tuple[int, ...]) -> PartCost:
        inputs = len(fused.branches)
        inputs_argument = inputs if inputs > 2 else None
        hyper = dict(fused.hyper)
        return self._part_cost(
            (fused.fusion, fused.hyper, inputs, shape),
            lambda: create_module(fused.fusion, shape[1], dims=len(shape) - 2, inputs=inputs_argument, **hyper),
            shape,
            inputs,
        )

    def _part_cost(self, key: tuple[object, ...], make: Any, shape: tuple[int, ...], inputs: int = 1) -> PartCost:
        if key not in self._parts:
            with surroundings_kept(), torch.device("meta"):  # only shapes matter, so nothing needs data
                module = make()
                counted = count(module, *(torch.empty(shape) for _ in range(inputs)))
            params = sum(p.numel() for p in module.parameters())
            self._parts[key] = PartCost(
                params, counted.macs, counted.elementwise_flops, counted.activations, counted.unknown_ops
            )
        return self._parts[key]


def _whole(model: nn.Module, input_size: tuple[int, ...]) -> PartCost:
    cost = measure(model, input_size=input_size)
    return PartCost(cost.params, cost.macs, cost.elementwise_flops, cost.activations, cost.unknown_ops)


def _batch_sizes(host: nn.Module, slots: Iterable[Slot], input_size: tuple[int, ...]) -> Mapping[str, int]:
    """Return the batch size at each slot for one input of the backbone.

    In most backbones it is 1. In a forecasting backbone that processes each series separately, it is the number of
    series.
    """
    sizes: dict[str, int] = {}
    # A copy on the meta device runs. So the backbone itself gets no hooks, and nothing is computed.
    twin = copy.deepcopy(host).to("meta").eval()

    def watch(slot: Slot) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            sizes[slot.name] = (output if slot.index is None else output[slot.index]).shape[0]

        return hook

    for slot in slots:
        if slot.name == NECK:  # its costs are not those of one map
            continue
        twin.get_submodule(slot.module).register_forward_hook(watch(slot))
    with torch.no_grad(), torch.device("meta"):
        twin(torch.empty(1, *input_size))
    return sizes
