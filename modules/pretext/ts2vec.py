"""TS2Vec (Yue et al., "TS2Vec: Towards Universal Representation of Time Series", AAAI 2022, arXiv:2106.10466)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.averaging import MeanCopy
from nasbench.ops.pretext import Encoder, Pretext, Progress
from nasbench.ops.series_contrast import group_contrast, hidden_steps, overlapping_crops, step_levels


@register_module(
    name="ts2vec",
    kind="pretext",
    dims=1,
    paper="Yue et al., TS2Vec: Towards Universal Representation of Time Series, AAAI 2022, arXiv:2106.10466",
    limits="needs a host with one vector for each time step",
    ranges={"alpha": "at least 0, at most 1", "hidden": "at least 0, at most 1"},
)
class TS2Vec(Pretext):
    """Give a time step the same vector in two overlapping crops, unlike other steps and other series.

    .. math:: \\ell = \\alpha\\, \\ell_{inst} + (1 - \\alpha)\\, \\ell_{temp}

    Instance contrast compares the vectors of the same step in all series of the batch. Temporal contrast compares those
    of all steps of one series. Similarities are dot products, without normalisation and temperature. Both are computed
    on the overlap of the crops, then on vectors that are max-pooled over 2 steps, and so on up to one vector a series,
    where only instance contrast is left. The loss is the mean over these levels. In training, steps are hidden at
    random after the input layer, in each crop by itself. The features of the host with the mean of the weights of all
    steps are validated and kept.

    Args:
        channels: Width C of the host's vectors.
        alpha: Weight α of instance contrast.
        hidden: Share of the steps that are hidden.
    """

    needs = "steps"

    def __init__(self, channels: int, *, alpha: float = 0.5, hidden: float = 0.5) -> None:
        super().__init__()
        self.alpha, self.hidden = alpha, hidden

    def start(self, encoder: nn.Module) -> None:
        """Begin the mean of the weights."""
        self.mean = MeanCopy(encoder)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Any]:
        """Return two overlapping crops `(B, steps, D)` of each series, with the steps to hide and their overlap."""
        crops, overlap = overlapping_crops(x, draw)
        hide = [hidden_steps(crop, self.hidden, draw) for crop in crops]
        return {"crops": crops, "hide": hide, "overlap": torch.full((len(x),), overlap)}

    def forward(self, encoder: Encoder, views: Any) -> tuple[Tensor, Tensor]:
        """Return the vectors of the overlap in both crops, `(B, overlap, C)` each."""
        overlap = int(views["overlap"][0])
        first, second = (encoder(crop, hide=hide) for crop, hide in zip(views["crops"], views["hide"], strict=True))
        return first[..., -overlap:].transpose(1, 2), second[..., :overlap].transpose(1, 2)

    def loss(self, outputs: Any) -> Tensor:
        """Return the mean over all levels of instance and temporal contrast."""
        first, second = outputs
        return hierarchical_contrast(first, second, self.alpha)

    def kept(self, encoder: nn.Module) -> nn.Module:
        """Return the host with the mean of the weights of all steps."""
        return self.mean.module if int(self.mean.count) else encoder

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Add the weights to their mean."""
        self.mean.update(encoder)


def hierarchical_contrast(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    """Return the loss of TS2Vec for the vectors of both crops, `(B, T, C)` each."""
    total, levels = first.new_zeros(()), 0
    for one, two in step_levels((first, second)):
        if alpha:
            # `(B, T, C)` and the same with batch and time exchanged, so that one function serves both contrasts.
            total = total + alpha * group_contrast(one.transpose(0, 1), two.transpose(0, 1))
        if alpha < 1:
            total = total + (1 - alpha) * group_contrast(one, two)
        levels += 1
    return total / levels
