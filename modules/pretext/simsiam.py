"""SimSiam (Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.contrast import mlp
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext


@register_module(
    name="simsiam",
    kind="pretext",
    dims=2,
    paper="Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv:2011.10566",
    ranges={
        "width": "at least 1",
        "hidden": "at least 1",
        "crop": "at least 0.01, at most 1",
    },
)
class SimSiam(Pretext):
    """Predict the projection of one view from the other view, without negatives and without a teacher.

    .. math:: L = -\\tfrac{1}{2}(\\cos(p_1, \\mathrm{sg}(z_2)) + \\cos(p_2, \\mathrm{sg}(z_1)))

    z is the projection of the features, p is the prediction from z, and no gradient flows through sg. Without sg, all
    features would become equal. The two views pass the networks one by one, so each has batch statistics of its own.

    The projector has three linear layers, of widths C, C and `width`, each with a batch norm. The last norm has no
    affine part, so the bias before it has no effect and is not trained. The predictor has two layers. Its learning rate
    is constant.

    Args:
        channels: Width C of the host's pooled features.
        width: Width of the projection z.
        hidden: Width of the hidden layer of the predictor.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    recipe: ClassVar = {"epochs": 10, "batch_size": 64}
    constant_rate = ("predictor",)

    def __init__(
        self, channels: int, *, width: int = 2048, hidden: int = 512, crop: float = 0.2, flip: bool = True
    ) -> None:
        super().__init__()
        self.projector = mlp([channels, channels, channels, width], bias=False)
        self.projector[-1].bias.requires_grad_(False)
        self.projector.append(nn.BatchNorm1d(width, affine=False))
        self.predictor = mlp([width, hidden, width], bias=False)
        self.view = ImageViews(crop=crop, flip=flip, colour=(0.4, 0.4, 0.4, 0.1))

    def views(self, x: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Return two views of each image."""
        return [self.view(x, draw), self.view(x, draw)]

    def forward(self, encoder: Encoder, views: Any) -> dict[str, list[Tensor]]:
        """Return the projections `z` and the predictions `p` of both views, `(B, width)` each."""
        z = [self.projector(encoder(view)) for view in views]
        return {"z": z, "p": [self.predictor(each) for each in z]}

    def loss(self, outputs: Any) -> Tensor:
        """Return the negative cosine between each prediction and the projection of the other view."""
        (z1, z2), (p1, p2) = outputs["z"], outputs["p"]
        first, second = F.cosine_similarity(p1, z2.detach()), F.cosine_similarity(p2, z1.detach())
        return -0.5 * (first.mean() + second.mean())

    def project(self, features: Tensor) -> Tensor:
        """Return the projections `(B, width)` of features `(B, C)`."""
        return self.projector(features)
