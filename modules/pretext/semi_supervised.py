"""Learning from few labels and many items, with two contrastive losses (Khosla et al., "Supervised Contrastive
Learning", NeurIPS 2020, arXiv:2004.11362, and Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020, arXiv:2002.05709).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.contrast import mlp, nt_xent, supervised_contrast
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext


@register_module(
    name="semi_supervised",
    kind="pretext",
    dims=(1, 2),
    paper="Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, arXiv:2004.11362; Chen et al., A Simple "
    "Framework for Contrastive Learning of Visual Representations, ICML 2020, arXiv:2002.05709",
    limits="needs items with classes",
    ranges={
        "share": "at least 0.0001, at most 1",
        "temperature": "at least 0.001, at most 100",
        "label_temperature": "at least 0.001, at most 100",
        "label_contrast": "at least 0",
        "contrast": "at least 0",
        "width": "at least 1",
        "crop": "at least 0.01, at most 1",
        "jitter": "at least 0",
    },
)
class SemiSupervised(Pretext):
    """Learn the labels of a share of the items, and tell the views of all items apart.

    .. math:: L = \\mathrm{CE} + \\tfrac{1}{2} L_{\\mathrm{sup}} + \\tfrac{1}{2} L_{\\mathrm{NT\\text{-}Xent}}

    Cross-entropy and supervised contrast use the items whose labels are known. NT-Xent uses all items of the batch. All
    three use the same encoder and two views of each item, and both contrasts use the same projector. Which items are
    labelled depends on their number alone, so it is the same for all plans and seeds. The labels of the others have no
    effect. All labels of the validation split are known.

    A view of an image is that of SimCLR. A view of a series is the series times a factor near 1 for each of its
    variables, with noise.

    Args:
        channels: Width C of the host's pooled features.
        items: Number of training items.
        input_size: `(3, H, W)` or `(L, D)`.
        num_classes: Number of classes.
        share: Share of the training items whose labels are known.
        temperature: Temperature of NT-Xent.
        label_temperature: Temperature of the supervised contrast.
        label_contrast: Weight of the supervised contrast.
        contrast: Weight of NT-Xent.
        width: Width of the projection.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
        jitter: Standard deviation of the noise and of the factors of a series, in units of its scale.
    """

    reads = ("items", "labels")
    label_share = "share"
    recipe: ClassVar = {"epochs": 10, "batch_size": 64}
    labelled: Tensor

    def __init__(
        self,
        channels: int,
        *,
        items: int,
        input_size: tuple[int, ...],
        num_classes: int | None,
        share: float = 0.1,
        temperature: float = 0.5,
        label_temperature: float = 0.1,
        label_contrast: float = 0.5,
        contrast: float = 0.5,
        width: int = 128,
        crop: float = 0.08,
        flip: bool = True,
        jitter: float = 0.1,
    ) -> None:
        super().__init__()
        if num_classes is None:
            raise UnsupportedError("the items have no classes, and semi_supervised learns the labels of some")
        self.temperature, self.label_temperature = temperature, label_temperature
        self.label_contrast, self.contrast, self.jitter = label_contrast, contrast, jitter
        self.projector, self.classifier = mlp([channels, channels, width]), nn.Linear(channels, num_classes)
        chosen = torch.randperm(items, generator=torch.Generator().manual_seed(0))[: max(1, round(share * items))]
        labelled = torch.zeros(items, dtype=torch.bool).scatter(0, chosen, True)
        self.register_buffer("labelled", labelled, persistent=False)  # it depends on the number of items alone
        self.image_view = ImageViews(crop=crop, flip=flip) if len(input_size) == 3 else None

    def views(self, x: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Return two views of each item."""
        return [self._view(x, draw), self._view(x, draw)]

    def _view(self, x: Tensor, draw: torch.Generator) -> Tensor:
        if self.image_view is not None:
            return self.image_view(x, draw)
        factor = 1 + self.jitter * torch.randn(len(x), 1, x.shape[2], generator=draw)
        return x * factor.to(x) + self.jitter * torch.randn(x.shape, generator=draw).to(x)

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return the projections `z` and the class scores `logits` of first views, then second views."""
        features = encoder(torch.cat(views))
        return {"z": self.projector(features), "logits": self.classifier(features)}

    def loss(self, outputs: Any, items: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Return the weighted sum of the three losses.

        Args:
            outputs: What `forward` returned.
            items: Numbers of the items, `(B,)`. −1 for an item of the validation split.
            labels: Their class numbers, `(B,)`.
        """
        known = ((items < 0) | self.labelled[items]).repeat(2)
        z, logits, labels = outputs["z"], outputs["logits"], labels.repeat(2)
        # A label that is not known must not be used, also not by accident.
        labels = labels.masked_fill(~known, 0)
        errors = F.cross_entropy(logits, labels, reduction="none") * known
        classified = errors.sum() / known.sum().clamp(min=1)
        together = supervised_contrast(z[known], labels[known], self.label_temperature)
        first, second = z.chunk(2)
        apart = nt_xent(first, second, self.temperature)
        return classified + self.label_contrast * together + self.contrast * apart

    def project(self, features: Tensor) -> Tensor:
        """Return the projections `(B, width)` of features `(B, C)`."""
        return self.projector(features)
