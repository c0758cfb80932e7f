"""A residual network for super-resolution (Lim et al., "Enhanced Deep Residual Networks", CVPRW 2017)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SRResidual"]


class SRResidual(nn.Module):
    """Residual blocks in groups, with a skip around each block, each group, and all groups. There is no norm.

    Shapes: `(B, 3, H, W) -> (B, width, H, W)` for any H and W. A head makes the large image of the map. Slots:
    `stageK.blockJ` after block J of group K, and `stageK` after group K.

    The blocks are those of EDSR (arXiv:1707.02921). A group ends with a convolution and a skip, as the groups of RCAN,
    SwinIR, ATD and DAT do, so a plan with ATD's or DAT's layer in its blocks makes a small network of that kind.

    Args:
        width: Number of channels.
        groups: Number of groups.
        blocks: Number of blocks in a group.
    """

    def __init__(self, *, width: int = 64, groups: int = 4, blocks: int = 4) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(3, width, 3, padding=1)
        self.groups = nn.Sequential(*[_Group(width, blocks) for _ in range(groups)])

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        places = {}
        for g, group in enumerate(self.groups):
            for b in range(len(group.blocks)):  # type: ignore[arg-type]
                places[f"stage{g + 1}.block{b + 1}"] = (f"groups.{g}.blocks.{b}", "NCHW")
            places[f"stage{g + 1}"] = (f"groups.{g}", "NCHW")
        return places

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W) -> (B, width, H, W)`."""
        x = self.shallow(x)
        return x + self.groups(x)


class _Group(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[_Block(width) for _ in range(blocks)])
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.blocks(x))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu())
