"""Windows of a one- or two-dimensional map of any size: next to each other, or sliding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["merge_windows", "pad_to_windows", "real_positions", "sliding_windows", "split_windows"]


def pad_to_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """`(B, C, *S) -> (B, C, *S')`: pad the end of each axis with zeros up to a multiple of the window's side."""
    padding: list[int] = []
    for side, step in zip(reversed(x.shape[2:]), reversed(window), strict=True):  # F.pad begins with the last axis
        padding += [0, -side % step]
    return F.pad(x, padding)


def split_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """`(B, C, *S) -> (B, n, T, C)`: cut a map into n windows of T positions each.

    The map is padded with zeros first. Windows, and the positions in each window, are in row-major order.

    Args:
        x: A map of one or two dimensions.
        window: The window's side along each dimension. T is the product of the sides.
    """
    x = pad_to_windows(x, window)
    axes = len(window)
    sides = [part for side, step in zip(x.shape[2:], window, strict=True) for part in (side // step, step)]
    x = x.reshape(*x.shape[:2], *sides)
    which, where = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
    x = x.permute(0, *which, *where, 1)
    return x.flatten(1, axes).flatten(2, 1 + axes)


def merge_windows(windows: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """`(B, n, T, C) -> (B, C, *size)` for n windows of T positions: the inverse of `split_windows`, without padding.

    Args:
        windows: The windows of a map of `size`.
        window: The window's side along each axis.
        size: Size S of the map.
    """
    axes = len(window)
    counts = [-(-side // step) for side, step in zip(size, window, strict=True)]
    x = windows.unflatten(2, list(window)).unflatten(1, counts)
    order = [axis for i in range(axes) for axis in (1 + i, 1 + axes + i)]
    x = x.permute(0, 1 + 2 * axes, *order)
    x = x.reshape(*x.shape[:2], *[count * step for count, step in zip(counts, window, strict=True)])
    for axis, side in enumerate(size):
        x = x.narrow(2 + axis, 0, side)
    return x


def real_positions(size: Sequence[int], window: Sequence[int], *, device: torch.device | str | None = None) -> Tensor:
    """Return which of the T positions of each of n windows are in the map: bool `(n, T)`, False for padding.

    Every window has at least one such position. `real_positions(...)[:, None, None]` is therefore a valid mask for
    scaled_dot_product_attention, because no query is left without keys.
    """
    return split_windows(torch.ones(1, 1, *size, device=device), window)[0, :, :, 0] > 0


def sliding_windows(x: Tensor, kernel: int, dilation: int = 1) -> Tensor:
    """`(B, C, *S) -> (B, C, K, N)`: for each of N positions, the K positions that an odd kernel around it covers.

    K is `kernel ** dims`. The K positions are in row-major order, as in the weight of a convolution. Positions beyond
    the edge are zeros.
    """
    pad = dilation * (kernel - 1) // 2
    if x.ndim == 3:  # `unfold` takes only two dimensions, so a line becomes a map of one row
        x, sides, padding = x.unsqueeze(2), (1, kernel), (0, pad)
    else:
        sides, padding = (kernel, kernel), (pad, pad)
    windows = F.unfold(x, sides, dilation=dilation, padding=padding)
    return windows.unflatten(1, (x.shape[1], -1))
