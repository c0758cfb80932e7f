"""BYOL (Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020,
arXiv:2006.07733).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.averaging import MomentumCopy, base_momentum, cosine_momentum
from nasbench.ops.contrast import cosine_distance, mlp
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext, Progress


@register_module(
    name="byol",
    kind="pretext",
    dims=2,
    paper="Grill et al., Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, NeurIPS 2020, "
    "arXiv:2006.07733",
    ranges={
        "width": "at least 1",
        "hidden": "at least 1",
        "momentum": "at least 0, at most 1",
        "crop": "at least 0.01, at most 1",
    },
)
class BYOL(Pretext):
    """Predict what a slowly following teacher sees in the other view, without negatives.

    .. math:: L = (2 - 2\\cos(q(z_1), z'_2)) + (2 - 2\\cos(q(z_2), z'_1)),\\quad
              \\theta' \\leftarrow m\\, \\theta' + (1 - m)\\, \\theta

    z is the projection of the trained network and z' that of the teacher (the target network), whose parameters are an
    average of those of the trained one. m rises from its base to 1 along a cosine. The two views pass the networks, and
    so their batch norms, one by one. Projector and predictor have two layers: a linear layer with a bias, a batch norm,
    a ReLU, and a linear layer without a bias.

    The images are cropped, mirrored, changed in colour and made grey as in the paper. They are blurred with one
    probability for both views, and not solarised.

    Args:
        channels: Width C of the host's pooled features.
        width: Width of the projection.
        hidden: Width of the hidden layers.
        momentum: Base of the momentum m. None means that it follows from the number of steps, because .996 belongs to
            the 1,000 epochs of the paper.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    # At the rates of supervised trainings, a teacher that follows within few steps is no steady target.
    recipe: ClassVar = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3}

    def __init__(
        self,
        channels: int,
        *,
        width: int = 256,
        hidden: int = 4096,
        momentum: float | None = None,
        crop: float = 0.08,
        flip: bool = True,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.projector = mlp([channels, hidden, width], last_bias=False)
        self.predictor = mlp([width, hidden, width], last_bias=False)
        self.target_projector = MomentumCopy(self.projector)
        self.view = ImageViews(crop=crop, flip=flip, colour=(0.4, 0.4, 0.2, 0.1))

    def start(self, encoder: nn.Module) -> None:
        """Make the teacher, a copy of the host."""
        self.target = MomentumCopy(encoder)

    def views(self, x: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Return two views of each image."""
        return [self.view(x, draw), self.view(x, draw)]

    def forward(self, encoder: Encoder, views: Any) -> dict[str, list[Tensor]]:
        """Return the predictions `q` of both views and what the teacher sees in them, `z`, `(B, width)` each."""
        q = [self.predictor(self.projector(encoder(view))) for view in views]
        return {"q": q, "z": [self.target_projector(self.target(view)) for view in views]}

    def loss(self, outputs: Any) -> Tensor:
        """Return the sum over both views of 2 − 2cos between prediction and teacher."""
        (q1, q2), (z1, z2) = outputs["q"], outputs["z"]
        return (cosine_distance(q1, z2) + cosine_distance(q2, z1)).mean()

    def project(self, features: Tensor) -> Tensor:
        """Return the projections `(B, width)` of features `(B, C)`."""
        return self.projector(features)

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Let the teacher follow."""
        base = base_momentum(progress.steps) if self.momentum is None else self.momentum
        # The official code computes the momentum of a step from the number of steps before it.
        momentum = cosine_momentum(base, (progress.step - 1) / max(1, progress.steps))
        self.target.update(encoder, momentum)
        self.target_projector.update(self.projector, momentum)
