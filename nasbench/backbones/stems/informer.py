"""Informer (Zhou et al., AAAI 2021, arXiv:2012.07436)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.attention import CrossAttention
from nasbench.ops.embedding import SeriesEmbedding
from nasbench.ops.probsparse import ProbSparseSelfAttention
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised

__all__ = ["Informer"]

_DENSE = 512
"""Up to this number of positions, it is faster to compute all products of queries and keys than to gather some."""


@register_stem("informer")
class Informer(nn.Module):
    """A ProbSparse encoder with half as many steps in each layer, and a head that forecasts all steps at once.

    .. math:: X_1 = \\mathrm{layer}_1(\\mathrm{embed}(x)),\\qquad
              X_{j+1} = \\mathrm{layer}_{j+1}(\\mathrm{MaxPool}_{3,2}(\\mathrm{ELU}(\\mathrm{BN}(
              \\mathrm{conv}_3(X_j))))),\\qquad y = W_s\\, (W_t\\, \\mathrm{LN}(X_J))

    A layer consists of ProbSparse self-attention (the module `probsparse_attention`) and a feed-forward layer, both
    post-norm. Each token represents all series at one time step. The direct head consists of two linear layers: W_t
    from the remaining steps to the horizon, and W_s from channels to series. If `decoder_layers` is above 0, the
    paper's generative decoder replaces the direct head. The decoder's input is the last `label` steps of the window as
    start token, followed by zeros for the horizon. All steps of the horizon are forecast in one pass through the
    decoder's layers. Each decoder layer has causal ProbSparse attention, attention to the encoder and a feed-forward
    layer.

    Each distilling layer turns n steps into ⌈n / 2⌉. Some reimplementations pad the convolution by two steps on either
    side, as torch 1.4 needed. In later versions of torch, this padding adds two steps in each layer. The official
    decoder has an option `mix`, with which it swaps heads and positions before it merges the heads. A token then mixes
    parts of several positions. Here the heads of each position are merged.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after the embedding, with maps
    `(B, lookback, width)`, and `stageK` after encoder layer K (each stage is one block), with maps
    `(B, ⌈lookback / 2^(K-1)⌉, width)`.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        width: Number of channels of a token. It is 512 in the paper.
        heads: Number of attention heads. It is 8 in the official code.
        layers: Number of encoder layers. The paper's main stack has 3, and the default of the official code is 2.
        ffn: Width of the feed-forward layers. It is 2048 in the paper.
        factor: Sampling factor c of the ProbSparse attention.
        dropout: Dropout rate after the embedding, after attention, inside and after the feed-forward layers.
        decoder_layers: Number of layers of the generative decoder. The paper uses 1 or 2. 0 means the direct head.
        label: Number of steps of the decoder's start token. None means half of the lookback.
        covariates: Number of covariates of each time step, given to `forward` as `marks`. 0 if there are none.
        instance_norm: Whether to normalise each window (RevIN). The paper does not normalise.
        num_classes: Number of classes, instead of a horizon. Then the head is a linear layer on the mean of the encoded
            steps, and the output is `(B, num_classes)`.

    Raises:
        BackboneError: If `heads` does not divide `width`, or `label` is not from 0 to the lookback, or if a
            decoder is to classify.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 3,
        ffn: int = 256,
        factor: int = 5,
        dropout: float = 0.05,
        decoder_layers: int = 0,
        label: int | None = None,
        covariates: int = 0,
        instance_norm: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        label = lookback // 2 if label is None else label
        if width % heads:
            raise BackboneError(f"informer: {heads} heads do not divide a width of {width}")
        if not 0 <= label <= lookback:
            raise BackboneError(
                f"informer: label counts input steps, so it must be from 0 to the lookback of {lookback}, got {label}"
            )
        if num_classes is not None and decoder_layers:
            raise BackboneError("informer: the decoder forecasts; classify with decoder_layers=0")
        self.lookback, self.horizon, self.label = lookback, horizon or 0, label
        self.norm = InstanceNorm(series) if instance_norm else None
        self.embedding = SeriesEmbedding(series, width, covariates)
        # This is the last layer of the embedding, so the slot `embed` is here.
        self.embed = nn.Dropout(dropout)
        # Each distilling layer halves the number of steps and rounds it up.
        lengths = [-(-lookback // 2**k) for k in range(layers)]
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, ffn, factor, dropout, n <= _DENSE) for n in lengths)
        self.distil = nn.ModuleList(Distilling(width) for _ in lengths[1:])
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder: nn.ModuleList | None = None
        self.head = None if num_classes is None else nn.Linear(width, num_classes)
        if horizon is None:
            return
        if decoder_layers:
            self.decoder_embedding = SeriesEmbedding(series, width, covariates)
            self.decoder_embed = nn.Dropout(dropout)
            dense = label + horizon <= _DENSE
            self.decoder = nn.ModuleList(
                DecoderLayer(width, heads, ffn, factor, dropout, dense) for _ in range(decoder_layers)
            )
            self.decoder_norm = nn.LayerNorm(width)
        else:
            self.over_time = nn.Linear(lengths[-1], horizon)
        self.projection = nn.Linear(width, series)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {"embed": ("embed", "NLC")} | stage_slots("encoder.{}", len(self.encoder), "NLC")

    def forward(self, x: Tensor, marks: Tensor | None = None) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it.

        Args:
            x: The window.
            marks: Covariates of the lookback and the horizon, `(B, lookback + horizon, covariates)`. None means zeros.
        """
        if self.head is not None:
            return self.head(self._encode(normalised(self.norm, x), marks).mean(dim=1))
        return forecast_normalised(self.norm, x, lambda window: self._forecast(window, marks))

    def _forecast(self, x: Tensor, marks: Tensor | None) -> Tensor:
        tokens = self._encode(x, marks)
        if self.decoder is None:
            return self.projection(self.over_time(tokens.transpose(1, 2)).transpose(1, 2))
        start = self.lookback - self.label
        # Zeros replace the unknown steps, so that one pass forecasts all of them.
        queries = F.pad(x[:, start:], (0, 0, 0, self.horizon))
        queries = self.decoder_embed(self.decoder_embedding(queries, None if marks is None else marks[:, start:]))
        for layer in self.decoder:
            queries = layer(queries, tokens)
        # The outputs for the start token are dropped, because these steps are known.
        return self.projection(self.decoder_norm(queries)[:, self.label :])

    def _encode(self, x: Tensor, marks: Tensor | None) -> Tensor:
        """Return the encoded steps that remain after distilling, `(B, steps, width)`."""
        past = None if marks is None else marks[:, : self.lookback]
        tokens = self.encoder[0](self.embed(self.embedding(x, past)))
        for distil, layer in zip(self.distil, self.encoder[1:], strict=True):
            tokens = layer(distil(tokens))
        return self.encoder_norm(tokens)


class EncoderLayer(nn.Module):
    """ProbSparse self-attention and a feed-forward layer, both post-norm: `(B, N, C) -> (B, N, C)` for N steps.

    Args:
        width: Number of channels C.
        heads: Number of attention heads.
        ffn: Width of the feed-forward layer.
        factor: Sampling factor c of the attention.
        dropout: Dropout rate after attention, inside and after the feed-forward layer.
        dense: How the attention computes its products, see `ProbSparseSelfAttention`.
    """

    def __init__(self, width: int, heads: int, ffn: int, factor: int, dropout: float, dense: bool) -> None:
        super().__init__()
        self.attention = ProbSparseSelfAttention(width, factor=factor, heads=heads, dense=dense)
        self.ffn = feed_forward(width, ffn, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Attend and transform: `(B, N, C) -> (B, N, C)`."""
        x = self.norms[0](x + self.dropout(self.attention(x)))
        return self.norms[1](x + self.ffn(x))


class DecoderLayer(nn.Module):
    """Causal ProbSparse self-attention, attention to the encoder and a feed-forward layer, each post-norm.

    Shapes: M queries `(B, M, C)` and the N tokens of the encoder's output `(B, N, C)` give `(B, M, C)`.

    Args:
        width: Number of channels C.
        heads: Number of attention heads.
        ffn: Width of the feed-forward layer.
        factor: Sampling factor c of the self-attention.
        dropout: Dropout rate after each attention, inside and after the feed-forward layer.
        dense: How the attention computes its products, see `ProbSparseSelfAttention`.
    """

    def __init__(self, width: int, heads: int, ffn: int, factor: int, dropout: float, dense: bool) -> None:
        super().__init__()
        self.attention = ProbSparseSelfAttention(width, factor=factor, heads=heads, causal=True, dense=dense)
        self.cross = CrossAttention(width, heads)
        self.ffn = feed_forward(width, ffn, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Update the queries `(B, M, C)` from the encoder's output `(B, N, C)`: `(B, M, C)`."""
        x = self.norms[0](x + self.dropout(self.attention(x)))
        x = self.norms[1](x + self.dropout(self.cross(x, source)))
        return self.norms[2](x + self.ffn(x))


class Distilling(nn.Module):
    """Convolution, batch norm, ELU and max pooling at stride 2: `(B, N, C) -> (B, ⌈N / 2⌉, C)` for N steps.

    Args:
        width: Number of channels C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # A padding of one on either side keeps the length. Some reimplementations pad by two, see `Informer`.
        self.conv = nn.Conv1d(width, width, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(width)
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the number of steps: `(B, N, C) -> (B, ⌈N / 2⌉, C)`."""
        return self.pool(F.elu(self.norm(self.conv(x.transpose(1, 2))))).transpose(1, 2)


def feed_forward(width: int, ffn: int, dropout: float) -> nn.Sequential:
    """Return two linear layers with a GELU between them: `(..., width) -> (..., width)`.

    For a width of C and a hidden width `ffn` of F, they have 2 C F + C + F parameters.
    """
    return nn.Sequential(
        nn.Linear(width, ffn), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn, width), nn.Dropout(dropout)
    )
