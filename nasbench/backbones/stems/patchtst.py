"""PatchTST (Nie et al., "A Time Series is Worth 64 Words", ICLR 2023, arXiv:2211.14730)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised, patches, short_patch, shortened

__all__ = ["PatchTST"]


@register_stem("patchtst")
class PatchTST(nn.Module):
    """A transformer encoder over the patches of each series, and a linear head over all encoded patches of a series.

    Each series is forecast from itself alone, with the same weights for all series (channel-independent).

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after the patch embedding and `stageK` after
    encoder layer K (each stage is one block). A slot's tensor has the shape `(B·series, patches, width)`.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        patch: Number of steps of a patch. It is 16 in the paper. If it is above the lookback, the lookback is used.
        stride: Number of steps between the starts of two neighbouring patches. It is 8 in the paper.
        width: Number of channels of a token. The paper uses 128 for large data sets and 16 for ETTh. The default is
            between the two.
        heads: Number of attention heads.
        layers: Number of encoder layers. It is 3 in the paper.
        ffn: Width of the feed-forward layers.
        dropout: Dropout rate after the embedding, after attention, inside and after the feed-forward layers.
        instance_norm: Whether to normalise each window (RevIN), as the paper does.
        num_classes: Number of classes, instead of a horizon. Then the head is a linear layer on the mean of each
        series'
            encoded patches, and the output is `(B, num_classes)`. Patches are shortened so that a series has four or
            more.

    Raises:
        BackboneError: If `heads` does not divide `width`.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        patch: int = 16,
        stride: int = 8,
        width: int = 64,
        heads: int = 4,
        layers: int = 3,
        ffn: int = 128,
        dropout: float = 0.2,
        instance_norm: bool = True,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise BackboneError(f"patchtst: {heads} heads do not divide a width of {width}")
        self.horizon = horizon
        self.patch, self.stride, self.shortened = min(patch, lookback), stride, ""
        if num_classes is not None and (short := short_patch(patch, lookback)) < patch:
            self.patch, self.stride = short, max(1, short // 2)  # half of a patch, as in the paper
            used = {"patch": (patch, self.patch), "stride": (stride, self.stride)}
            self.shortened, stride = shortened("patchtst", lookback, **used), self.stride
        # Each series is padded at its end by one stride, as in the paper.
        count = (lookback + stride - self.patch) // stride + 1
        self.norm = InstanceNorm(series) if instance_norm else None
        self.projection = nn.Linear(self.patch, width)
        # The authors' code draws the positions in the same way.
        self.position = nn.Parameter(torch.empty(count, width).uniform_(-0.02, 0.02))
        # This is the last layer of the embedding, so the slot `embed` is here.
        self.embed = nn.Dropout(dropout)
        self.encoder = nn.Sequential(*[EncoderLayer(width, heads, ffn, dropout) for _ in range(layers)])
        self.head = nn.Linear(count * width, horizon) if horizon else nn.Linear(series * width, num_classes or 0)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {"embed": ("embed", "NLC")} | stage_slots("encoder.{}", len(self.encoder), "NLC")

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        if self.horizon is None:
            tokens = self._encode(normalised(self.norm, x))
            return self.head(tokens.mean(dim=1).view(len(x), -1))
        return forecast_normalised(self.norm, x, self._forecast)

    def _forecast(self, x: Tensor) -> Tensor:
        batch, _, series = x.shape
        encoded = self._encode(x).transpose(1, 2).flatten(1)
        return self.head(encoded).view(batch, series, self.horizon or 0).transpose(1, 2)

    def _encode(self, x: Tensor) -> Tensor:
        """Return the tokens `(B·series, patches, width)`."""
        cut = patches(x.transpose(1, 2), self.patch, self.stride)
        # Series become items of the batch, so that attention never mixes them.
        return self.encoder(self.embed((self.projection(cut) + self.position).flatten(0, 1)))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward layer, each with a residual connection, then batch norm.

    Shapes: `(B, N, C) -> (B, N, C)` for N patches.

    Args:
        width: Number of channels C.
        heads: Number of attention heads.
        ffn: Width of the feed-forward layer.
        dropout: Dropout rate after attention, inside and after the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn, width))
        self.dropout = nn.Dropout(dropout)
        # The paper uses batch normalisation, not layer normalisation.
        self.norm_attention = nn.BatchNorm1d(width)
        self.norm_ffn = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend and transform: `(B, N, C) -> (B, N, C)`."""
        batch, count, width = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width)
        x = self._normalise(self.norm_attention, x + self.dropout(self.out(mixed)))
        return self._normalise(self.norm_ffn, x + self.dropout(self.ffn(x)))

    @staticmethod
    def _normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return norm(x.transpose(1, 2)).transpose(1, 2)
