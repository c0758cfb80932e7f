"""Layouts of feature maps: the meaning of each dimension, and the conversion to `(B, C, *S)` and back."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from nasbench.errors import InputError

__all__ = ["LAYOUTS", "Layout", "MapFormat", "factor_grid", "readings", "sequence_readings"]

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Largest number of class, distillation and register tokens that is tried. A backbone with more declares
# `num_prefix_tokens`.
_MAX_PREFIX = 8


@dataclass(frozen=True)
class MapFormat:
    """The layout of one feature map in a backbone.

    Attributes:
        layout: In `NCHW` and `NCL` the channels are first, in `NHWC` and `NLC` last.
        channels: Number of channels C.
        size: Spatial size: `(H, W)`, or `(L,)` for a sequence of length L. Tokens that form a grid have layout `NLC`
            and a size of two numbers.
        prefix: Number of tokens before the tokens of the grid (class, register). A plug-in never gets these tokens.
        order: For each position of the map, row by row, the index of its token. It is needed if a backbone does not
            store its tokens row by row (Hiera: window by window). None if tokens are stored row by row.
        image: `(H, W)` of the network's input in the traced run, in which the map had this size. None if unknown.
    """

    layout: Layout
    channels: int
    size: tuple[int, ...]
    prefix: int = 0
    order: tuple[int, ...] | None = field(default=None, repr=False)
    image: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def positions(self) -> int:
        """The number of positions of the map."""
        return math.prod(self.size)

    def split(
        self, x: Tensor, order: Tensor | None = None, image: tuple[int, ...] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Convert a backbone's tensor to a map `(B, C, *S)` and its prefix tokens (None if it has none).

        Args:
            x: The backbone's tensor.
            order: `self.order` as a tensor.
            image: `(H, W)` of the input of the current call. None means that it is not known.

        Raises:
            InputError: If the tokens do not form a grid of this image.
        """
        if self.layout in ("NCHW", "NCL"):
            return (x.unflatten(2, self.grid(x.shape[2], image)) if self.folded else x), None
        prefix = x[:, : self.prefix] if self.prefix else None
        x = x[:, self.prefix :] if self.prefix else x
        # The grid is computed from this run, because its input can have another size than the input of the traced run.
        grid = self.grid(x.shape[1], image) if self.folded else None
        if order is not None:
            x = x.index_select(1, order)
        if grid is not None:
            x = x.unflatten(1, grid)
        return x.movedim(-1, 1), prefix

    def join(self, x: Tensor, prefix: Tensor | None, back: Tensor | None = None) -> Tensor:
        """Convert a map `(B, C, *S)` and its prefix tokens to the backbone's layout. This is the inverse of `split`.

        Args:
            x: The map.
            prefix: The prefix tokens that `split` returned.
            back: The inverse permutation of `order`.
        """
        if self.folded:
            x = x.flatten(2)
        if self.layout in ("NHWC", "NLC"):
            x = x.movedim(1, -1)
        if back is not None:
            x = x.index_select(1, back)
        # Under autocast the plug-in's output can have another dtype than the prefix tokens.
        return x if prefix is None else torch.cat([prefix.to(x.dtype), x], dim=1)

    @property
    def folded(self) -> bool:
        """Whether the backbone stores the positions of a grid in one dimension."""
        return self.layout in ("NLC", "NCL") and len(self.size) == 2

    def grid(self, positions: int, image: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return the `(H, W)` of a grid with this number of positions.

        The grid is the current image divided by the strides of the traced run, with each side rounded down or up. A
        host that resizes its input has the same grid at all sizes. If the current image is not known, the grid has the
        aspect ratio of the traced run.

        Args:
            positions: Number of tokens of the grid.
            image: `(H, W)` of the input of the current call. None means that it is not known.

        Raises:
            InputError: If the tokens do not form a grid of this image.
        """
        if image is not None and self.image is not None and self.order is None:
            for height, width in self._rounded(image):
                if height * width == positions:
                    return height, width
        if positions == self.positions:
            return self.size
        if self.order is not None:
            raise InputError(
                f"the host's token order is known only for {self.positions} tokens, got {positions};"
                " insert the plan at the input size that you run"
            )
        # If the traced image is not a multiple of its grid, the strides are uncertain. The aspect ratio is not.
        exact = self.image is not None and all(i % s == 0 for i, s in zip(self.image, self.size, strict=True))
        aspect = self.size if image is None else image
        grid = None if image is not None and exact else factor_grid(positions, aspect)
        if grid is None:
            of = f"aspect ratio {aspect[0]}:{aspect[1]}" if image is None else f"an image of {image[0]}x{image[1]}"
            traced = "" if self.image is None else f" for an image of {self.image[0]}x{self.image[1]}"
            known = f"the host had {self.size[0]}x{self.size[1]} tokens{traced}"
            raise InputError(f"{positions} tokens do not form a grid of {of}; {known}")
        return grid

    def _rounded(self, image: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Yield the grids of an image at the strides of the traced run, first with both sides rounded down."""
        assert self.image is not None
        down = [side * s // whole for side, s, whole in zip(image, self.size, self.image, strict=True)]
        up = [-(-side * s // whole) for side, s, whole in zip(image, self.size, self.image, strict=True)]
        yield down[0], down[1]
        yield up[0], up[1]
        yield down[0], up[1]
        yield up[0], down[1]


def factor_grid(positions: int, aspect: Sequence[int]) -> tuple[int, int] | None:
    """Factor `positions` into the `(H, W)` nearest to an aspect ratio. Return None if no factorisation is near it."""
    ideal = math.sqrt(positions * aspect[0] / aspect[1])
    for height in sorted({math.floor(ideal), math.ceil(ideal)}, key=lambda h: abs(h - ideal)):
        if height >= 1 and positions % height == 0 and _fits((height, positions // height), aspect):
            return height, positions // height
    return None


def _fits(grid: Sequence[int], image: Sequence[int]) -> bool:
    """Return whether `grid` is the image divided by one stride, with each side rounded down or up."""
    if min(grid) < 1:
        return False
    # With rounding alone, 7x8 would be accepted as the map of a square image.
    if image[0] == image[1]:
        return grid[0] == grid[1]
    stride = math.sqrt(math.prod(image) / math.prod(grid))
    return all(abs(side - whole / stride) < 1 for side, whole in zip(grid, image, strict=True))


def readings(
    shape: Sequence[int],
    image: Sequence[int],
    *,
    prefix: int | None = None,
    grids: Container[Sequence[int]] | None = None,
) -> list[MapFormat]:
    """Return every way to read a tensor as a feature map of an image, with the likeliest first.

    Args:
        shape: The tensor's shape, with the batch first.
        image: `(H, W)` of the network's input.
        prefix: Number of prefix tokens that the backbone declares. None if it declares none.
        grids: Spatial sizes of the network's maps, such as the map of the patch embedding. Tokens must form one of
            these grids. If None, they can form any grid with the image's aspect ratio.
    """
    formats = []
    # A map with as many channels as rows fits both layouts. The caller chooses one from the other maps of the network.
    if len(shape) == 4:
        _, a, b, c = shape
        if _fits((b, c), image):
            formats.append(MapFormat("NCHW", a, (b, c)))
        if _fits((a, b), image):
            formats.append(MapFormat("NHWC", c, (a, b)))
    if len(shape) == 3:
        _, a, b = shape
        for positions, channels, layout in ((a, b, "NLC"), (b, a, "NCL")):
            # A single token would fit any image, so it is not read as a map. Only NLC has prefix tokens, see `split`.
            formats += [
                MapFormat(layout, channels, grid, count)  # type: ignore[arg-type]
                for grid, count in _token_grids(positions, image, prefix)
                if (positions > 1 if grids is None else grid in grids) and (layout == "NLC" or count == 0)
            ][:1]
    return formats


def sequence_readings(shape: Sequence[int], widths: Container[int]) -> list[MapFormat]:
    """Return how to read a tensor `(B, ., .)` of a network on sequences, or [] for any other shape.

    Args:
        shape: The tensor's shape, with the batch first.
        widths: Channel counts of the network's 1-d convolutions, which have channels first.
    """
    if len(shape) != 3:
        return []
    _, a, b = shape
    return [MapFormat("NCL", a, (b,)) if a in widths else MapFormat("NLC", b, (a,))]


def _token_grids(tokens: int, image: Sequence[int], prefix: int | None) -> list[tuple[tuple[int, int], int]]:
    """Return the possible pairs `(grid, prefix)` for a number of tokens, the likeliest first."""
    counts = [*range(_MAX_PREFIX + 1)]
    if prefix is not None:
        # The declared number does not apply to every tensor: CaiT adds its class token only in its last layers.
        counts = [prefix, *(c for c in counts if c != prefix)]
    grids = [(factor_grid(tokens - c, image), c) for c in counts if c < tokens]
    return [(grid, count) for grid, count in grids if grid is not None]
