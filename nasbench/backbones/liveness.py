"""Whether what a slot holds is used: after a ViT's last block only the class token may be read, not the patches."""

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
"""Operators that compute token i of `(B, N, .)` from token i alone, where they keep B and N."""


def map_is_read(trace: Trace, start: int, form: MapFormat, useful: Container[int]) -> bool:
    """Whether the output depends on more of a node than its prefix tokens.

    Args:
        trace: The run.
        start: The node.
        form: How its map lies in it.
        useful: The nodes that the output depends on.
    """
    if form.layout != "NLC" or not form.prefix:
        return True
    shape = trace.nodes[start].shape[:2]
    aligned = {start}  # nodes whose token i comes from token i of the start alone
    for index in range(start + 1, len(trace.nodes)):
        node = trace.nodes[index]
        if index not in useful or not aligned.intersection(node.parents) or _takes_prefix(node, form.prefix):
            continue
        if node.op not in _TOKENWISE or node.shape[:2] != shape:
            return True
        aligned.add(index)
    return False


def _takes_prefix(node: Node, prefix: int) -> bool:
    """Whether an operator reads prefix tokens only: `x[:, 0]`, `x[:, :p]`."""
    args: tuple[Any, ...] = node.args
    if node.op == "select":
        return args[1] == 1 and 0 <= args[2] < prefix
    if node.op == "slice" and len(args) >= 4:
        return args[1] == 1 and isinstance(args[3], int) and 0 <= args[3] <= prefix
    return False
