"""Check whether the network's output depends on the map in a slot.

Some ViTs read only the class token after their last block. There, a module that changes the patch tokens has no effect.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from nasbench.backbones.layout import MapFormat
from nasbench.backbones.tracing import Node, Trace

__all__ = ["map_is_read"]

_TOKENWISE = frozenset(
    (
        "native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm", "add", "sub", "mul", "div", "pow", "rsqrt",
        "gelu", "silu", "relu", "tanh", "sigmoid", "dropout", "native_dropout", "mean", "clone", "_to_copy", "alias",
        "detach", "contiguous", "slice", "view", "_unsafe_view",
    )
)  # fmt: skip
"""Operators that compute token i of `(B, N, .)` only from token i, if their output has the same B and N."""


def map_is_read(trace: Trace, start: int, form: MapFormat, useful: Container[int]) -> bool:
    """Return whether the network's output depends on the map in a node, not only on the prefix tokens before the map.

    Args:
        trace: The traced run.
        start: The node.
        form: Layout of the map in this node.
        useful: The nodes on which the network's output depends.
    """
    if form.layout != "NLC" or not form.prefix:
        return True
    shape = trace.nodes[start].shape[:2]
    aligned = {start}  # nodes whose token i comes only from token i of the start
    for index in range(start + 1, len(trace.nodes)):
        node = trace.nodes[index]
        if index not in useful or not aligned.intersection(node.parents) or _takes_prefix(node, form.prefix):
            continue
        # Any other operator can mix tokens, so the output may depend on the patch tokens.
        if node.op not in _TOKENWISE or node.shape[:2] != shape:
            return True
        aligned.add(index)
    return False


def _takes_prefix(node: Node, prefix: int) -> bool:
    """Return whether an operator reads only prefix tokens: `x[:, 0]`, `x[:, :p]`."""
    # aten.select(input, dim, index) and aten.slice(input, dim, start, end). Tokens are in dimension 1.
    args: tuple[Any, ...] = node.args
    if node.op == "select":
        return args[1] == 1 and 0 <= args[2] < prefix
    if node.op == "slice" and len(args) >= 4:
        return args[1] == 1 and isinstance(args[3], int) and 0 <= args[3] <= prefix
    return False
