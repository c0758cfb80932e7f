"""Masked autoencoder (He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.image_views import ImageViews
from nasbench.ops.position import sinusoidal
from nasbench.ops.pretext import Encoder, Pretext

_HEAD = 32  # channels of an attention head, as in the paper's decoder


@register_module(
    name="mae",
    kind="pretext",
    dims=2,
    paper="He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv:2111.06377",
    limits="needs a plain vision transformer, whose slots then take modules for sequences alone",
    ranges={
        "removed": "at least 0.01, at most 0.99",
        "width": "at least 32",
        "depth": "at least 1",
        "crop": "at least 0.01, at most 1",
    },
)
class MAE(Pretext):
    """Draw the patches of an image that were removed, from those that are left.

    .. math:: L = \\frac{1}{|R|} \\sum_{i \\in R} \\frac{1}{3 p^2} \\lVert \\hat x_i - x_i \\rVert^2

    R are the removed patches. The blocks of the host get the prefix tokens and the other patches, in a random order, so
    a plan's modules see a sequence. The decoder puts one learned token in the place of each removed patch, adds
    positions, and has some blocks of its own. With `normalise`, the pixels of each patch have mean 0 and variance 1.

    The positions of host and decoder are sines and cosines. They are those of `nasbench.ops.position.sinusoidal`, which
    has the channels of the official code in another order. In the decoder they are fixed.

    Args:
        channels: Width C of the host's tokens.
        removed: Share of the patches that are removed.
        width: Width of the decoder, a multiple of 32.
        depth: Number of blocks of the decoder. The paper's has 8 of width 512.
        normalise: Whether the pixels of each patch are normalised before they are compared.
        positions: Whether the host's positions start as sines and cosines. Choose False for pretrained weights.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    needs = "patches"
    fewest = 1
    recipe: ClassVar = {"epochs": 10, "batch_size": 64}
    places: Tensor

    def __init__(
        self,
        channels: int,
        *,
        removed: float = 0.75,
        width: int = 128,
        depth: int = 2,
        normalise: bool = True,
        positions: bool = True,
        crop: float = 0.2,
        flip: bool = True,
    ) -> None:
        super().__init__()
        if width % _HEAD:
            raise UnsupportedError(f"width={width} must be a multiple of {_HEAD}")
        self.removed, self.normalise, self.positions, self.width = removed, normalise, positions, width
        self.embed = nn.Linear(channels, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.token, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, width // _HEAD, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.view = ImageViews(crop=crop, flip=flip, colour=(0, 0, 0, 0), grey=0.0, blur=0.0)

    def start(self, encoder: nn.Module) -> None:
        """Make what depends on the patches of the host: positions and the last layer."""
        host: Any = encoder
        self.grid, self.patch, self.prefix = tuple(host.grid), tuple(host.patch), host.prefix
        count = self.grid[0] * self.grid[1]
        # One patch at least is left, and one is removed.
        self.left = min(max(1, int(count * (1 - self.removed))), count - 1)
        if self.left < 1:
            raise UnsupportedError("the image has one patch, so none can be removed; choose a larger size")
        own = sinusoidal(self.grid, self.width)
        self.register_buffer("places", torch.cat([own.new_zeros(self.prefix, self.width), own]), persistent=False)
        self.to_pixels = nn.Linear(self.width, 3 * self.patch[0] * self.patch[1])
        if self.positions and host.positions is not None:
            learned = host.positions
            with torch.no_grad():
                # Prefix tokens have no place. Some hosts have no positions for them.
                learned[:, : learned.shape[1] - count].zero_()
                learned[:, learned.shape[1] - count :] = sinusoidal(self.grid, learned.shape[2]).to(learned)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return views, and the patches of each in a random order, `(B, N)`. The first ones are left."""
        count = self.grid[0] * self.grid[1]
        order = torch.rand(len(x), count, generator=draw).argsort(dim=1)
        return {"image": self.view(x, draw), "order": order.to(x.device)}

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return the pixels of all patches that are predicted and the true ones, `(B, N, p·q·3)`, and which count."""
        order = views["order"]
        tokens = self.embed(encoder(views["image"], keep=order[:, : self.left]).transpose(1, 2))
        prefix, left = tokens[:, : self.prefix], tokens[:, self.prefix :]
        absent = self.token.to(left.dtype).expand(len(left), order.shape[1] - self.left, -1)
        back = order.argsort(dim=1).unsqueeze(-1).expand(-1, -1, self.width)
        patches = torch.cat([left, absent], dim=1).gather(1, back)
        decoded = self.norm(self.blocks(torch.cat([prefix, patches], dim=1) + self.places))
        removed = torch.ones_like(order, dtype=torch.bool).scatter(1, order[:, : self.left], False)
        return {
            "predicted": self.to_pixels(decoded[:, self.prefix :]),
            "pixels": patches_of(views["image"], self.patch),
            "removed": removed,
        }

    def loss(self, outputs: Any) -> Tensor:
        """Return the mean squared error of each patch, as the mean over the removed ones."""
        pixels, removed = outputs["pixels"], outputs["removed"]
        if self.normalise:
            mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
            pixels = (pixels - mean) / (variance + 1e-6).sqrt()
        error = (outputs["predicted"] - pixels).square().mean(-1)
        return (error * removed).sum() / removed.sum()


def patches_of(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut images `(B, 3, H, W)` into N patches, row by row: `(B, N, p·q·3)`. A patch is in the order p, q, channel."""
    p, q = patch
    x = x.unflatten(3, (-1, q)).unflatten(2, (-1, p))  # (B, 3, rows, p, columns, q)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
