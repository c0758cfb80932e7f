"""The peers for `scripts/benchmarks/stems.py`: public implementations of the stems, set to the same widths and shapes.

Each peer wraps an unchanged public class as `(B, lookback, series) -> (B, horizon, series)`. It is never code of
nasbench.
"""

import importlib.util
import math
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

NEEDS = ("neuralforecast==3.3.0", "einops==0.8.2")
ALONE = ("basicts==1.1.0", "pypots==1.5", "torch-geometric-temporal==0.56.2")
"""Installed without their requirements, which are older than the torch and NumPy used here. One model file of each
package is used."""


@dataclass(frozen=True)
class Shape:
    """One input of a training step."""

    batch: int
    lookback: int
    horizon: int
    series: int


@dataclass(frozen=True)
class Peer:
    """A public implementation beside a stem.

    Attributes:
        label: Whose it is, and where it differs.
        build: Makes it for a shape.
        ours: Keywords of our stem that make the two alike.
        series: Series of the comparison, where the peer has a fixed number.
    """

    label: str
    build: Callable[[Shape], nn.Module]
    ours: dict[str, Any] = field(default_factory=dict)
    series: int | None = None


class Each(nn.Module):
    """A model of neuralforecast, which forecasts one series, applied to each series as a window of its own."""

    def __init__(self, name: str, shape: Shape, **hyper: Any) -> None:
        super().__init__()
        import neuralforecast.models

        made = getattr(neuralforecast.models, name)(h=shape.horizon, input_size=shape.lookback, max_steps=1, **hyper)
        self.inner = made

    def forward(self, x: Tensor) -> Tensor:
        """`(B, lookback, series) -> (B, horizon, series)`."""
        windows = x.transpose(1, 2).reshape(-1, x.shape[1], 1)
        out = self.inner({"insample_y": windows, "futr_exog": None, "hist_exog": None, "stat_exog": None})
        return out.view(x.shape[0], x.shape[2], -1).transpose(1, 2)


def dlinear(shape: Shape) -> nn.Module:
    """DLinear of neuralforecast."""
    return Each("DLinear", shape, moving_avg_window=25)


def patchtst(shape: Shape) -> nn.Module:
    """PatchTST of neuralforecast."""
    # Residual attention has no fused kernel and is not in the paper. Without it both sides call the fused attention.
    return Each(
        "PatchTST", shape, encoder_layers=3, n_heads=4, hidden_size=64, linear_hidden_size=128, dropout=0.2,
        fc_dropout=0.2, patch_len=16, stride=8, revin=True, revin_affine=True, revin_subtract_last=False,
        res_attention=False, batch_normalization=True,
    )  # fmt: skip


def informer_of_one_series(shape: Shape) -> nn.Module:
    """Informer of neuralforecast."""
    return Each(
        "Informer", shape, hidden_size=64, n_head=4, conv_hidden_size=256, factor=5, encoder_layers=3,
        decoder_layers=1, dropout=0.05,
    )  # fmt: skip


class ManySeriesInformer(nn.Module):
    """BasicTS takes the decoder's input as an argument: half of the lookback and zeros."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        without_init("basicts")
        configs = types.ModuleType("basicts.configs")
        configs.BasicTSModelConfig = object  # type: ignore[attr-defined]
        sys.modules.setdefault("basicts.configs", configs)
        from basicts.models.Informer import Informer, InformerConfig

        self.label, self.horizon = shape.lookback // 2, shape.horizon
        self.inner = Informer(
            InformerConfig(
                input_len=shape.lookback,
                output_len=shape.horizon,
                label_len=self.label,
                num_features=shape.series,
                hidden_size=64,
                n_heads=4,
                factor=5,
                intermediate_size=256,
                num_encoder_layers=3,
                num_decoder_layers=1,
                dropout=0.05,
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, lookback, series) -> (B, horizon, series)`."""
        start = x[:, x.shape[1] - self.label :]
        return self.inner(x, nn.functional.pad(start, (0, 0, 0, self.horizon)))


def crossformer(shape: Shape) -> nn.Module:
    """Crossformer of BasicTS."""
    ManySeriesInformer(Shape(1, 8, 8, 1))  # the same package: makes it importable
    from basicts.models.Crossformer import Crossformer, CrossformerConfig

    return Crossformer(
        CrossformerConfig(
            input_len=shape.lookback,
            output_len=shape.horizon,
            num_features=shape.series,
            num_layers=3,
            hidden_size=64,
            win_size=2,
            factor=10,
            patch_len=12,
            n_heads=4,
            intermediate_size=128,
            dropout=0.2,
        )
    )


class Pyraformer(nn.Module):
    """The encoder of PyPOTS between a plain embedding and the paper's linear head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        without_init("pypots")
        from pypots.nn.modules.pyraformer import PyraformerEncoder

        self.horizon, steps = shape.horizon, shape.lookback + 1
        self.value = nn.Conv1d(shape.series, 64, 3, padding=1, padding_mode="circular")
        place = torch.arange(steps)[:, None] * torch.exp(torch.arange(0, 64, 2) * (-math.log(10000.0) / 64))
        self.register_buffer("place", torch.stack([place.sin(), place.cos()], -1).flatten(1))
        self.drop = nn.Dropout(0.05)
        self.encoder = PyraformerEncoder(steps, 4, 64, 4, 64, 0.05, 0.0, [4, 4, 4], 3)
        self.head = nn.Linear(4 * 64, shape.horizon * shape.series)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, lookback, series) -> (B, horizon, series)`."""
        x = nn.functional.pad(x, (0, 0, 0, 1))
        tokens = self.drop(self.value(x.transpose(1, 2)).transpose(1, 2) + self.place)
        encoded, _ = self.encoder(tokens)
        return self.head(encoded[:, -1]).view(len(x), self.horizon, -1)


class TS2Vec(nn.Module):
    """The encoder of PyPOTS with a linear head on its last step."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        without_init("pypots")
        from pypots.nn.modules.ts2vec.backbone import TS2VecEncoder

        self.horizon = shape.horizon
        blocks = max(1, math.ceil(math.log2((shape.lookback - 1) / 2 + 1)))
        self.encoder = TS2VecEncoder(shape.series, 128, 32, blocks - 1, mask_mode="all_true")
        self.head = nn.Linear(128, shape.horizon * shape.series)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, lookback, series) -> (B, horizon, series)`."""
        return self.head(self.encoder(x.clone())[:, -1]).view(len(x), self.horizon, -1)


class MTGNN(nn.Module):
    """PyTorch Geometric Temporal's, without its graph."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        for package in ("", ".nn", ".nn.attention"):
            without_init(f"torch_geometric_temporal{package}")
        from torch_geometric_temporal.nn.attention import mtgnn

        self.inner = mtgnn.MTGNN(
            gcn_true=False, build_adj=False, gcn_depth=2, num_nodes=shape.series, kernel_set=[2, 3, 6, 7],
            kernel_size=7, dropout=0.3, subgraph_size=min(20, shape.series), node_dim=40, dilation_exponential=2,
            conv_channels=16, residual_channels=16, skip_channels=32, end_channels=64, seq_length=shape.lookback,
            in_dim=1, out_dim=shape.horizon, layers=3, propalpha=0.05, tanhalpha=3, layer_norm_affline=True,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """`(B, lookback, series) -> (B, horizon, series)`."""
        return self.inner(x.transpose(1, 2).unsqueeze(1)).squeeze(-1)


def without_init(name: str) -> None:
    """Make a package's modules importable without running its `__init__`, which would import all its requirements."""
    if name not in sys.modules:
        found = importlib.util.find_spec(name)
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name}")
        package = types.ModuleType(name)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[name] = package


_GENERATIVE = {"decoder_layers": 1}
PEERS: dict[str, list[Peer]] = {
    "dlinear": [Peer("neuralforecast", dlinear)],
    "patchtst": [Peer("neuralforecast", patchtst)],
    "informer": [
        Peer("neuralforecast, which has one series", informer_of_one_series, _GENERATIVE, series=1),
        Peer("BasicTS", ManySeriesInformer, _GENERATIVE),
    ],
    "pyraformer": [Peer("encoder of PyPOTS, dense mask", Pyraformer)],
    "crossformer": [Peer("BasicTS, positions shared by series", crossformer)],
    "mtgnn": [Peer("PyTorch Geometric Temporal, no graph", MTGNN)],
    "ts2vec": [Peer("encoder of PyPOTS", TS2Vec)],
}
"""Peers by stem. `unet_tsf` has no public implementation on PyPI."""
