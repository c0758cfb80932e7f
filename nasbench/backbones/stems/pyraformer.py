"""Pyraformer (Liu et al., ICLR 2022; no arXiv entry)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.embedding import SeriesEmbedding
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised
from nasbench.ops.time_pyramid import Edges, PyramidLayer, TimePyramid, edges

__all__ = ["Pyraformer"]


@register_stem("pyraformer")
class Pyraformer(nn.Module):
    """A pyramid of time scales, attention along its edges, and one linear layer on the last nodes of all scales.

    .. math:: T_0 = \\mathrm{pyramid}(\\mathrm{embed}([x, 0])),\\qquad T_k = \\mathrm{layer}_k(T_{k-1}),\\qquad
              y = W\\, [T_K^{(0, \\mathrm{last})}, \\dots, T_K^{(S, \\mathrm{last})}]

    Level 0 has the steps of the lookback and, after them, an end token: a step of zeros. If a level has n nodes, the
    next coarser level has ⌊n / c⌋ nodes, but at least one. In a layer, every node attends to its neighbours, its
    children and its parent. A feed-forward layer follows. Both are post-norm. `nasbench show pyramidal_attention` has
    the equations. Each node gathers only the nodes that it attends to, so memory grows linearly with the lookback.
    Other implementations store a mask with an entry for every pair of nodes. Each token represents all series at one
    time step. The head is the paper's first prediction module, which forecasts all steps at once.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after the embedding and `stageK` after layer
    K (each stage is one block). The map of a stage is level 0 of its pyramid, `(B, lookback + 1, width)`. So a plug-in
    gets a sequence of time steps, without the nodes of coarser scales.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        width: Number of channels of a token. It is 512 in the paper.
        heads: Number of attention heads, each with width / heads channels. The paper uses 4 or 6 heads of 128 channels.
        layers: Number of attention layers. It is 4 in the paper.
        ffn: Width of the feed-forward layers. It equals `width` in the paper.
        scales: Number of children c of a node, for each coarse level, fine to coarse. The paper uses (4, 4, 4) for
            hourly data.
        window: Number of nodes on its own level that each node attends to. The node itself is the middle one, so the
            number must be odd. It is 3 or 5 in the paper.
        bottleneck: Number of channels of the convolutions that build the pyramid. None means a quarter of the width, as
            in the paper.
        dropout: Dropout rate after the embedding, after attention and after the feed-forward layers.
        covariates: Number of covariates of each time step, given to `forward` as `marks`. 0 if there are none.
        instance_norm: Whether to normalise each window (RevIN). The paper does not normalise.
        num_classes: Number of classes, instead of a horizon. Then there is no end token, the head gets the mean of the
            nodes of each scale, and the output is `(B, num_classes)`.

    Raises:
        BackboneError: If `heads` does not divide `width`, if `scales` is empty or contains a number below 2, or if
            `window` is even or below 1.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 4,
        ffn: int = 64,
        scales: Sequence[int] = (4, 4, 4),
        window: int = 3,
        bottleneck: int | None = None,
        dropout: float = 0.05,
        covariates: int = 0,
        instance_norm: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise BackboneError(f"pyraformer: {heads} heads do not divide a width of {width}")
        if not scales or min(scales) < 2 or window < 1 or window % 2 == 0:
            raise BackboneError(
                "pyraformer: scales must have one or more numbers of at least 2, and window must be odd and at least 1,"
                f" got scales={scales!r} and window={window}"
            )
        self.lookback, self.horizon, self.scales, self.window = lookback, horizon, tuple(scales), window
        self.norm = InstanceNorm(series) if instance_norm else None
        self.embedding = SeriesEmbedding(series, width, covariates)
        # This is the last layer of the embedding, so the slot `embed` is here.
        self.embed = nn.Dropout(dropout)
        self.pyramid = TimePyramid(width, max(1, width // 4) if bottleneck is None else bottleneck, scales)
        self.encoder = nn.ModuleList(Block(width, heads, ffn, dropout) for _ in range(layers))
        self.head = nn.Linear((1 + len(scales)) * width, horizon * series if horizon else num_classes or 0)

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        return {"embed": ("embed", "NLC")} | stage_slots("encoder.{}", len(self.encoder), "NLC")

    def forward(self, x: Tensor, marks: Tensor | None = None) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it.

        Args:
            x: The window.
            marks: Covariates of the lookback and the horizon, `(B, lookback + horizon, covariates)`. Only the first
                step of the horizon is used. None means zeros.
        """
        if self.horizon is None:
            marks = None if marks is None else marks[:, : self.lookback]
            scales = self._encode(normalised(self.norm, x), marks)
            return self.head(torch.cat([scale.mean(dim=1) for scale in scales], dim=1))
        return forecast_normalised(self.norm, x, lambda window: self._forecast(window, marks))

    def _forecast(self, x: Tensor, marks: Tensor | None) -> Tensor:
        # The end token stands for the first step of the horizon, so it gets the covariates of this step.
        marks = None if marks is None else marks[:, : self.lookback + 1]
        scales = self._encode(F.pad(x, (0, 0, 0, 1)), marks)
        return self.head(torch.cat([scale[:, -1] for scale in scales], dim=1)).unflatten(1, (self.horizon or 0, -1))

    def _encode(self, x: Tensor, marks: Tensor | None) -> list[Tensor]:
        """Return the nodes of each scale after the last layer, `(B, nodes, width)`, fine to coarse."""
        nodes, sizes = self.pyramid(self.embed(self.embedding(x, marks)))
        links = edges(sizes, self.scales, self.window, x.device)
        # The blocks return level 0 separately, because their slots contain only level 0.
        fine, coarse = nodes[:, : sizes[0]], nodes[:, sizes[0] :]
        for block in self.encoder:
            coarse, fine = block(coarse, fine, links)
        return [fine, *coarse.split(sizes[1:], dim=1)]


class Block(nn.Module):
    """A pyramid layer that returns level 0 separately, so that a slot can contain level 0 alone.

    Args:
        width: Number of channels C.
        heads: Number of attention heads.
        ffn: Width of the feed-forward layer.
        dropout: Dropout rate after attention and after the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.layer = PyramidLayer(width, heads, ffn, dropout)

    def forward(self, coarse: Tensor, fine: Tensor, links: Sequence[Edges]) -> tuple[Tensor, Tensor]:
        """Compute new values for all nodes.

        Level 0 has N = lookback + 1 nodes, `fine` of shape `(B, N, C)`. All coarse levels together have M nodes,
        `coarse` of shape `(B, M, C)`. The result has the same shapes. Level 0 comes last in it, because a slot after a
        module that returns a tuple gets the last map.
        """
        nodes = self.layer(torch.cat([fine, coarse], dim=1), links)
        return nodes[:, fine.shape[1] :], nodes[:, : fine.shape[1]]
