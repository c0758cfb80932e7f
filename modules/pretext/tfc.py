"""TF-C (Zhang et al., "Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency Consistency",
NeurIPS 2022, arXiv:2206.08496).
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.contrast import mlp, nt_xent
from nasbench.ops.pretext import Encoder, Pretext

_DELTA = 1.0  # the paper's margin
_STRONGEST = 0.1  # share of the largest amplitude up to which an added component reaches


@register_module(
    name="tfc",
    kind="pretext",
    dims=1,
    paper="Zhang et al., Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency Consistency, "
    "NeurIPS 2022, arXiv:2206.08496",
    ranges={
        "weight": "at least 0, at most 1",
        "temperature": "at least 0.001, at most 100",
        "hidden": "at least 1",
        "width": "at least 1",
        "noise": "at least 0",
        "changed": "at least 0, at most 1",
    },
)
class TFC(Pretext):
    """Give a series and its spectrum vectors that are near to each other, and nearer than those of changed copies.

    .. math:: L = \\lambda (S(h_t, \\tilde h_t) + S(h_f, \\tilde h_f)) + (1 - \\lambda)
              \\sum_{pair} (1 + S(z_t, z_f) - S(pair))

    S is NT-Xent, which is small for near vectors. h are the features of the time encoder and of the frequency encoder,
    and z are their projections. The pairs are (z_t, z̃_f), (z̃_t, z_f) and (z̃_t, z̃_f). A tilde marks a changed copy:
    noise is added to the series, and components of the spectrum are removed and added.

    The frequency encoder is a second copy of the host with its plan, with weights of its own. It reads the amplitudes
    of all L frequencies. It is dropped with the pretext, and is not part of the costs. Padded steps are zero in a
    spectrum.

    Args:
        channels: Width C of the host's pooled features.
        weight: Weight λ.
        temperature: Temperature of NT-Xent.
        hidden: Width of the projectors' hidden layer.
        width: Width of the projections z.
        noise: Standard deviation of the noise. The series have the standard deviation 1.
        changed: Share of the components that are removed, and share of those that are added to.
    """

    recipe: ClassVar = {"epochs": 20, "batch_size": 64}

    def __init__(
        self,
        channels: int,
        *,
        weight: float = 0.5,
        temperature: float = 0.2,
        hidden: int = 256,
        width: int = 128,
        noise: float = 0.8,
        changed: float = 0.1,
    ) -> None:
        super().__init__()
        self.weight, self.temperature, self.noise, self.changed = weight, temperature, noise, changed
        self.projector = mlp([channels, hidden, width])
        self.spectrum_projector = mlp([channels, hidden, width])

    def start(self, encoder: nn.Module) -> None:
        """Make the frequency encoder, a copy of the host."""
        self.spectrum_encoder = copy.deepcopy(encoder)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return series and amplitudes, and a changed copy of each, all `(B, L, D)`."""

        def uniform() -> Tensor:
            return torch.rand(x.shape, generator=draw).to(x)

        noise = torch.randn(x.shape, generator=draw).to(x)
        # The scale is that of the series, so that one host suits both.
        amplitudes = torch.fft.fft(x.nan_to_num(0.0), dim=1, norm="ortho").abs()
        largest = amplitudes.amax(1, keepdim=True)
        changed = amplitudes * (uniform() >= self.changed)
        changed = changed + (uniform() < self.changed) * uniform() * (_STRONGEST * largest)
        return {"time": x, "changed_time": x + self.noise * noise, "spectrum": amplitudes, "changed_spectrum": changed}

    def forward(self, encoder: Encoder, views: Any) -> dict[str, dict[str, Tensor]]:
        """Return the features `h`, `(B, C)`, and the projections `z`, `(B, width)`, of all four views."""
        h = {
            name: (self.spectrum_encoder if name.endswith("spectrum") else encoder)(view)
            for name, view in views.items()
        }
        z = {
            name: (self.spectrum_projector if name.endswith("spectrum") else self.projector)(features)
            for name, features in h.items()
        }
        return {"h": h, "z": z}

    def loss(self, outputs: Any) -> Tensor:
        """Return the weighted sum of the contrast in time, in frequency, and between them."""
        h, z = outputs["h"], outputs["z"]

        def distance(vectors: dict[str, Tensor], first: str, second: str) -> Tensor:
            return nt_xent(vectors[first], vectors[second], self.temperature)

        apart = distance(h, "time", "changed_time") + distance(h, "spectrum", "changed_spectrum")
        near = distance(z, "time", "spectrum")
        pairs = (("time", "changed_spectrum"), ("changed_time", "spectrum"), ("changed_time", "changed_spectrum"))
        between = sum((_DELTA + near - distance(z, *pair) for pair in pairs), near.new_zeros(()))
        return self.weight * apart + (1.0 - self.weight) * between

    def project(self, features: Tensor) -> Tensor:
        """Return the projections `(B, width)` of features `(B, C)`."""
        return self.projector(features)
