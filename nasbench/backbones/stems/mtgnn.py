"""MTGNN (Wu et al., "Connecting the Dots", KDD 2020, arXiv:2005.11650)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.backbones.stem_registry import register_stem, stage_slots
from nasbench.errors import BackboneError
from nasbench.ops.graph import LearnedGraph, MixHop
from nasbench.ops.nd import conv
from nasbench.ops.series import InstanceNorm, forecast_normalised, normalised, shortened
from nasbench.ops.temporal import DilatedInception, side_by_side

__all__ = ["MTGNN"]


@register_stem("mtgnn")
class MTGNN(nn.Module):
    """Gated dilated convolutions along time, with the series as a second axis. By default there is no graph.

    .. math:: z_0 = W_0 x,\\quad h_k = \\tanh(\\mathrm{DIL}_k(z_{k-1})) \\odot \\sigma(\\mathrm{DIL}'_k(z_{k-1})),\\quad
              z_k = \\mathrm{LN}(R_k h_k + z_{k-1}), \\\\
              y = W_2\\,\\mathrm{relu}(W_1\\,\\mathrm{relu}(S_0 x + \\textstyle\\sum_k S_k h_k + S_{K+1} z_K))

    DIL is the dilated inception layer: convolutions of lengths 2, 3, 6 and 7 in parallel. All outputs are cropped to
    their last steps, to the length of the shortest output. Nothing is padded between layers. So layer k, with dilation
    d_k, removes 6 d_k steps from the time axis, and the residual is cropped to the last steps that remain. Each S is a
    linear layer on all remaining channels and steps of a series. If the lookback is below the receptive field of 1 + 6
    Σ d steps, the window is padded with zeros on the left. LN normalises over channels, series and time together, and
    it has a weight for each entry. Without the graph, LN is the only layer that mixes series. With the graph, two
    mix-hop propagations replace R_k, and their outputs are summed. One runs along the edges of a learned graph, the
    other against them. The authors' code then still builds R_k, without using it.

    Shapes: `(B, lookback, series) -> (B, horizon, series)`. Slots: `embed` after W_0 and `stageK` after layer K (each
    stage is one block). A slot's tensor has the shape `(B, width, series, steps)`. With the defaults and a lookback of
    96, the slots have 96, 90, 78 and 54 steps.

    Args:
        lookback: Number of input steps L.
        horizon: Number of forecast steps H. None to classify.
        series: Number of series D.
        width: Number of channels of the layers. The paper uses 16 for single-step and 32 for multi-step forecasts.
        skip: Number of channels of each skip, and so of their sum. The paper uses 32 for single-step and 64 for
            multi-step forecasts.
        end: Number of channels before the last layer. The paper uses 64 for single-step and 128 for multi-step
            forecasts.
        dilations: For each layer, the distance between two taps of its convolutions. The paper uses (1, 2, 4, 8, 16)
            for a lookback of 168 and (1, 1, 1) for a lookback of 12.
        kernels: Lengths of the convolutions in each layer.
        graph: Whether to learn a graph over the series, as the paper does.
        neighbours: Largest number of neighbours of a series in the graph.
        node_width: Dimension of the embeddings from which the graph is computed.
        depth: Number of hops of each propagation.
        beta: Share of the propagation's input that is kept at each hop.
        alpha: Saturation rate of the graph's tanh: the factor on its argument.
        dropout: Dropout rate on the gated convolutions, and on the window before S_0.
        norm_affine: Whether the normalisations have weights. In the authors' code they have weights only for multi-step
            forecasts.
        instance_norm: Whether to normalise each window (RevIN). The paper does not normalise.
        num_classes: Number of classes, instead of a horizon. Then the last layers get the skips of all series together,
            and the output is `(B, num_classes)`. Kernels are shortened to the series, and the dilations end where the
            series would have to be padded.

    Raises:
        BackboneError: If `dilations` or `kernels` is empty, or contains a number below 1.
    """

    def __init__(
        self,
        lookback: int,
        horizon: int | None,
        series: int,
        *,
        width: int = 16,
        skip: int = 32,
        end: int = 64,
        dilations: Sequence[int] = (1, 2, 4),
        kernels: Sequence[int] = (2, 3, 6, 7),
        graph: bool = False,
        neighbours: int = 20,
        node_width: int = 40,
        depth: int = 2,
        beta: float = 0.05,
        alpha: float = 3.0,
        dropout: float = 0.3,
        norm_affine: bool = True,
        instance_norm: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if min(dilations, default=0) < 1 or min(kernels, default=0) < 1:
            raise BackboneError(
                "mtgnn: dilations and kernels must each have one or more numbers of at least 1,"
                f" got dilations={dilations!r} and kernels={kernels!r}"
            )
        self.shortened = ""
        if num_classes is not None:
            own = {"kernels": tuple(kernels), "dilations": tuple(dilations)}
            kernels, dilations = _fitting(kernels, dilations, lookback)
            used = {"kernels": (own["kernels"], kernels), "dilations": (own["dilations"], dilations)}
            self.shortened = shortened("mtgnn", lookback, **used)
        self.classifies = num_classes is not None
        reach = (max(kernels) - 1) * sum(dilations)
        # At least one step must be left after the last unpadded layer.
        self.missing = max(0, reach + 1 - lookback)
        steps = lookback + self.missing
        self.norm = InstanceNorm(series) if instance_norm else None
        self.graph = LearnedGraph(series, width=node_width, neighbours=neighbours, alpha=alpha) if graph else None
        self.embed = conv(2, 1, width)
        self.dropout = nn.Dropout(dropout)
        self.skip_input = nn.Linear(steps, skip)
        self.layers = nn.ModuleList()
        for dilation in dilations:
            steps -= (max(kernels) - 1) * dilation
            mixes = [MixHop(width, width, depth=depth, beta=beta) for _ in range(2)] if graph else []
            self.layers.append(
                Layer(
                    DilatedInception(width, width, kernels, dilation, dims=2),
                    DilatedInception(width, width, kernels, dilation, dims=2),
                    mixes,
                    nn.Linear(width * steps, skip),
                    nn.LayerNorm((width, series, steps), elementwise_affine=norm_affine),
                    dropout,
                )
            )
        self.skip_output = nn.Linear(width * steps, skip)
        inputs = skip if num_classes is None else series * skip
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(inputs, end), nn.ReLU(), nn.Linear(end, horizon or num_classes or 0)
        )

    def host_slots(self) -> dict[str, tuple[str, str]]:
        """Return the backbone's slots: slot name to (module path, layout)."""
        # The slot is after a layer's norm, because the layer itself returns a map and a skip.
        return {"embed": ("embed", "NCHW")} | stage_slots("layers.{}.norm", len(self.layers), "NCHW")

    def forward(self, x: Tensor) -> Tensor:
        """Forecast a window, `(B, lookback, series) -> (B, horizon, series)`, or classify it."""
        if self.classifies:
            return self.head(self._skips(normalised(self.norm, x)).flatten(1))
        return forecast_normalised(self.norm, x, lambda window: self.head(self._skips(window)).transpose(1, 2))

    def _skips(self, x: Tensor) -> Tensor:
        """Return the sum of all skips, `(B, series, skip)`."""
        window = F.pad(x.transpose(1, 2), (self.missing, 0)).contiguous()
        adjacency = self.graph() if self.graph is not None else None
        # The window becomes an image with one channel: each series is a row, each time step a column.
        state, total = self.embed(window.unsqueeze(1)), self.skip_input(self.dropout(window))
        for layer in self.layers:
            state, skipped = layer(state, adjacency)
            total = total + skipped
        return total + self.skip_output(_by_series(state))


class Layer(nn.Module):
    """One layer of MTGNN, which returns the next map and a skip.

    Shapes: the map `(B, C, D, T)` of D series with T steps and the graph `(D, D)` give the map `(B, C, D, T')` and the
    skip `(B, D, skip)`.

    Args:
        filter: The dilated inception layer whose output goes through the tanh. It determines T'.
        gate: The dilated inception layer whose output goes through the sigmoid.
        mixes: Two propagations, one along the edges of the graph and one against them. If this is empty, a 1×1
            convolution is used instead.
        skip: Layer from all channels and steps of a series to its skip output.
        norm: Normalisation of the output.
        dropout: Dropout rate on the gated maps.
    """

    def __init__(
        self,
        filter: DilatedInception,
        gate: DilatedInception,
        mixes: Sequence[MixHop],
        skip: nn.Module,
        norm: nn.LayerNorm,
        dropout: float,
    ) -> None:
        super().__init__()
        width = norm.normalized_shape[0]
        self.filter, self.gate, self.skip, self.norm = filter, gate, skip, norm
        self.mixes = nn.ModuleList(mixes)
        self.mix = None if mixes else conv(2, width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, adjacency: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the next map and the skip: `(B, C, D, T) -> (B, C, D, T'), (B, D, skip)`."""
        a, b = side_by_side(self.filter, self.gate, x)
        gated = self.dropout(a.tanh() * b.sigmoid())
        if self.mix is not None:
            mixed = self.mix(gated)
        else:
            assert adjacency is not None
            along, against = self.mixes
            mixed = along(gated, adjacency) + against(gated, adjacency.T)
        # The convolutions keep only the last steps, so the residual is cropped to these steps.
        return self.norm(mixed + x[..., -mixed.shape[3] :]), self.skip(_by_series(gated))


def _fitting(kernels: Sequence[int], dilations: Sequence[int], steps: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return kernels and dilations whose receptive field is not longer than a series, at least one layer of them."""
    kernels = tuple(min(kernel, steps) for kernel in kernels)
    layers = [n for n in range(1, len(dilations) + 1) if 1 + (max(kernels) - 1) * sum(dilations[:n]) <= steps]
    return kernels, tuple(dilations[: max(layers, default=1)])


def _by_series(x: Tensor) -> Tensor:
    """Flatten the map `(B, C, D, T)` of D series with T steps to `(B, D, C·T)`.

    A linear layer on the result is the same as the authors' convolution over all remaining steps.
    """
    return x.transpose(1, 2).flatten(2)
