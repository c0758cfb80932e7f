"""TimesURL (Liu and Chen, "TimesURL: Self-supervised Contrastive Learning for Universal Time Series Representation
Learning", AAAI 2024, arXiv:2312.15709).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.averaging import MeanCopy
from nasbench.ops.pretext import Encoder, Pretext, Progress
from nasbench.ops.series_contrast import group_contrast, hidden_steps, mixed_frequencies, overlapping_crops, step_levels


@register_module(
    name="timesurl",
    kind="pretext",
    dims=1,
    paper="Liu and Chen, TimesURL: Self-supervised Contrastive Learning for Universal Time Series Representation "
    "Learning, AAAI 2024, arXiv:2312.15709",
    limits="needs a host with one vector for each time step",
    ranges={
        "alpha": "at least 0, at most 1",
        "hidden": "at least 0, at most 1",
        "mixed": "at least 0, at most 1",
        "anchor": "at least 0, at most 1",
        "contrast": "at least 0",
    },
)
class TimesURL(Pretext):
    """Contrast two overlapping crops as TS2Vec does, with harder negatives, and reconstruct the hidden steps.

    .. math:: L = \\gamma\\, (\\alpha\\, \\ell_{inst} + (1 - \\alpha)\\, \\ell_{temp})
              + \\tfrac{1}{2} (\\mathrm{MSE}_1 + \\mathrm{MSE}_2)

    Some frequencies of the second crop are exchanged for those of another series of the batch, except for the three
    strongest ones. Further negatives of all vectors are universums: mixtures of a vector and one of another series or
    of another step. The contrast is the mean over all levels of max pooling over 2 steps. A linear decoder reconstructs
    the values of each crop, and the error is the mean over its hidden steps. The features of the host with the mean of
    the weights of all steps are validated and kept.

    Args:
        channels: Width C of the host's vectors.
        input_size: `(L, D)`.
        alpha: Weight α of instance contrast.
        hidden: Share of the steps that are hidden.
        mixed: Share of the frequencies that are exchanged.
        anchor: Share of the vector itself in a universum.
        contrast: Weight γ of the contrast.
    """

    needs = "steps"
    recipe: ClassVar = {"epochs": 20}

    def __init__(
        self,
        channels: int,
        *,
        input_size: Sequence[int],
        alpha: float = 0.8,
        hidden: float = 0.5,
        mixed: float = 0.5,
        anchor: float = 0.2,
        contrast: float = 0.01,
    ) -> None:
        super().__init__()
        self.alpha, self.hidden, self.mixed, self.anchor, self.contrast = alpha, hidden, mixed, anchor, contrast
        self.decoder = nn.Linear(channels, input_size[1])

    def start(self, encoder: nn.Module) -> None:
        """Begin the mean of the weights."""
        self.mean = MeanCopy(encoder)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Any]:
        """Return two crops of each series, with the steps to hide, their overlap, and the partners of universums."""
        (first, second), overlap = overlapping_crops(x, draw)
        other = torch.randperm(len(x), generator=draw).to(x.device)
        crops = [first, mixed_frequencies(second, second[other], self.mixed, draw)]
        hide = [hidden_steps(crop, self.hidden, draw) for crop in crops]
        # One random number decides how far the partner is from a vector, for each crop, in the batch and over time.
        partners = torch.rand(2, 2, generator=draw).expand(len(x), -1, -1)
        return {"crops": crops, "hide": hide, "overlap": torch.full((len(x),), overlap), "partners": partners}

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Any]:
        """Return the vectors of the overlap in both crops, `(B, overlap, C)` each, and the squared errors."""
        overlap = int(views["overlap"][0])
        pairs = zip(views["crops"], views["hide"], strict=True)
        maps = [encoder(crop, hide=hide).transpose(1, 2) for crop, hide in pairs]
        return {
            "vectors": [maps[0][:, -overlap:], maps[1][:, :overlap]],
            "guesses": [self.decoder(each) for each in maps],
            **views,
        }

    def loss(self, outputs: Any) -> Tensor:
        """Return the weighted contrast plus half of the errors of both crops."""
        total, levels, partners = outputs["vectors"][0].new_zeros(()), 0, outputs["partners"][0].tolist()
        for crops in step_levels(outputs["vectors"]):
            by_step = [z.transpose(0, 1) for z in crops]  # (T, B, C), to compare the series at each step
            for weight, (one, two), dim in ((self.alpha, by_step, 0), (1 - self.alpha, crops, 1)):
                mixed = [universums(z, at[dim], self.anchor) for z, at in zip((one, two), partners, strict=True)]
                total = total + weight * group_contrast(one, two, torch.cat(mixed, dim=1))
            levels += 1
        parts = zip(outputs["guesses"], outputs["crops"], outputs["hide"], strict=True)
        return self.contrast * total / levels + sum((0.5 * _error(*part) for part in parts), total.new_zeros(()))

    def kept(self, encoder: nn.Module) -> nn.Module:
        """Return the host with the mean of the weights of all steps."""
        return self.mean.module if int(self.mean.count) else encoder

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Add the weights to their mean."""
        self.mean.update(encoder)


def universums(z: Tensor, at: float, anchor: float) -> Tensor:
    """Mix each of N vectors of a group, `(G, N, C)`, with another one of its group, never with itself.

    Args:
        z: The vectors.
        at: Number in [0, 1) that decides how far the other vector is.
        anchor: Share of the vector itself.
    """
    count = z.shape[1]
    distance = 1 + int(at * (count - 1)) if count > 1 else 0
    return anchor * z + (1 - anchor) * z.roll(distance, 1)


def _error(guess: Tensor, crop: Tensor, hide: Tensor) -> Tensor:
    """Return the mean squared error over the hidden steps that are not padded. 0 if there are none."""
    counted = hide.unsqueeze(2) & ~crop.isnan()
    errors = (guess - crop.nan_to_num(0.0)).square().masked_fill(~counted, 0.0)
    return errors.sum() / counted.sum().clamp(min=1)
