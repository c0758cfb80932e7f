"""The slots of a backbone: named places where a module can go."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import nn

from nasbench.backbones.blocks import Block, find_blocks
from nasbench.backbones.factory import create_backbone, default_input_size, is_file
from nasbench.backbones.hooks import strip
from nasbench.backbones.layout import LAYOUTS, Layout, MapFormat
from nasbench.backbones.token_order import Positions
from nasbench.backbones.tracing import Trace, is_data_dependent, meta_copy, trace
from nasbench.errors import BackboneError, InputError

__all__ = ["Slot", "slots", "traced"]


@dataclass(frozen=True)
class Slot:
    """A named place in a backbone where a module can go.

    Attributes:
        name: `stageK`, `stageK.blockJ`, or a name that the backbone declares.
        channels: Number of channels C of the feature map at the slot. At the slot `neck`, that of the finest level.
        size: Spatial size of the feature map at the requested input size: `(H, W)`, or `(L,)` for a sequence of length
            L.
        layout: The backbone's layout of the map: NCHW, NHWC, NLC (tokens) or NCL.
        module: Dotted path of the module whose output the plug-in gets.
        prefix_tokens: Number of tokens before the tokens of the map (class, register). Plug-ins never get these tokens.
        index: Index of the map in the tuple that the module returns. None if the module returns the map itself.
        order: For each position of the map, row by row, the index of its token. None if tokens are stored row by row.
        rows_are_series: Whether each row of the map is one series along time. A one-dimensional module then gets each
            row separately.
        image: `(H, W)` of the input at which the map has this size. None if the input is not an image.
        entry: Dotted path of the innermost of the modules that begin with the first operator on the input ("" is the
            backbone itself). At run time, the size of the input is read there.
        levels: Number of channels of each level, fine to coarse, at the slot `neck`. Empty at other slots.
        necks: Necks of plans, as expressions, with which the slot reaches the output. `none` stands for plans without a
            neck. None if the slot always reaches the output.
    """

    name: str
    channels: int
    size: tuple[int, ...]
    layout: Layout
    module: str
    prefix_tokens: int = 0
    index: int | None = None
    order: tuple[int, ...] | None = field(default=None, repr=False)
    rows_are_series: bool = False
    image: tuple[int, ...] | None = field(default=None, repr=False)
    entry: str = field(default="", repr=False)
    levels: tuple[int, ...] = field(default=(), repr=False)
    necks: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def dims(self) -> int:
        """Number of spatial dimensions of the map that a plug-in gets: 1 or 2."""
        return len(self.size)

    @property
    def format(self) -> MapFormat:
        """The map's layout, which converts it to `(B, C, *S)` and back."""
        return MapFormat(self.layout, self.channels, self.size, self.prefix_tokens, self.order, self.image)


def slots(backbone: str | nn.Module, input_size: Sequence[int] | None = None) -> list[Slot]:
    """List the slots of a backbone, in network order.

    Args:
        backbone: A timm name, a built-in forecasting backbone, `FILE.py:function`, or a module (on any device,
            including meta).
        input_size: Size of one input, without the batch dimension: `(C, H, W)` of an image, or `(lookback, series)` of
            a window of series. None means the backbone's default.

    Raises:
        InputError: If `backbone` is neither a name nor a module.
        UnknownNameError: If no backbone has this name.
        BackboneError: If the backbone does not accept the input size, or has no slot.

    Example:
        >>> [s.name for s in slots("resnet18") if "block" not in s.name]
        ['stage1', 'stage2', 'stage3', 'stage4']
    """
    if not isinstance(backbone, (str, nn.Module)):
        raise InputError(
            f"a backbone is a name, FILE.py:function or a torch module, got {type(backbone).__name__} {backbone!r:.80}"
        )
    size = tuple(input_size) if input_size is not None else default_input_size(backbone)
    if isinstance(backbone, str) and not is_file(backbone):
        return list(_named(backbone, size))
    model = create_backbone(backbone, input_size=size) if isinstance(backbone, str) else backbone
    name, size = type(model).__name__, size or default_input_size(model)
    if size is None:
        raise BackboneError(f"the input size of {name} is not known; pass input_size, without the batch dimension")
    if callable(find := getattr(model, "find_slots", None)):  # a dense host, which is made of parts
        return find(size)
    return _slots_in(traced(model, size), size, name)


def traced(model: nn.Module, size: tuple[int, ...]) -> Trace:
    """Return the record of a run of a bare backbone: of a copy of the model without the plug-ins of a plan.

    Raises:
        BackboneError: If the network does not accept the input size.
    """
    return _run(strip(meta_copy(model)), size, type(model).__name__, fallback=model)


@lru_cache(maxsize=256)
def _named(name: str, size: tuple[int, ...] | None) -> tuple[Slot, ...]:
    # On the meta device no weight is allocated or drawn, so a large model costs no memory.
    with torch.device("meta"):
        model = create_backbone(name, input_size=size).eval()
    size = size or default_input_size(model)
    if size is None:
        raise BackboneError(f"the input size of {name} is not known; pass input_size, without the batch dimension")
    return tuple(_slots_in(_run(model, size, name), size, name))


def _run(model: nn.Module, size: tuple[int, ...], name: str, fallback: nn.Module | None = None) -> Trace:
    try:
        return trace(model, size)
    except Exception as error:
        if fallback is None or not is_data_dependent(error):
            raise BackboneError(_refusal(name, model, size, error)) from error
        # The network uses values of tensors (`x.item()`), so it runs again with real weights and an input of zeros.
        try:
            return trace(strip(_eval_copy(fallback)), size)
        except Exception as again:
            raise BackboneError(_refusal(name, model, size, again)) from again


def _slots_in(run: Trace, size: tuple[int, ...], name: str) -> list[Slot]:
    declared = getattr(run.model, "host_slots", None)
    places = _declared(run, declared(), size) if callable(declared) else _discovered(run, size, name)
    if not places:
        raise BackboneError(f"{name} has no slot at {size}: {_why_none(run)}")
    # Blocks of a transformer from which patches are removed in training get no grid.
    return [_as_sequence(slot) for slot in places] if getattr(run.model, "sequence_slots", False) else places


def _as_sequence(slot: Slot) -> Slot:
    """Return the slot of a map of tokens as that of a sequence. Other slots are returned as they are."""
    if slot.layout != "NLC" or len(slot.size) == 1:
        return slot
    return replace(slot, size=(math.prod(slot.size),), image=None)


def _why_none(run: Trace) -> str:
    if not run.outputs and not isinstance(run.output, torch.Tensor):
        return f"forward returns {type(run.output).__name__}; return a tensor, such as (B, num_classes)"
    modules = dict(run.model.named_modules())
    repeated = {
        path: len(calls)
        for path, calls in run.calls.items()
        if len(calls) > 1
        and any(p.ndim > 1 for p in modules[path].parameters())
        and any(len(run.nodes[node].shape) > 2 for _, node in calls[0].outputs)
    }
    if repeated:
        path, count = next(iter(repeated.items()))
        return (
            f"{len(repeated)} modules that return maps run several times in one pass, such as {path!r} ({count} times),"
            " and a slot must run exactly once; use a copy of the module for each run"
        )
    return "no module returns a map that affects the output"


def _eval_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval()


def _refusal(name: str, model: nn.Module, size: tuple[int, ...], error: Exception) -> str:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return (
            f"{name} is compiled with TorchScript, in whose modules nothing can be inserted; give the Python module "
            "from before torch.jit.script or torch.jit.trace"
        )
    usual = default_input_size(model)
    hint = f"; its default is {usual}" if usual is not None and usual != size else ""
    return f"{name} does not accept the input size {size}: {type(error).__name__}: {error}{hint}"


def _discovered(run: Trace, size: tuple[int, ...], name: str) -> list[Slot]:
    if len(size) not in (2, 3):
        raise BackboneError(f"{name}: the input size must be (channels, height, width) or (length, series), got {size}")
    blocks, entry = _discover(run, size), _entry(run)
    image = size[1:] if len(size) == 3 else None
    slots_found = []
    for k, stage in enumerate(_stages(blocks), start=1):
        slots_found += [_slot(f"stage{k}.block{j}", block) for j, block in enumerate(stage, start=1)]
        slots_found.append(_slot(f"stage{k}", stage[-1]))
    return [replace(slot, image=image, entry=entry) for slot in slots_found]


def _entry(run: Trace) -> str:
    """Return the path of the innermost module that gets the network's input first.

    This module gets the input even if only a part of the network is called (`forward_features` of timm's models).
    """
    starts = {path: calls[0].span[0] for path, calls in run.calls.items() if 0 in calls[0].inputs}
    first = min(starts.values(), default=0)
    paths = [path for path, start in starts.items() if start == first]
    return max(paths, key=lambda path: (path != "", path.count(".")), default="")


def _discover(run: Trace, size: tuple[int, ...]) -> list[Block]:
    if len(size) == 2:
        # The time steps of a sequence are always stored in order, so `order` stays None.
        return find_blocks(run, None)
    blocks, positions = find_blocks(run, size[1:]), Positions(run)
    return [replace(b, format=replace(b.format, order=positions.order(b.node, b.format))) for b in blocks]


def _stages(blocks: list[Block]) -> list[list[Block]]:
    """Group consecutive blocks of the same size into stages. If all have the same size, make four equal stages."""
    runs = [list(run) for _, run in itertools.groupby(blocks, key=lambda b: b.format.size)]
    if len(runs) != 1:
        return runs
    count = min(4, len(blocks))
    ends = [math.ceil(len(blocks) * k / count) for k in range(count + 1)]
    return [blocks[start:end] for start, end in itertools.pairwise(ends)]


def _slot(name: str, block: Block) -> Slot:
    form = block.format
    return Slot(name, form.channels, form.size, form.layout, block.path, form.prefix, block.index, form.order)


def _declared(run: Trace, places: object, size: tuple[int, ...]) -> list[Slot]:
    """Return the slots that a backbone declares itself as `{slot: (module path, layout)}`.

    A backbone for series, whose input is (lookback, series), can keep both axes in its map. Each row of the map is then
    one series.
    """
    slots_found = []
    if not isinstance(places, Mapping):
        raise BackboneError(f"host_slots must return {{slot: (module path, layout)}}, got {places!r:.80}")
    for name, place in places.items():
        if not (isinstance(place, (tuple, list)) and len(place) == 2 and isinstance(place[0], str)):
            raise BackboneError(
                f"slot {name!r}: host_slots must give (module path, layout) for it, such as ('stages.0', "
                f"{LAYOUTS[0]!r}), got {place!r:.80}"
            )
        path, layout = place
        calls = run.calls.get(path, [])
        if layout not in LAYOUTS:
            raise BackboneError(f"slot {name!r}: its layout is {layout!r}; allowed: {', '.join(LAYOUTS)}")
        if len(calls) != 1:
            raise BackboneError(
                f"slot {name!r}: the module {path!r} must run exactly once, but it ran {len(calls)} times"
            )
        if not calls[0].outputs:
            raise BackboneError(
                f"slot {name!r}: the module {path!r} must return a tensor computed from the input, but it returns none"
            )
        # If the module has several outputs, the last one is the slot's map.
        index, node = calls[0].outputs[-1]
        _, *rest = run.nodes[node].shape
        last = layout in ("NHWC", "NLC")
        channels, positions = (rest[-1], rest[:-1]) if last else (rest[0], rest[1:])
        rows = len(size) == 2 and len(positions) == 2 and positions[0] == size[1]
        slots_found.append(Slot(name, channels, tuple(positions), layout, path, 0, index, rows_are_series=rows))
    return slots_found
