"""SimCLR (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
arXiv:2002.05709).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.contrast import mlp, nt_xent
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext


@register_module(
    name="simclr",
    kind="pretext",
    dims=2,
    paper="Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, "
    "arXiv:2002.05709",
    ranges={
        "temperature": "at least 0.001, at most 100",
        "width": "at least 1",
        "crop": "at least 0.01, at most 1",
    },
)
class SimCLR(Pretext):
    """Tell the two views of an image from the views of the other images of the batch.

    .. math:: z = W_2\\, \\mathrm{ReLU}(W_1 h),\\quad
              \\ell_{ij} = -\\log \\frac{\\exp(s_{ij} / \\tau)}{\\sum_{k \\ne i} \\exp(s_{ik} / \\tau)},\\quad
              s_{ij} = \\cos(z_i, z_j)

    The loss is the mean of ℓ over all 2B views, where j is the other view of the image of i. The official code adds the
    means of both directions, which is twice this value. As in it, a batch norm follows each linear layer of the
    projector, and the last layer has no bias. Both views pass the host as one batch: first views, then second views.

    Args:
        channels: Width C of the host's pooled features.
        temperature: Temperature τ.
        width: Width of the projection z.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    recipe: ClassVar = {"epochs": 10, "batch_size": 64}

    def __init__(
        self, channels: int, *, temperature: float = 0.5, width: int = 128, crop: float = 0.08, flip: bool = True
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = mlp([channels, channels, width], last_bias=False).append(nn.BatchNorm1d(width))
        self.view = ImageViews(crop=crop, flip=flip)

    def views(self, x: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Return two views of each image."""
        return [self.view(x, draw), self.view(x, draw)]

    def forward(self, encoder: Encoder, views: Any) -> tuple[Tensor, Tensor]:
        """Return the projections of both views, `(B, width)` each."""
        first, second = self.projector(encoder(torch.cat(views))).chunk(2)
        return first, second

    def loss(self, outputs: Any) -> Tensor:
        """Return NT-Xent of the projections."""
        first, second = outputs
        return nt_xent(first, second, self.temperature)

    def project(self, features: Tensor) -> Tensor:
        """Return the projections `(B, width)` of features `(B, C)`."""
        return self.projector(features)
