"""Vector quantisation (van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.attention import full_precision
from nasbench.ops.nd import from_tokens, to_tokens

_DECAY = 0.99
_COMMITMENT = 0.25
_EPS = 1e-5
_DEAD = 0.1  # share of a fair use under which a code counts as dead


@register_module(
    name="vector_quantise",
    properties=("sparsity",),
    paper="van den Oord et al., Neural Discrete Representation Learning, NeurIPS 2017, arXiv:1711.00937",
    space={"codes": (64, 128, 256, 512)},
    ranges={"codes": "at least 1"},
    dims=(1, 2),
)
class VectorQuantise(nn.Module):
    """Replace each position by the nearest of n code vectors. Gradients pass straight through.

    .. math:: y = e_k, \\quad k = \\arg\\min_j \\lVert x - e_j \\rVert^2, \\qquad
        \\frac{\\partial y}{\\partial x} := 1

    The codebook is not a parameter. In training it follows its inputs by an exponential moving average (the paper's
    appendix A.1), with a decay of 0.99 and counts smoothed by 1e-5,

    .. math:: N_j \\leftarrow \\gamma N_j + (1 - \\gamma) n_j, \\quad
        m_j \\leftarrow \\gamma m_j + (1 - \\gamma) \\sum_{k(x) = j} x, \\quad e_j = m_j / \\tilde N_j

    In training a dead code is replaced by a random position of the batch before the codes are assigned, as in
    SoundStream (Zeghidour et al., 2021, arXiv:2107.03312). A code is dead if N is under a tenth of a fair use, which is
    the number of positions in a batch over n. A replaced code starts with N at a fair use. All N start at 0, so the
    first batch replaces the whole codebook. A codebook from a normal distribution would stay far from inputs such as
    those behind a ReLU, and nearly all of its codes would never be used. SoundStream's own limit is 2 uses in a batch.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions. Distances are taken in at least float32.

    Attributes:
        codebook: Code vectors e, `(codes, C)`, as a buffer.
        cluster_size: Running counts N, `(codes,)`.
        cluster_sum: Running sums m, `(codes, C)`.
        aux_loss: The commitment loss of the last training pass, which is 0.25 times the mean of (x - e)². It is a
            scalar to be added to the task's loss. It is None outside training, and is left out of copies and pickles.

    Args:
        channels: Channels C.
        codes: Number of code vectors n. More codes quantise more finely.
    """

    codebook: Tensor
    cluster_size: Tensor
    cluster_sum: Tensor

    def __init__(self, channels: int, *, codes: int = 512) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(codes, channels))
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.register_buffer("cluster_sum", torch.zeros(codes, channels))
        self.aux_loss: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`. In training it also moves the codebook and sets `aux_loss`."""
        tokens = to_tokens(x)
        flat = tokens.detach().to(torch.promote_types(x.dtype, torch.float32)).flatten(0, 1)
        learns = self.training and len(flat) > 0
        if learns:
            self._revive(flat)
        nearest = self._nearest(flat)
        codes = F.embedding(nearest, self.codebook).to(x.dtype).view_as(tokens)
        self.aux_loss = None
        if learns:
            self.aux_loss = _COMMITMENT * F.mse_loss(tokens, codes)
            self._follow(flat, nearest)
        return from_tokens(tokens + (codes - tokens).detach(), x.shape[2:])

    def _nearest(self, flat: Tensor) -> Tensor:
        """`(P, C) -> (P,)`: the nearest code of each of P positions, by |e|² - 2 x·e, the distance less |x|²."""
        # torch.cdist computes few points in another way, so that its trace would hold for one range of P only
        with full_precision(flat):
            codebook = self.codebook.to(flat.dtype)
            return torch.addmm(codebook.square().sum(dim=1), flat, codebook.T, alpha=-2).argmin(dim=1)

    @torch.no_grad()
    def _revive(self, flat: Tensor) -> None:
        """Replace dead codes by random ones of the P positions in `flat`, `(P, C)`. At first all codes are dead."""
        fair = len(flat) / len(self.codebook)
        dead = self.cluster_size < _DEAD * fair
        drawn = flat[torch.randint(len(flat), dead.shape, device=flat.device)].to(self.codebook.dtype)
        # by `where` and not by an `if`, so that a GPU is not waited for
        self.codebook.copy_(torch.where(dead[:, None], drawn, self.codebook))
        self.cluster_sum.copy_(torch.where(dead[:, None], fair * drawn, self.cluster_sum))
        self.cluster_size.masked_fill_(dead, fair)

    @torch.no_grad()
    def _follow(self, flat: Tensor, nearest: Tensor) -> None:
        """Move the codes towards the inputs `flat`, `(P, C)`. `nearest`, `(P,)`, has the code number of each input."""
        size, total = self.cluster_size, self.cluster_sum
        counts = torch.zeros_like(size).index_add_(0, nearest, torch.ones_like(nearest, dtype=size.dtype))
        sums = torch.zeros_like(total).index_add_(0, nearest, flat.to(total.dtype))
        size.lerp_(counts, 1 - _DECAY)
        total.lerp_(sums, 1 - _DECAY)
        smoothed = (size + _EPS) / (size.sum() + size.shape[0] * _EPS) * size.sum()
        self.codebook.copy_(total / smoothed[:, None])

    def train(self, mode: bool = True) -> VectorQuantise:
        """Switch the mode. Leaving training discards `aux_loss`, which would otherwise be out of date."""
        if not mode:
            self.aux_loss = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        # A loss belongs to one pass and refers to its graph, which can neither be copied nor pickled.
        return {**self.__dict__, "aux_loss": None}
