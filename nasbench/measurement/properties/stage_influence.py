"""Measure what each stage of a network mixes: the influence of the stage's input on its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones import Slot
from nasbench.errors import InputError
from nasbench.measurement.costs.shadow import rng_kept, shadow
from nasbench.measurement.properties.fingerprint import summarise
from nasbench.measurement.properties.influence import cells, influence_rows
from nasbench.measurement.properties.plain_norms import PlainNorms
from nasbench.measurement.properties.rings import RowFigures, row_figures

__all__ = ["StageFigures", "stage_figures"]

INPUT = "input"
"""Source of the first stage: the network's own input."""


@dataclass(frozen=True)
class StageFigures:
    """The properties of the part of a network between two slots. They mean the same as those of a `Fingerprint`.

    Attributes:
        slot: Name of the slot where the part ends.
        source: Where the part begins: the name of the slot before it, or "input". It is "input" for the first slot, and
            if the slot before it has no influence on this one.
        size: Spatial size of the slot's map, on which distances are measured.
        channels: Number of channels of the slot's map.
        locality: Share of the off-self influence within distance 1.
        globality: Mean distance of the off-self influence, divided by the mean distance of a uniform influence.
        sparsity: Share of the positions in the reach that are negligible.
        multiscale: How evenly the influence is spread over the octave rings of the reach.
        complexity: Always None, because the cost of a stage is not measured here.
        self_influence: Mean influence of a position on itself.
        error: Standard errors, by name of the property.
        notes: If there are no values, the reason.
    """

    slot: str
    source: str
    size: tuple[int, ...]
    channels: int
    locality: float | None = None
    globality: float | None = None
    sparsity: float | None = None
    multiscale: float | None = None
    complexity: float | None = None
    self_influence: float | None = None
    error: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def stage_figures(
    model: nn.Module,
    slots: Sequence[Slot],
    *,
    input_size: Sequence[int],
    seed: int = 0,
    inputs: int = 2,
    positions: int = 12,
    probes: int = 4,
) -> list[StageFigures]:
    """Measure what a network mixes between each slot and the one before it, in evaluation mode.

    The influence of a position of the earlier map on a position of the later map is the norm of the derivative. It is
    estimated from random positions and cotangents. If the earlier map is finer, the squared influences of its positions
    are added up in the cells of the later map's grid. So distances mean the same in both maps. Class tokens are left
    out.

    Args:
        model: The network with its present weights, trained or not. A copy is measured.
        slots: Slots of `model`, in network order.
        input_size: Shape of one input, without the batch dimension.
        seed: Seed of the inputs, the positions and the cotangents.
        inputs: Number of standard normal inputs.
        positions: Number of output positions for each input.
        probes: Number of random cotangents for each position.

    Returns:
        The property values of each slot.

    Raises:
        InputError: If the network fails on such an input.
    """
    twin = shadow(model, meta=False)
    state = next(twin.parameters(), torch.empty(0))
    rows: dict[str, list[RowFigures]] = {slot.name: [] for slot in slots}
    sources: dict[str, str] = {}
    with rng_kept(torch.device("cpu")):
        for number in range(inputs):
            torch.manual_seed(seed + number)
            x = torch.randn(1, *input_size).to(state).requires_grad_()
            maps = _run(twin, slots, x)
            before: Slot | None = None
            for slot in slots:
                chosen = torch.randperm(math.prod(slot.size))[:positions].tolist()
                influence = _rows(maps, before, slot, chosen, probes)
                if before is not None and not influence.any():  # the slots are on parallel branches of the network
                    before, influence = None, _rows(maps, None, slot, chosen, probes)
                sources[slot.name] = before.name if before is not None else INPUT
                if influence.shape[1]:
                    rows[slot.name].append(row_figures(influence.cpu(), chosen, slot.size))
                before = slot
    return [_figures(slot, sources[slot.name], rows[slot.name]) for slot in slots]


def _figures(slot: Slot, source: str, rows: Sequence[RowFigures]) -> StageFigures:
    stage = StageFigures(slot.name, source, slot.size, slot.channels)
    if math.prod(slot.size) < 2:
        return replace(stage, notes=("one position: there is nothing to mix",))
    if not rows:
        return replace(stage, notes=(f"its map and that of {source} have different dimensions",))
    figures, error, notes = summarise(rows, sampled=True)
    return replace(stage, error=error, notes=notes, **figures)  # type: ignore[arg-type]  # a mapping of floats


def _run(model: nn.Module, slots: Sequence[Slot], x: Tensor) -> dict[str, Tensor]:
    """Return the tensors at the backbone's slots, as they are after the plug-ins, and the input."""
    maps: dict[str, Tensor] = {INPUT: x}

    def keep(slot: Slot) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            maps[slot.name] = output if slot.index is None else output[slot.index]

        return hook

    with ExitStack() as stack:
        for slot in slots:
            handle = model.get_submodule(slot.module).register_forward_hook(keep(slot))
            stack.callback(handle.remove)
        try:
            with PlainNorms():
                model(x)
        except Exception as error:
            raise InputError(f"{type(model).__name__} fails on an input of {tuple(x.shape[1:])}: {error}") from error
    return maps


def _rows(maps: dict[str, Tensor], before: Slot | None, slot: Slot, chosen: list[int], probes: int) -> Tensor:
    """Return the influence of the N cells of the earlier map on the R chosen positions of the later map, `(R, N)`.

    The result is `(R, 0)` if the influence is undefined.
    """
    y = _split(maps[slot.name], slot)
    x = maps[INPUT if before is None else before.name]
    # If there is no slot before, the source is the network's input: images (B, C, H, W) or series (B, L, C).
    source = before.size if before is not None else tuple(x.shape[2:] if x.ndim == 4 else x.shape[1:2])
    if len(source) != len(slot.size) or math.prod(slot.size) < 2:
        return y.new_zeros(len(chosen), 0)
    into = cells(source, slot.size).to(y.device)

    def fold(squares: Tensor) -> Tensor:
        if before is not None:
            squares = torch.stack([_split(each, before) for each in squares]).flatten(3).sum((1, 2))
        elif squares.ndim == 5:  # images (R, B, C, H, W)
            squares = squares.flatten(3).sum((1, 2))
        else:  # series (R, B, L, C)
            squares = squares.sum((1, 3))
        return squares.new_zeros(len(squares), math.prod(slot.size)).index_add_(1, into, squares)

    return influence_rows(y, x, chosen, probes=probes, fold=fold)


def _split(tensor: Tensor, slot: Slot) -> Tensor:
    order = None if slot.order is None else torch.tensor(slot.order, device=tensor.device)
    return slot.format.split(tensor, order)[0]
