"""Crossformer (Zhang and Yan, ICLR 2023; no arXiv entry)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.attention import CrossAttention
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised, short_patch, shortened
from nasbench.ops.two_stage import TwoStageLayer

__all__ = ["Crossformer"]


@register_stem("crossformer")
class Crossformer(nn.Module):
    """Attention along time and between series, on segments of each series, with a coarser scale in each stage.

    .. math:: Z_0 = \\mathrm{LN}(E\\, x_{d,s} + P_{d,s}),\\qquad
              Z_k = \\mathrm{TSA}(M_k\\, \\mathrm{LN}[Z_{k-1, 2s}, Z_{k-1, 2s+1}]) \\\\
              \\hat Y_k = \\mathrm{LN}(\\mathrm{TSA}(Y_k) + \\mathrm{MHA}(\\mathrm{TSA}(Y_k), Z_k, Z_k)),\\quad
              Y_{k+1} = \\mathrm{LN}(\\hat Y_k + \\mathrm{FFN}(\\hat Y_k)),\\quad
              y = \\textstyle\\sum_k W_k Y_{k+1}

    TSA is the two-stage attention of the module `two_stage_attention`, with separate routers at each segment. The first
    stage merges nothing. The input of the decoder is Y_0, learned embeddings of the segments of the horizon. Layer k of
    the decoder attends to scale k of the encoder, where scale 0 is the embedding. The forecasts of all decoder layers
    are summed. If the lookback is not a multiple of the segment, the window is padded in front with its first value. If
    the number of segments is not a multiple of `merge`, the last segment is repeated. The official code repeats the
    last few segments instead, and it fails if there are fewer than it needs. With a merge of 2, both methods give the
    same result.

    Series are mixed, and each series has its own position embeddings. So permuted series do not give permuted
    forecasts.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after the embedding and `stageK` after stage
    K (each stage is one block). A slot's tensor has the shape `(B, series, segments, width)`. So two-dimensional
    modules can be inserted; their two dimensions are series and segments.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        segment: Number of steps of a segment. The paper uses 6 and 24 for ETTh1.
        merge: Number of segments that each stage after the first merges into one. It is 2 in the paper.
        width: Number of channels of a token. It is 256 in the paper.
        heads: Number of attention heads. It is 4 in the paper.
        stages: Number of scales of the encoder. It is 3 in the paper.
        ffn: Width of the feed-forward layers of the two-stage attention. It is twice `width` in the paper.
        factor: Number of routers at each segment. It is 10 in the paper.
        dropout: Dropout rate after each attention, and after the feed-forward layers of the two-stage attention.
            It is 0.2 in the paper.
        instance_norm: Whether to normalise each window (RevIN). The paper does not normalise.
        num_classes: Number of classes, instead of a horizon. Then there is no decoder, the head is a linear layer on
        the
            mean of the coarsest segments of each series, and the output is `(B, num_classes)`. Segments are shortened
            so that a series has four or more.

    Raises:
        BackboneError: If `heads` does not divide `width`, or if `segment`, `merge` or `stages` is too small.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        segment: int = 12,
        merge: int = 2,
        width: int = 64,
        heads: int = 4,
        stages: int = 3,
        ffn: int = 128,
        factor: int = 10,
        dropout: float = 0.2,
        instance_norm: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise BackboneError(f"crossformer: {heads} heads do not divide a width of {width}")
        if segment < 1 or merge < 2 or stages < 1:
            raise BackboneError(
                "crossformer: segment and stages must be at least 1, and merge at least 2;"
                f" got segment={segment}, merge={merge} and stages={stages}"
            )
        self.shortened = ""
        if num_classes is not None:
            own, segment = segment, short_patch(segment, lookback)
            self.shortened = shortened("crossformer", lookback, segment=(own, segment))
        self.horizon, self.segment, self.missing = horizon, segment, -lookback % segment
        # Number of segments at each scale. It must be known here, because the attention has routers for each segment.
        counts = [-(-lookback // segment)]
        for _ in range(stages - 1):
            counts.append(-(-counts[-1] // merge))
        self.norm = InstanceNorm(series) if instance_norm else None
        self.projection = nn.Linear(segment, width)
        # As in the paper, there is one embedding for each position of each series.
        self.position = nn.Parameter(torch.randn(series, counts[0], width))
        self.embed = nn.LayerNorm(width)
        layer = partial(TwoStageLayer, width, factor=factor, heads=heads, width=ffn, dropout=dropout)
        self.encoder = nn.ModuleList(
            Stage(width, merge if k else 1, layer(segments=count)) for k, count in enumerate(counts)
        )
        if horizon is None:
            self.head = nn.Linear(series * width, num_classes or 0)
            return
        targets = -(-horizon // segment)
        self.target_position = nn.Parameter(torch.randn(series, targets, width))
        self.decoder = nn.ModuleList(
            DecoderLayer(width, heads, dropout, layer(segments=targets)) for _ in range(stages + 1)
        )
        self.predict = nn.ModuleList(nn.Linear(width, segment) for _ in self.decoder)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {"embed": ("embed", "NHWC")} | stage_slots("encoder.{}", len(self.encoder), "NHWC")

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        if self.horizon is None:
            return self.head(self._encode(normalised(self.norm, x))[-1].mean(dim=2).flatten(1))
        return forecast_normalised(self.norm, x, self._forecast)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Return the segments of each scale, `(B, series, segments, width)`, fine to coarse."""
        filled = F.pad(x.transpose(1, 2), (self.missing, 0), mode="replicate")
        tokens = self.projection(filled.unflatten(2, (-1, self.segment)))  # (B, D, S, C)
        scales = [self.embed(tokens + self.position)]
        for stage in self.encoder:
            scales.append(stage(scales[-1]))
        return scales

    def _forecast(self, x: Tensor) -> Tensor:
        scales = self._encode(x)
        # The decoder gets information about the window only from the encoder.
        targets = self.target_position.expand(x.shape[0], -1, -1, -1)
        forecasts = []
        for layer, predict, source in zip(self.decoder, self.predict, scales, strict=True):
            targets = layer(targets, source)
            forecasts.append(predict(targets))
        # The last segment can extend beyond the horizon.
        return sum(forecasts[1:], forecasts[0]).flatten(2)[:, :, : self.horizon].transpose(1, 2)


class Stage(nn.Module):
    """Segment merging and two-stage attention.

    Shapes: `(B, D, S, C) -> (B, D, ⌈S / merge⌉, C)` for D series with S segments.

    Args:
        width: Number of channels C.
        merge: Number of segments that are merged into one. 1 means no merging.
        attention: The attention at this scale.
    """

    def __init__(self, width: int, merge: int, attention: TwoStageLayer) -> None:
        super().__init__()
        self.merge = merge
        if merge > 1:
            self.norm = nn.LayerNorm(merge * width)
            self.linear = nn.Linear(merge * width, width)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """Merge segments and attend: `(B, D, S, C) -> (B, D, ⌈S / merge⌉, C)`."""
        if self.merge == 1:
            return self.attention(x)
        short = -x.shape[2] % self.merge
        if short:
            x = torch.cat([x, x[:, :, -1:].expand(-1, -1, short, -1)], dim=2)
        return self.attention(self.linear(self.norm(x.unflatten(2, (-1, self.merge)).flatten(3))))


class DecoderLayer(nn.Module):
    """Two-stage attention of the targets, attention to one scale of the encoder, and a feed-forward layer.

    Attention to the encoder stays inside each series. Shapes, for D series: the targets `(B, D, T, C)` with T segments
    and the encoder's output `(B, D, S, C)` with S segments give `(B, D, T, C)`.

    Args:
        width: Number of channels C.
        heads: Number of attention heads.
        dropout: Dropout rate after the attention to the encoder.
        attention: The two-stage attention of the targets.
    """

    def __init__(self, width: int, heads: int, dropout: float, attention: TwoStageLayer) -> None:
        super().__init__()
        self.attention = attention
        self.cross = CrossAttention(width, heads)
        self.ffn = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, targets: Tensor, source: Tensor) -> Tensor:
        """Update the targets `(B, D, T, C)` from the encoder's output `(B, D, S, C)`: `(B, D, T, C)`."""
        targets = self.attention(targets)
        targets = self.norms[0](targets + self.dropout(self.cross(targets, source)))
        return self.norms[1](targets + self.ffn(targets))
