"""Offsets between the positions of a window. A relative position bias is looked up or computed by them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["offset_index", "window_offsets"]


def window_offsets(window: tuple[int, int], *, device: torch.device | str | None = None) -> Tensor:
    """Return every offset (rows, columns) between two positions of a window: `((2h - 1) (2w - 1), 2)`, float32.

    The window has h rows and w columns. The offsets are in row-major order, from (1 - h, 1 - w) to (h - 1, w - 1).
    """
    sides = [torch.arange(1 - side, side, device=device, dtype=torch.float32) for side in window]
    return torch.cartesian_prod(*sides)


def offset_index(window: tuple[int, int], *, device: torch.device | str | None = None) -> Tensor:
    """For each query and key, return the row number of their offset in `window_offsets`: int64 `(T, T)`, T = h w.

    The offset is the position of the query minus that of the key. The first axis is the query, the second the key.
    Positions are in row-major order.
    """
    h, w = window
    place = torch.arange(h * w, device=device)
    row, column = place // w, place % w
    rows = row[:, None] - row + h - 1  # shifted to start at 0
    columns = column[:, None] - column + w - 1
    return rows * (2 * w - 1) + columns
