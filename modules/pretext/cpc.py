"""CPC (van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.pretext import Encoder, Pretext
from nasbench.ops.series import short_patch

_MOST = 12  # steps into the future, as in the paper


@register_module(
    name="cpc",
    kind="pretext",
    dims=1,
    paper="van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, arXiv:1807.03748",
    limits="needs a host that runs on parts of a series, and series of at least 2 steps",
    ranges={"segment": "at least 1", "future": "at least 1", "width": "at least 1"},
)
class CPC(Pretext):
    """Predict the vectors of later segments of a series from those of earlier ones.

    .. math:: L = -\\frac{1}{K} \\sum_{k=1}^{K} \\mathrm{mean}_{t, i} \\log \\frac{\\exp(z_{i,t+k}^T W_k c_{i,t})}
              {\\sum_j \\exp(z_{j,t+k}^T W_k c_{i,t})}

    z are the vectors of segments that do not overlap. Each segment passes the host alone, so no module of the host sees
    a later one. c is the state of a GRU that has read the segments up to t. The score is a dot product. The negatives
    are the segments at the same place in the other series of the batch.

    Steps at the start of a series that fill no segment are left out. Segments with no step are left out too, and others
    are padded as the host expects it.

    Args:
        channels: Width C of the host's pooled features.
        input_size: `(L, D)`.
        segment: Number of steps of a segment. A series has at least four segments, so it is shortened where necessary.
        future: Number K of segments that are predicted from each place. At most all but the first are.
        width: Width of the state c.
    """

    needs = "segments"
    recipe: ClassVar = {"epochs": 20}

    def __init__(
        self, channels: int, *, input_size: Sequence[int], segment: int = 16, future: int = _MOST, width: int = 256
    ) -> None:
        super().__init__()
        steps = input_size[0]
        self.segment = short_patch(segment, steps)
        self.count = steps // self.segment
        if self.count < 2:
            raise UnsupportedError(f"cpc needs series of at least 2 steps, got {steps}")
        self.context = nn.GRU(channels, width, batch_first=True)
        ahead = min(future, self.count - 1)
        self.predictors = nn.ModuleList(nn.Linear(width, channels, bias=False) for _ in range(ahead))

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the segments of each series, `(B, T, steps, D)`, and which of them have a step, `(B, T)`."""
        segments = x[:, x.shape[1] - self.count * self.segment :].unflatten(1, (self.count, self.segment))
        return {"segments": segments, "there": ~segments.isnan().any(3).all(2)}

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Any]:
        """Return the vectors `z` of the segments, `(B, T, C)`, and for each k the predictions of them."""
        there = views["there"]
        vectors = encoder(views["segments"][there])
        z = vectors.new_zeros(*there.shape, vectors.shape[1]).masked_scatter(there.unsqueeze(2), vectors)
        context = self.context(z)[0]
        guesses = [predict(context[:, : self.count - k]) for k, predict in enumerate(self.predictors, start=1)]
        return {"z": z, "guesses": guesses, "there": there}

    def loss(self, outputs: Any) -> Tensor:
        """Return InfoNCE of all predictions, as the mean over the distances k."""
        z, there = outputs["z"].transpose(0, 1), outputs["there"].T
        losses = []
        for k, guess in enumerate(outputs["guesses"], start=1):
            known = there[k:]
            scores = guess.transpose(0, 1) @ z[k:].transpose(1, 2)  # (T − k, B predictions, B segments)
            scores = scores.masked_fill(~known.unsqueeze(1), -torch.inf)
            right = torch.arange(scores.shape[2], device=scores.device).expand(len(scores), -1)
            if bool(known.any()):
                losses.append(F.cross_entropy(scores[known], right[known]))
        return torch.stack(losses).mean() if losses else outputs["z"].sum() * 0.0
