"""Find, for each token of a backbone, the position in the image from which it comes.

Most backbones store tokens row by row. Hiera stores them in an order in which its pooling is a view and a maximum over
one axis. If these tokens are read row by row, they do not form an image. To find the order, each position
of the image gets a number. The recorded operators are then applied to these numbers instead of the data.
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
_CPU = torch.device("cpu")  # position numbers need real values, even if the caller works on the meta device
_REDUCES = frozenset({"amax", "amin", "mean", "sum"})


class Positions:
    """Computes from which position of the image the elements of each tensor in a trace come.

    Args:
        trace: The traced run.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._known: dict[int, Tensor | None] = {}

    def order(self, node: int, form: MapFormat) -> tuple[int, ...] | None:
        """Return `MapFormat.order` of a map, or None if it is stored row by row or the order is unknown."""
        positions = self.of(node) if form.folded else None
        if positions is None:
            return None
        tokens = positions[0, form.prefix :, 0] if form.layout == "NLC" else positions[0, 0]
        order = tokens.argsort()
        # If two tokens have the same position, the positions do not define an order.
        if tokens.unique().numel() != form.positions or torch.equal(order, torch.arange(form.positions, device=_CPU)):
            return None
        return tuple(order.tolist())

    def of(self, index: int) -> Tensor | None:
        """Return the image position of each element of a node's value, or None if the positions are unknown.

        Positions are numbered row by row at the last 2-d convolution before the node, or at the network's input. After
        a pooling step the numbers have gaps, so only their order has a meaning, not their values.
        """
        if index not in self._known:
            self._known[index] = None
            self._known[index] = self._compute(self.trace.nodes[index])
        return self._known[index]

    def _compute(self, node: Node) -> Tensor | None:
        # The network's input, and the output of each 2-d convolution, are stored row by row, so the numbering starts
        # again here.
        if node.func is None or (node.op == "convolution" and len(node.shape) == 4):
            height, width = node.shape[2:]
            return torch.arange(height * width, device=_CPU).view(1, 1, height, width).expand(node.shape)
        if node.op in _MOVES and node.args:
            return self._move(node)
        # A linear layer mixes the channels of one position.
        if node.op in ("addmm", "mm"):
            return self._reduce(node, -1, True)
        if node.op in _REDUCES and len(node.args) > 1:
            return self._reduce(node, node.args[1], len(node.args) > 2 and bool(node.args[2]))
        # Pointwise operators and norms keep positions. In a residual sum, the shortcut has the right positions, and it
        # is the older of the two nodes.
        same = sorted(p for p in node.parents if self.trace.nodes[p].shape == node.shape)
        return self.of(same[0]) if same else None

    def _reduce(self, node: Node, dims: Any, keepdim: bool) -> Tensor | None:
        """Return the positions after a reduction over `dims`. A group gets its first position."""
        positions = self.of(node.parents[0])
        return None if positions is None else positions.amin(dims, keepdim=keepdim).expand(node.shape)

    def _move(self, node: Node) -> Tensor | None:
        """Return the positions after an operator that only moves elements."""
        if any(self.of(parent) is None for parent in node.parents):
            return None
        first, *rest = [self._value(a) for a in node.args]
        # Positions are expanded tensors, and torch does not allow every view of them. `reshape` copies if necessary.
        if node.op in ("view", "_unsafe_view"):
            return first.reshape(*rest)
        return first if node.op == "clone" else node.func(first, *rest)

    def _value(self, arg: Any) -> Any:
        """Return an argument with positions instead of its tensors.

        A tensor that does not come from the image (a class token) gets the position -1, which is before all others.
        """
        if isinstance(arg, list):
            return [self._value(a) for a in arg]
        if isinstance(arg, Ref):
            return torch.full(arg.shape, -1, device=_CPU) if arg.node is None else self.of(arg.node)
        return arg
