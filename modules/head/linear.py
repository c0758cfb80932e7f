"""Linear classifier over the pooled levels of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.pyramid import check_levels


@register_module(name="linear", kind="head", tasks=("classification",), dims=2)
class LinearHead(nn.Module):
    """Average every level over its positions and classify the averages of all levels together.

    .. math:: y = W\\, [\\mathrm{GAP}(x_i)]_i + b

    For a single map this is the classifier of most of timm's convolutional networks.

    Shapes: a list of `(B, C_i, H_i, W_i)` to `logits` `(B, num_classes)`.

    Args:
        channels: C_i of every level.
        num_classes: Number of classes.
    """

    def __init__(self, channels: Sequence[int], *, num_classes: int) -> None:
        super().__init__()
        self.levels = len(channels)
        self.classify = nn.Linear(sum(channels), num_classes)

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to `logits`."""
        check_levels(maps, self.levels)
        return {"logits": self.classify(torch.cat([x.mean((2, 3)) for x in maps], dim=1))}

    def loss(self, raw: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the mean cross-entropy. `targets` are class numbers `(B,)`."""
        return F.cross_entropy(raw["logits"], targets)

    def decode(self, raw: dict[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the logits `(B, num_classes)`."""
        return raw["logits"]
