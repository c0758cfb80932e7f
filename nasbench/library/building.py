"""Build the `nn.Module` that an expression describes."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench.errors import UnsupportedError
from nasbench.library.expression import Expression, Fused, Leaf, Series, parse, runs_rowwise
from nasbench.library.modules import create_module, module_spec

__all__ = ["Branches", "Rowwise", "build"]


class Branches(nn.Module):
    """Run every branch on the same map and fuse the results: `(B, C, *S) -> (B, C, *S)`.

    Args:
        branches: Modules `(B, C, *S) -> (B, C, *S)`.
        fusion: A fusion module. It is called with one map from each branch.
    """

    def __init__(self, branches: list[nn.Module], fusion: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.fusion = fusion

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return self.fusion(*[branch(x) for branch in self.branches])


class Rowwise(nn.Module):
    """Run a one-dimensional module on each row of a map separately. The module gets `(B, C, H, W)` as `(B·H, C, W)`.

    Args:
        module: A one-dimensional module, `(B, C, W) -> (B, C, W)`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        rows = x.transpose(1, 2)  # rows are moved into the batch, so that each row is a separate sample
        return self.module(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).transpose(1, 2)


def build(
    expression: Expression | str, *, channels: int | tuple[int, ...], dims: int, rowwise: bool = False
) -> nn.Module:
    """Build the `nn.Module` that an expression describes.

    Args:
        expression: The expression or its text.
        channels: Number of channels C of the map. For a slot that takes a neck, a
            tuple with one number for each level.
        dims: Number of spatial dimensions of the map, 1 or 2.
        rowwise: Whether each row of a two-dimensional map is a separate series. If so, a module that supports only
            one-dimensional maps runs on each row separately.

    Returns:
        A module `(B, C, *S) -> (B, C, *S)`, which is `nn.Identity` for `none`. For a tuple of channels, a neck: from a
        list of maps to a list of maps.

    Raises:
        UnsupportedError: If a module of the expression does not support these channels or dims, or if the expression is
            a single fusion or neck.
    """
    expression = parse(expression)
    if isinstance(channels, tuple):
        return _neck(expression, channels)
    if isinstance(expression, Leaf):
        if module_spec(expression.name).kind != "module":
            raise UnsupportedError(_alone(expression.name))
        if rowwise and runs_rowwise(expression, dims):
            return Rowwise(create_module(expression.name, channels, dims=1, **dict(expression.hyper)))
        return create_module(expression.name, channels, dims=dims, **dict(expression.hyper))
    if isinstance(expression, Series):
        if expression.is_none:
            return nn.Identity()
        return nn.Sequential(*[build(part, channels=channels, dims=dims, rowwise=rowwise) for part in expression.parts])
    assert isinstance(expression, Fused)
    branches = [build(branch, channels=channels, dims=dims, rowwise=rowwise) for branch in expression.branches]
    inputs = len(branches) if len(branches) > 2 else None
    fusion = create_module(expression.fusion, channels, dims=dims, inputs=inputs, **dict(expression.hyper))
    return Branches(branches, fusion)


def _neck(expression: Expression, channels: tuple[int, ...]) -> nn.Module:
    if expression.is_none:
        return nn.Identity()
    if not isinstance(expression, Leaf) or module_spec(expression.name).kind != "neck":
        raise UnsupportedError(f"this slot takes one neck, or none; got {expression.canonical()}")
    return create_module(expression.name, list(channels), **dict(expression.hyper))


def _alone(name: str) -> str:
    kind = module_spec(name).kind
    if kind == "neck":
        return f"{name} is a neck, which joins all levels of a pyramid: it goes into the slot `neck` of a dense host"
    if kind == "head":
        return f"{name} is a head, which ends a network: give it as `head=`"
    if kind == "pretext":
        return f"{name} is a pretext, which trains a network: give it as `learn=`"
    return f"{name} cannot stand alone in an expression"
