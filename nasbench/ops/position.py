"""Positions of tokens: sinusoidal encodings and learned biases by offset, both for maps of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RelativeBias", "resize", "sinusoidal", "unit_sinusoidal"]

_MODES = {1: "linear", 2: "bilinear"}


def sinusoidal(size: Sequence[int], channels: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the sinusoidal encoding of all N positions of a map: `(N, channels)`, float32.

    In one dimension channel 2i of position p is sin(p / 10000^(2i/C)) and channel 2i + 1 is the cosine of the same
    angle (Vaswani et al. 2017, section 3.5). In two dimensions the first half of the channels (the larger half of an
    odd count) encodes the row and the second half encodes the column, each as in one dimension.

    Args:
        size: Size S of the map, of one or two dimensions.
        channels: Number of channels C.
        device: Device of the encoding.
    """
    return _of_axes([torch.arange(side, device=device, dtype=torch.float32) for side in size], channels)


def unit_sinusoidal(
    size: Sequence[int], channels: int, *, shift: float, device: torch.device | str | None = None
) -> Tensor:
    """Return the encoding of `sinusoidal` with positions in units of the map: `(N, channels)`, float32.

    Position i of a side of n counts as 2π (i + shift) / n. So maps of different sizes have comparable encodings. The
    code of DETR does this with a shift of 1, that of Deformable DETR with 0.5.
    """
    axes = [torch.arange(side, device=device, dtype=torch.float32) for side in size]
    return _of_axes([(axis + shift) * (2 * math.pi / len(axis)) for axis in axes], channels)


def _of_axes(axes: Sequence[Tensor], channels: int) -> Tensor:
    """Return the encodings `(N, channels)` of a map, from the positions along its sides."""
    if len(axes) == 1:
        return _sinusoidal_1d(axes[0], channels)
    row = _sinusoidal_1d(axes[0], channels - channels // 2)
    column = _sinusoidal_1d(axes[1], channels // 2)
    rows = row[:, None].expand(-1, len(column), -1)
    columns = column[None].expand(len(row), -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _sinusoidal_1d(positions: Tensor, channels: int) -> Tensor:
    even = torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32)
    # A map with one channel has no channel left for the column.
    rate = torch.exp(even * (-math.log(10000.0) / max(channels, 1)))
    angle = positions[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :channels]


def resize(table: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a learned table (bi)linearly: `(B, C, *R) -> (B, C, *size)`. If R equals `size`, no value changes."""
    return F.interpolate(table, size=list(size), mode=_MODES[len(size)], align_corners=False)


class RelativeBias(nn.Module):
    """A learned bias for each head and each offset between two positions (Swin, Liu et al., ICCV 2021).

    Each head has a table with a bias for each of the `(2 reference - 1) ** dims` offsets of a map with sides of
    `reference` positions. The table is interpolated to the offsets of the actual map. So the bias depends on the offset
    relative to the side of the map.

    Args:
        heads: Number of attention heads.
        dims: Number of spatial dimensions of the map, 1 or 2.
        reference: Side of the map for which the table is stored.
    """

    def __init__(self, heads: int, dims: int, *, reference: int = 7) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(heads, *[2 * reference - 1] * dims))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, size: Sequence[int]) -> Tensor:
        """Return the bias of each head, query and key of a map: `(heads, N, N)`, where N is the product of `size`."""
        bias = resize(self.table[None], [2 * side - 1 for side in size])[0]
        for axis, side in enumerate(size):
            # Each axis of offsets becomes two axes: the position of the query and the position of the key.
            place = torch.arange(side, device=bias.device)
            offset = place[:, None] - place[None, :] + side - 1
            bias = bias.index_select(1 + 2 * axis, offset.flatten()).unflatten(1 + 2 * axis, (side, side))
        queries = range(1, 2 * len(size), 2)
        keys = range(2, 2 * len(size) + 1, 2)
        count = math.prod(size)
        return bias.permute(0, *queries, *keys).reshape(bias.shape[0], count, count)
