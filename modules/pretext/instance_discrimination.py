"""Instance discrimination (Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018, arXiv:1805.01978).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.contrast import unit_rows
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext, Progress

_FULL, _SAMPLED = 0.1, 0.07  # temperatures of the official trainings with all images and with noise


@register_module(
    name="instance_discrimination",
    kind="pretext",
    dims=2,
    paper="Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, "
    "arXiv:1805.01978",
    limits="keeps one vector for each training image in memory",
    ranges={
        "temperature": "at least 0.001, at most 100",
        "width": "at least 1",
        "noise": "at least 1",
        "momentum": "at least 0, at most 1",
        "crop": "at least 0.01, at most 1",
    },
)
class InstanceDiscrimination(Pretext):
    """Recognise each training image among all of them, whose vectors are in a bank.

    .. math:: P(i \\mid f) = \\frac{\\exp(v_i \\cdot f / \\tau)}{Z},\\quad
              h_i = \\frac{P(i \\mid f)}{P(i \\mid f) + K / n},\\quad
              L = -\\log h_i - \\sum_{k=1}^{K} \\log(1 - h_{i_k})

    f is the unit vector of a view of image i, and v are the rows of the bank. The K rows of noise are drawn from all n.
    The constant Z is estimated from the first batch. If there are at most K images, the loss is the exact
    −log softmax over all of them. A row is a moving average of the vectors of its image. It changes after the step.

    An image of the validation split has no row. Its row is then the vector of another view.

    Args:
        channels: Width C of the host's pooled features.
        items: Number n of training images.
        temperature: Temperature τ. None means .1 with all images and .07 with noise, as in the official trainings.
        width: Width of the vectors.
        noise: Number K of rows of noise.
        momentum: Weight of the old row in the new one.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    reads = ("items",)
    recipe: ClassVar = {"epochs": 10, "batch_size": 64}
    bank: Tensor
    log_constant: Tensor

    def __init__(
        self,
        channels: int,
        *,
        items: int,
        temperature: float | None = None,
        width: int = 128,
        noise: int = 4096,
        momentum: float = 0.5,
        crop: float = 0.2,
        flip: bool = True,
    ) -> None:
        super().__init__()
        self.items, self.noise, self.momentum = items, noise, momentum
        self.exact = items <= noise
        self.temperature = temperature or (_FULL if self.exact else _SAMPLED)
        self.register_buffer("bank", unit_rows(items, width))
        self.projector = nn.Linear(channels, width)
        # In log space, because exp(v · f / τ) is beyond single precision if τ is small. Infinite until it is estimated.
        self.register_buffer("log_constant", torch.full((), torch.inf))
        self.view = ImageViews(crop=crop, flip=flip, colour=(0.4, 0.4, 0.4, 0.4), colour_share=1.0, blur=0.0)
        self._new: list[tuple[Tensor, Tensor]] = []
        self._estimate: Tensor | None = None

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Any]:
        """Return one view of each image, another one in validation, and the rows of noise `(B, K)`."""
        views = [self.view(x, draw) for _ in range(1 if self.training else 2)]
        count = 0 if self.exact else self.noise
        noise = torch.randint(self.items, (len(x), count), generator=draw)
        return {"views": views, "noise": noise.to(x.device)}

    def before_step(self, progress: Progress) -> None:
        """Forget the vectors of a step that was not finished."""
        self._new, self._estimate = [], None

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Any]:
        """Return the vectors of the views, `(B, width)` each, and the rows of noise."""
        return {"vectors": [self.projector(encoder(view)) for view in views["views"]], "noise": views["noise"]}

    def loss(self, outputs: Any, items: Tensor) -> Tensor:  # type: ignore[override]
        """Return −log softmax over all images, or the loss of noise-contrastive estimation.

        Args:
            outputs: What `forward` returned.
            items: Numbers of the images, `(B,)`. −1 for an image without a row.
        """
        f, *other = (F.normalize(each, dim=1) for each in outputs["vectors"])
        bank = self.bank.to(f)
        if self.training:
            self._new.append((items, f.detach()))
            own = bank[items]
        else:
            own = other[0]
        own_logit = (f * own).sum(1, keepdim=True) / self.temperature
        if self.exact:
            logits = f @ bank.T / self.temperature
            if self.training:
                return F.cross_entropy(logits, items)
            target = torch.zeros(len(f), dtype=torch.long, device=f.device)
            return F.cross_entropy(torch.cat([own_logit, logits], dim=1), target)
        drawn = torch.einsum("bkc,bc->bk", bank[outputs["noise"]], f) / self.temperature
        return self._noise_contrast(torch.cat([own_logit, drawn], dim=1))

    def _noise_contrast(self, logits: Tensor) -> Tensor:
        """Return the loss for v · f / τ of the own row and of the rows of noise, `(B, 1 + K)`."""
        constant = self.log_constant
        if not bool(constant.isfinite()):
            # All parts of the first batch use the estimate of the first part: n times the mean of exp(v · f / τ).
            if self._estimate is None:
                total = logits.detach().flatten().logsumexp(dim=0)
                self._estimate = total + math.log(self.items / logits.numel())
            constant = self._estimate
        # log h = log(P / (P + K / n)) = logsigmoid(log P − log(K / n))
        log_odds = logits - constant - math.log(self.noise / self.items)
        return -(F.logsigmoid(log_odds[:, 0]) + F.logsigmoid(-log_odds[:, 1:]).sum(1)).mean()

    def project(self, features: Tensor) -> Tensor:
        """Return the vectors `(B, width)` of features `(B, C)`."""
        return self.projector(features)

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Move the rows of the batch towards their new vectors."""
        for items, f in self._new:
            mixed = self.momentum * self.bank[items] + (1 - self.momentum) * f.to(self.bank.dtype)
            self.bank[items] = F.normalize(mixed, dim=1)
        if self._estimate is not None and not bool(self.log_constant.isfinite()):
            self.log_constant.copy_(self._estimate)
        self._new, self._estimate = [], None
