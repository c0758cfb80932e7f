"""TS2Vec (Yue et al., "Towards Universal Representation of Time Series", AAAI 2022, arXiv:2106.10466)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.nd import conv
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised
from nasbench.ops.valid_steps import max_valid, split_padding, zero_padded

__all__ = ["TS2Vec"]


@register_stem("ts2vec")
class TS2Vec(nn.Module):
    """A residual encoder of dilated convolutions, and a linear forecast from the representation of the last step.

    .. math:: z_0 = W x_t,\\quad z_{i+1} = P_i z_i + f_{i,2} \\star_{2^i} \\mathrm{gelu}(f_{i,1} \\star_{2^i}
              \\mathrm{gelu}(z_i)),\\qquad r = z_{last},\\quad y = W_h\\, r_L

    The projection mixes all series at each step (the paper's encoder is multivariate), and all series are forecast from
    the one representation r. P_i is the identity in all blocks but the last. In the last block, P_i is a 1×1
    convolution, even if the width does not change, as in the authors' code. The convolutions keep the length: they use
    steps on both sides, and the window is padded with zeros. The last step depends on the (kernel - 1)(2^blocks - 1)
    steps before it.

    The paper trains the encoder with a contrastive loss on masked crops, and fits W_h by ridge regression on frozen
    representations. Here the encoder and W_h are trained together to forecast, without masks and crops.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after the projection, with maps
    `(B, lookback, width)`, and `stageK` after block K (each stage is one block), with maps `(B, width, lookback)`. The
    last stage has maps `(B, representation, lookback)`.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        width: Number of channels of all blocks but the last. It is 64 in the paper.
        representation: Number of channels of the last block. It is 320 in the paper.
        blocks: Number of blocks. It is 11 in the paper. None means the smallest number with which the last step depends
            on the whole lookback, for example 6 for a lookback of 96.
        kernel: Number of taps of each convolution. It must be odd.
        dropout: Dropout rate on the representation.
        instance_norm: Whether to normalise each window (RevIN). The paper does not normalise.
        num_classes: Number of classes, instead of a horizon. Then the representation of a series is the maximum over
        its
            steps, as in the paper's classification, and the output is `(B, num_classes)`.
        padded: Whether classified series can have fewer steps than `lookback`. Their other steps are NaN, and count in
        no
            convolution and in no maximum.

    Raises:
        BackboneError: If `kernel` is even or below 3, or if `blocks` is below 1.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        width: int = 32,
        representation: int = 128,
        blocks: int | None = None,
        kernel: int = 3,
        dropout: float = 0.1,
        instance_norm: bool = False,
        num_classes: int | None = None,
        padded: bool = False,
    ) -> None:
        super().__init__()
        if kernel < 3 or kernel % 2 == 0 or (blocks is not None and blocks < 1):
            raise BackboneError(
                "ts2vec: kernel must be odd and at least 3, and blocks at least 1,"
                f" got kernel={kernel} and blocks={blocks}"
            )
        count = blocks or _blocks_to_reach(lookback - 1, kernel)
        widths = [width] * count + [representation]
        if padded and (num_classes is None or instance_norm):
            raise BackboneError("ts2vec: padded is for classification without instance_norm")
        self.horizon, self.padded = horizon, padded
        self.norm = InstanceNorm(series) if instance_norm else None
        self.embed = nn.Linear(series, width)
        self.encoder = nn.Sequential(
            *[
                # Dilations double, so the receptive field doubles with each block.
                ConvBlock(widths[i], widths[i + 1], kernel=kernel, dilation=2**i, project=i == count - 1)
                for i in range(count)
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(representation, horizon * series if horizon else num_classes or 0)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {"embed": ("embed", "NLC")} | stage_slots("encoder.{}", len(self.encoder), "NCL")

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        if self.horizon is not None:
            return forecast_normalised(self.norm, x, self._forecast)
        x, valid = split_padding(x) if self.padded else (normalised(self.norm, x), None)
        return self.head(self.dropout(max_valid(self._encode(x, valid), valid)))

    def _forecast(self, x: Tensor) -> Tensor:
        encoded = self._encode(x, None)
        return self.head(self.dropout(encoded[..., -1])).unflatten(1, (-1, x.shape[2]))

    def _encode(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return the representation of every step, `(B, representation, lookback)`."""
        # Plug-ins return contiguous tensors. A convolution can round differently for another memory format. Then an
        # inserted module would change the forecast before training.
        x = self.embed(x).transpose(1, 2).contiguous()
        for block in self.encoder:
            x = block(x, valid)
        return x


def _blocks_to_reach(steps: int, kernel: int) -> int:
    """Return the smallest number of blocks, with dilations 1, 2, 4, ..., that reach this number of past steps.

    Each block has two convolutions. Each convolution reaches (kernel - 1) / 2 taps into the past.
    """
    blocks = 1
    while (kernel - 1) * (2**blocks - 1) < steps:
        blocks += 1
    return blocks


class ConvBlock(nn.Module):
    """Two dilated convolutions, each after a GELU, with a residual connection.

    Shapes: `(B, C_in, L) -> (B, C_out, L)` for L steps.

    Args:
        in_channels: Number of channels C_in.
        out_channels: Number of channels C_out.
        kernel: Number of taps of both convolutions. It must be odd.
        dilation: Distance between two taps.
        project: Whether the residual connection has a 1×1 convolution. If C_in and C_out differ, it always has one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, dilation: int, project: bool) -> None:
        super().__init__()
        self.first = conv(1, in_channels, out_channels, kernel, dilation=dilation)
        self.second = conv(1, out_channels, out_channels, kernel, dilation=dilation)
        self.projection = conv(1, in_channels, out_channels) if project or in_channels != out_channels else None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Add the result of the convolutions to the residual: `(B, C_in, L) -> (B, C_out, L)`.

        Args:
            x: The map.
            valid: Which steps are not padded, `(B, 1, L)`. None means all. Padded steps of the result are zero.
        """
        x = zero_padded(x, valid)
        residual = x if self.projection is None else self.projection(x)
        hidden = zero_padded(self.first(F.gelu(x)), valid)
        return zero_padded(residual + self.second(F.gelu(hidden)), valid)
