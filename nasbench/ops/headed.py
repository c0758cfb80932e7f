"""A host of dense tasks, and a host with a head, as plain modules: an exported model consists of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["DenseModel", "PyramidHost"]


class PyramidHost(nn.Module):
    """The stages of a backbone, a neck, and one place for a module at each level.

    Args:
        backbone: Returns its maps for images `(B, 3, H, W)`, fine to coarse, or its only map.
        pyramid: Makes the levels from the maps. `nn.Identity` if each map is a level.
        neck: From a list of maps to a list of maps of the same sizes. `nn.Identity` for none.
        levels: Number of levels.
        channels_last: Whether the backbone's maps are `(B, H, W, C)`.
    """

    def __init__(
        self, backbone: nn.Module, pyramid: nn.Module, neck: nn.Module, *, levels: int, channels_last: bool
    ) -> None:
        super().__init__()
        self.backbone, self.channels_last = backbone, channels_last
        self.pyramid, self.neck = pyramid, neck
        self.levels = nn.ModuleList(nn.Identity() for _ in range(levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(B, 3, H, W)` to a list of maps `(B, C_i, H_i, W_i)`, fine to coarse."""
        maps: Sequence[Tensor] = self.backbone(x)
        if isinstance(maps, Tensor):
            maps = [maps]
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        return [level(m) for level, m in zip(self.levels, self.neck(self.pyramid(maps)), strict=True)]


class DenseModel(nn.Module):
    """A dense host with a head: from images `(B, 3, H, W)` to what the head computes.

    Args:
        host: From images to a list of maps.
        head: A head of the library.
    """

    def __init__(self, host: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.host, self.head = host, head
        self.pretrained_cfg = getattr(host, "pretrained_cfg", {})

    def forward(self, x: Tensor) -> Any:
        """Compute the head's raw output for images `(B, 3, H, W)`."""
        return self.head(self.host(x), x)

    def get_classifier(self) -> nn.Module:
        """Return the head. This method is part of timm's interface for models."""
        return self.head
