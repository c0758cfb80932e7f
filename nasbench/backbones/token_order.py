"""Where in the image each token of a host comes from.

Most hosts keep tokens row by row. Hiera keeps them window by window, so that pooling is a maximum over neighbours in
memory; read row by row such tokens are no image. The order is found by moving the number of each position along the
recorded data flow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nasbench.backbones.layout import MapFormat
from nasbench.backbones.tracing import Node, Ref, Trace

__all__ = ["Positions"]

_MOVES = frozenset(
    {
        "view",
        "_unsafe_view",
        "permute",
        "transpose",
        "slice",
        "select",
        "cat",
        "clone",
        "unsqueeze",
        "squeeze",
        "expand",
        "alias",
        "detach",
    }
)
_CPU = torch.device("cpu")  # positions are real numbers, also where the caller builds on the meta device
_REDUCES = frozenset({"amax", "amin", "mean", "sum"})


class Positions:
    """Positions along the data flow of a traced network.

    Args:
        trace: The run.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._known: dict[int, Tensor | None] = {}

    def order(self, node: int, form: MapFormat) -> tuple[int, ...] | None:
        """Return `MapFormat.order` of a map; None where it lies row by row, or where nothing can be said."""
        positions = self.of(node) if form.folded else None
        if positions is None:
            return None
        tokens = positions[0, form.prefix :, 0] if form.layout == "NLC" else positions[0, 0]
        order = tokens.argsort()
        if tokens.unique().numel() != form.positions or torch.equal(order, torch.arange(form.positions, device=_CPU)):
            return None
        return tuple(order.tolist())

    def of(self, index: int) -> Tensor | None:
        """Return, for each element of a node's value, the position of the image it stands for; None if unknown.

        Positions are numbered row by row at whatever resolution, so only their order means something.
        """
        if index not in self._known:
            self._known[index] = None
            self._known[index] = self._compute(self.trace.nodes[index])
        return self._known[index]

    def _compute(self, node: Node) -> Tensor | None:
        if node.func is None or (node.op == "convolution" and len(node.shape) == 4):
            height, width = node.shape[2:]
            return torch.arange(height * width, device=_CPU).view(1, 1, height, width).expand(node.shape)
        if node.op in _MOVES and node.args:
            return self._move(node)
        if node.op in ("addmm", "mm"):
            return self._reduce(node, -1, True)
        if node.op in _REDUCES and len(node.args) > 1:
            return self._reduce(node, node.args[1], len(node.args) > 2 and bool(node.args[2]))
        # Pointwise operators and norms keep positions; of a residual sum the shortcut, which is the older, has them.
        same = sorted(p for p in node.parents if self.trace.nodes[p].shape == node.shape)
        return self.of(same[0]) if same else None

    def _reduce(self, node: Node, dims: Any, keepdim: bool) -> Tensor | None:
        """Positions of a sum over `dims`: the first of those it is made of."""
        positions = self.of(node.parents[0])
        return None if positions is None else positions.amin(dims, keepdim=keepdim).expand(node.shape)

    def _move(self, node: Node) -> Tensor | None:
        """Positions after an operator that only moves elements."""
        if any(self.of(parent) is None for parent in node.parents):
            return None
        first, *rest = [self._value(a) for a in node.args]
        if node.op in ("view", "_unsafe_view"):  # positions are expanded, which not every view can follow
            return first.reshape(*rest)
        return first if node.op == "clone" else node.func(first, *rest)

    def _value(self, arg: Any) -> Any:
        """An argument with positions in place of tensors; what is not of the image (a class token) is before it."""
        if isinstance(arg, list):
            return [self._value(a) for a in arg]
        if isinstance(arg, Ref):
            return torch.full(arg.shape, -1, device=_CPU) if arg.node is None else self.of(arg.node)
        return arg
