"""Find the blocks of a network: the units that its designer stacked.

The only information is one traced run. The search starts with the whole network and looks inside modules. It replaces a
module by its parts if these parts form a chain: they contain most of the module's weights, and all data passes through
them one after another. A module that is not such a chain is a block. For example, a residual block is not a chain,
because its shortcut bypasses each of its parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from nasbench.backbones.layout import MapFormat, readings, sequence_readings
from nasbench.backbones.liveness import map_is_read
from nasbench.backbones.tracing import Call, Trace

__all__ = ["Block", "find_blocks"]

_LIST = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_AROUND = re.compile(r"(^|[._])(stem|downsample)([._]|$)")
"""Usual names of parts that do not count as blocks, even if they are built like blocks."""


@dataclass(frozen=True)
class Block:
    """A block of a network, and where to find the feature map that the block returns.

    Attributes:
        path: Dotted path of the module whose output contains the map.
        index: Index of the map in the tuple that the module returns. None if the module returns the map itself.
        node: Index of the map's node in the trace.
        format: How the map is laid out in the tensor.
    """

    path: str
    index: int | None
    node: int
    format: MapFormat


def find_blocks(trace: Trace, image: tuple[int, ...] | None) -> list[Block]:
    """Return, in network order, the blocks whose feature map affects the network's output.

    Args:
        trace: A run of the network.
        image: `(H, W)` of the network's input. None if the input is a sequence.
    """
    useful = trace.last_uses([0], trace.outputs)
    # In the first attempt, the token grid must have the same `(H, W)` as a 4-D feature map in the trace. A network
    # without a convolutional patch embedding has no such map. The second attempt then accepts any grid with the aspect
    # ratio of the image.
    finders = (_Finder(trace, image, useful, seen_only=seen_only) for seen_only in (True, False))
    blocks = next((trunk for finder in finders if (trunk := finder.trunk())), [])
    return [b for b in blocks if map_is_read(trace, b.node, b.format, useful)]


class _Finder:
    def __init__(
        self, trace: Trace, image: tuple[int, ...] | None, useful: Mapping[int, int], *, seen_only: bool
    ) -> None:
        self.trace, self.image, self.useful = trace, image, useful
        self.module = dict(trace.model.named_modules())
        # A list of modules is never called itself, so every module that contains a called module counts as run.
        self.ran = {p.rsplit(".", n)[0] for p in trace.calls for n in range(p.count(".") + 1)}
        self.prefix = getattr(trace.model, "num_prefix_tokens", None)
        self.grids = _grids(trace, image) if image is not None and seen_only else None
        self.widths = {m.out_channels for m in trace.model.modules() if isinstance(m, nn.Conv1d)}
        self._flow: dict[tuple[int, ...], dict[int, int]] = {}

    def trunk(self) -> list[Block]:
        """Return the blocks of the network, in network order."""
        model = self.trace.model
        paths = self.inside("", model, top=True) or self.wrapped("", model) or self.layers("", model)
        # The names are only a convention. They are ignored if they would exclude every path.
        paths = [p for p in paths if not _AROUND.search(p)] or paths
        cuts = [p for p in paths if self.is_cut(p, self.trace.calls[""][0])]
        # Blocks of a side branch or of a multi-level head do not belong to the trunk. In NASNet each cell reads the two
        # cells before it, so some data bypasses every cell. If most blocks are bypassed, all blocks count as trunk.
        return self.blocks(cuts if 2 * len(cuts) >= len(paths) else paths)

    # What is inside a container

    def inside(self, path: str, module: nn.Module, *, top: bool = False) -> list[str]:
        """Return the paths of the blocks inside `module`, or [] if it is a block itself or contains no block."""
        if isinstance(module, _LIST):
            blocks = self.elements(path, module)
        else:
            lists = [(p, m) for p, m in self.children(path, module) if isinstance(m, _LIST)]
            blocks = [unit for p, m in lists for unit in self.elements(p, m)]
            if not blocks:
                blocks = self.single(path, module, top)
        return blocks if top or self.is_container(path, module, blocks) else []

    def wrapped(self, path: str, module: nn.Module) -> list[str]:
        """Return the blocks of a backbone that lies deep in other modules (a detector of transformers), or [].

        At each level, the search enters the child that contains most of the weights. It ends at the first child with a
        list of blocks.
        """
        weight = {p: sum(w.numel() for w in m.parameters()) for p, m in self.children(path, module)}
        heaviest = max(weight, key=lambda p: weight[p], default=None)
        if heaviest is None or 2 * weight[heaviest] < sum(weight.values()):
            return []
        inner = self.module[heaviest]
        row = isinstance(inner, _LIST) or any(isinstance(m, _LIST) for _, m in self.children(heaviest, inner))
        return (self.inside(heaviest, inner, top=True) if row else []) or self.wrapped(heaviest, inner)

    def elements(self, path: str, module: nn.Module) -> list[str]:
        """Return the blocks in a list of modules, or [] if the list contains nothing bigger than a layer."""
        children = self.children(path, module)
        if not any(_is_composite(m) for _, m in children):
            return []
        return [unit for p, m in children for unit in (self.inside(p, m) or self.block(p, m))]

    def single(self, path: str, module: nn.Module, top: bool) -> list[str]:
        """Return the blocks among the attributes of a module.

        If the module is the whole network, all attributes count. Otherwise only numbered attributes count (`b1`, `b2`).
        """
        children = [(p, m) for p, m in self.children(path, module) if _is_composite(m)]
        if not top:
            children = [(p, m) for p, m in children if p[-1].isdigit()]
            if len({p.rstrip("0123456789") for p, _ in children}) != 1:
                return []
        blocks = [unit for p, m in children for unit in (self.inside(p, m) or self.block(p, m))]
        # A plain network has few composite attributes, but many layers in its lists.
        layers = self.layers(path, module) if top and self.layer_lists(path, module) else []
        return layers if len(layers) > len(blocks) else blocks

    def layer_lists(self, path: str, module: nn.Module) -> list[str]:
        """Return the paths of the children that are lists with several layers."""
        return [p for p, m in self.children(path, module) if isinstance(m, _LIST) and _weights(m) >= 2]

    def layers(self, path: str, module: nn.Module) -> list[str]:
        """Return the layers of a plain network (VGG).

        A layer is a convolution or linear module with the norm and activation after it.
        """
        # If the network has lists of layers, these lists are the trunk, and all other layers belong to the head.
        roots = tuple(f"{p}." for p in self.layer_lists(path, module)) or ("",)
        leaves = [
            (p, c[0])
            for p, c in sorted(self.trace.calls.items(), key=lambda item: item[1][0].span)
            if len(c) == 1 and p and p.startswith(roots) and _is_leaf(self.module[p])
        ]
        layers: list[str] = []
        size: tuple[int, ...] | None = None
        for p, call in leaves:
            here = self.map_size(call)
            if here is None:
                size = None
            elif _weights(self.module[p]):
                layers.append(p)
                size = here
            elif size == here and layers:
                # A norm or activation that follows at the same size belongs to the layer, so the layer ends there.
                layers[-1] = p
            else:
                size = None
        return layers

    def children(self, path: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return the children that ran, with their paths. A list of modules ran if one of its modules ran."""
        named = [(f"{path}.{n}" if path else n, m) for n, m in module.named_children()]
        return [(p, m) for p, m in named if p in self.ran]

    def is_container(self, path: str, module: nn.Module, blocks: list[str]) -> bool:
        """Return whether `module` is a chain of blocks, and these blocks contain most of the module's weights."""
        calls = self.trace.calls.get(path)
        if not blocks or (calls is not None and len(calls) != 1):
            return False
        inner = sum(p.numel() for unit in blocks for p in self.module[unit].parameters())
        around = [m for n, m in module.named_children() if _AROUND.search(n)]
        whole = sum(p.numel() for p in module.parameters()) - sum(p.numel() for m in around for p in m.parameters())
        if 2 * inner < whole:
            return False
        # A shortcut around the whole chain ends after the last block, so it is enough to look at the last block.
        return calls is None or self.is_cut(blocks[-1], calls[0])

    def is_cut(self, path: str, around: Call) -> bool:
        """Return whether all data that flows through the call `around` passes through the module at `path`."""
        outputs = {node for _, node in self.trace.calls[path][0].outputs}
        last = max(outputs, default=-1)
        return all(node in outputs for node, use in self.flow(around).items() if node <= last < use)

    def flow(self, around: Call) -> dict[int, int]:
        """Return the nodes between a call's inputs and outputs, each with the last of these nodes that uses it."""
        key = (*around.span, *around.inputs)
        if key not in self._flow:
            sinks = [node for _, node in around.outputs] or self.trace.outputs
            self._flow[key] = self.trace.last_uses(around.inputs or (0,), sinks, around.span)
        return self._flow[key]

    # What is a block

    def block(self, path: str, module: nn.Module) -> list[str]:
        """Return `[path]` if the module is a block (it ran once, has weights and returns a map), and [] if not."""
        calls = self.trace.calls.get(path, [])
        if len(calls) != 1 or not _weights(module) or self.map_size(calls[0]) is None:
            return []
        if _is_composite(module):
            return [path]
        # A single layer is taken for an embedding, not a block. A layer with its norm is a block, unless it changes the
        # size of the map. Then it is only the downsampling between two stages.
        return [] if _is_leaf(module) or self.map_size(calls[0]) != self.input_size(calls[0]) else [path]

    def innermost(self, path: str) -> str:
        """Follow the last items of nested `Sequential`s while the output stays the same. Return the innermost path.

        Some networks call the items of a `Sequential` one by one. A hook on the `Sequential` would then never run.
        """
        while isinstance(self.module[path], nn.Sequential):
            last = [p for p, _ in self.children(path, self.module[path])][-1:]
            calls = self.trace.calls.get(last[0], []) if last else []
            if len(calls) != 1 or calls[0].outputs != self.trace.calls[path][0].outputs:
                break
            path = last[0]
        return path

    def map_size(self, call: Call) -> tuple[int, ...] | None:
        """Return the spatial size of a call's output, or None if it is not a map."""
        sizes = [r[0].size for _, node in call.outputs if (r := self.read(node))]
        return sizes[-1] if sizes else None

    def input_size(self, call: Call) -> tuple[int, ...] | None:
        """Return the spatial size of a call's first input that is a map, or None if there is no map."""
        sizes = [r[0].size for node in call.inputs if (r := self.read(node))]
        return sizes[0] if sizes else None

    def read(self, node: int) -> list[MapFormat]:
        """Return every way to read a node as a map."""
        shape = self.trace.nodes[node].shape
        if not shape or shape[0] != self.trace.nodes[0].shape[0]:
            return []  # windows or branches that are folded into the batch are not maps of the image
        if self.image is None:
            return sequence_readings(shape, self.widths)
        return readings(shape, self.image, prefix=self.prefix, grids=self.grids)

    def blocks(self, paths: list[str]) -> list[Block]:
        """Choose the layout of each block's map. An ambiguous map gets the layout that most unambiguous maps have."""
        options: list[tuple[str, int | None, int, list[MapFormat]]] = []
        for path in sorted(paths, key=lambda p: self.trace.calls[p][0].span[1]):
            call = self.trace.calls[path][0]
            maps = [(i, n, r) for i, n in call.outputs if self.is_used_after(n, call) and (r := self.read(n))]
            if maps:
                options.append((self.innermost(path), *max(maps, key=lambda option: self.rank(option, call))))
        votes = Counter(r[0].layout for *_, r in options if len(r) == 1)
        return [Block(p, i, n, max(r, key=lambda f: votes[f.layout])) for p, i, n, r in options]

    def rank(self, option: tuple[int | None, int, list[MapFormat]], call: Call) -> tuple[bool, bool, int]:
        """Return a sort key for the maps in one output tuple. The map with the highest key is the block's map.

        A map that was computed in the call ranks above a map that only passed through the call. Four-dimensional maps
        rank above states and tokens. Among equal maps, the last one ranks highest, because it is the coarsest.
        """
        index, node, _ = option
        return node >= call.span[0], len(self.trace.nodes[node].shape) == 4, index or 0

    def is_used_after(self, node: int, call: Call) -> bool:
        """Return whether the network's output depends on a node through the values that the call returned.

        A node that was only used inside the call does not count.
        """
        return node in self.trace.outputs or self.useful.get(node, -1) >= call.span[1]


def _grids(trace: Trace, image: tuple[int, ...]) -> set[tuple[int, ...]]:
    shapes = {node.shape for node in trace.nodes if len(node.shape) == 4}
    return {reading.size for shape in shapes for reading in readings(shape, image)}


def _weights(module: nn.Module) -> int:
    """Return the number of weight matrices and kernels in a module."""
    return sum(p.ndim >= 2 and max(p.shape[1:]) >= 1 for p in module.parameters())


def _is_composite(module: nn.Module) -> bool:
    """Whether `module` is more than a layer with its norm and activation."""
    return any(True for _ in module.children()) and _weights(module) >= 2


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())
