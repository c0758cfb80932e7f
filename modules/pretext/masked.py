"""Masked patches (Nie et al., "A Time Series is Worth 64 Words", ICLR 2023, arXiv:2211.14730, section 3.2)."""

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

_EPS = 1e-5  # added to the variance, as in RevIN
_ZERO, _OTHER = 0.8, 0.9  # shares of BERT: zeros up to the first, another patch up to the second


@register_module(
    name="masked",
    kind="pretext",
    dims=1,
    paper="Nie et al., A Time Series is Worth 64 Words: Long-term Forecasting with Transformers, ICLR 2023, "
    "arXiv:2211.14730",
    limits="needs a transformer for series, and series of at least 2 steps",
    ranges={"patch": "at least 1", "share": "at least 0.01, at most 0.99"},
)
class Masked(Pretext):
    """Reconstruct hidden patches of a series from its other patches.

    Each series of an item is normalised over its steps and cut into patches that do not overlap. A share of them, drawn
    for each series by itself, is set to zero. The host reads the result. A linear layer reconstructs each patch from
    the tokens at its place. The loss is the mean squared error over a patch, then the mean over the hidden patches.

    Hidden patches are zero in the input. So they are hidden from tokens of patches that overlap in the host too. If the
    host has another number of tokens than there are patches, the tokens of a place are averaged.

    Args:
        channels: Width C of the host's tokens.
        input_size: `(L, D)`.
        patch: Number of steps of a patch. It is shortened so that a series has four patches or more. Steps at the start
            that fill no patch are never hidden.
        share: Share of the patches that are hidden, at least one and not all.
        bert: Whether 80 % of these patches are set to zero, 10 % are replaced by other patches of the batch, and 10 %
            stay as they are.
    """

    needs = "tokens"
    fewest = 1
    recipe: ClassVar = {"epochs": 10}

    def __init__(
        self, channels: int, *, input_size: Sequence[int], patch: int = 12, share: float = 0.4, bert: bool = False
    ) -> None:
        super().__init__()
        steps, self.series = input_size
        self.patch, self.bert = short_patch(patch, steps), bert
        self.count = steps // self.patch
        if self.count < 2:
            raise UnsupportedError(f"masked needs series of at least 2 steps, got {steps}")
        # As in the official code, the number of visible patches is rounded down.
        self.hidden = min(self.count - 1, max(1, self.count - int(self.count * (1 - share))))
        self.steps, self.channels = steps, channels

    def start(self, encoder: nn.Module) -> None:
        """Make the decoder. A token is of one series, or of all of them."""
        device, mode = next(encoder.parameters()).device, encoder.training
        with torch.no_grad():
            rows = len(encoder.eval()(torch.zeros(1, self.steps, self.series, device=device)))
        encoder.train(mode)
        self.mixed = rows == 1
        self.decoder = nn.Linear(self.channels, self.patch * (self.series if self.mixed else 1))

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return what the host reads, `(B, L, D)`, the patches, `(B, D, N, P)`, and which are hidden, `(B, D, N)`."""
        x = _normalised(x)
        patches = self._patches(x)
        order = torch.rand(patches.shape[:3], generator=draw).to(x.device)
        hide = order.argsort(2).argsort(2) < self.hidden
        new = torch.zeros_like(patches)
        if self.bert:
            kind = torch.rand(patches.shape[:3], generator=draw).to(x.device).unsqueeze(3)
            flat = patches.flatten(0, 2)
            other = flat[torch.randint(len(flat), (len(flat),), generator=draw).to(x.device)].view_as(patches)
            new = torch.where(kind < _ZERO, new, torch.where(kind < _OTHER, other.nan_to_num(0.0), patches))
        shown = torch.where(hide.unsqueeze(3) & ~patches.isnan(), new, patches)
        before = x[:, : x.shape[1] - self.count * self.patch]
        return {"x": torch.cat([before, shown.flatten(2).transpose(1, 2)], dim=1), "patches": patches, "hide": hide}

    def _patches(self, x: Tensor) -> Tensor:
        used = x[:, x.shape[1] - self.count * self.patch :]
        return used.transpose(1, 2).unflatten(2, (self.count, self.patch))

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return the reconstructed patches, with the patches and which are hidden."""
        tokens = F.adaptive_avg_pool1d(encoder(views["x"]), self.count).transpose(1, 2)
        found = self.decoder(tokens)  # (B, N, P·D), or (B·D, N, P)
        if self.mixed:
            guesses = found.unflatten(2, (self.series, self.patch)).transpose(1, 2)
        else:
            guesses = found.unflatten(0, (-1, self.series))
        return {"guesses": guesses, "patches": views["patches"], "hide": views["hide"]}

    def loss(self, outputs: Any) -> Tensor:
        """Return the mean squared error of a patch, as the mean over the hidden patches."""
        patches, hide = outputs["patches"], outputs["hide"]
        counted = hide & ~patches.isnan().any(3)
        errors = (outputs["guesses"] - patches.nan_to_num(0.0)).square().mean(3)
        return errors[counted].mean() if bool(counted.any()) else 0.0 * errors.sum()


def _normalised(x: Tensor) -> Tensor:
    """Scale each series of each item, `(B, L, D)`, to mean 0 and standard deviation 1 over its steps, without NaN."""
    centred = x - x.nanmean(1, keepdim=True)
    return centred / (centred.square().nanmean(1, keepdim=True) + _EPS).sqrt()
