"""A graph over series that is learned together with the network, and propagation along the graph (MTGNN, KDD 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench.ops.nd import conv

__all__ = ["LearnedGraph", "MixHop"]


class LearnedGraph(nn.Module):
    """A sparse directed graph over D series (Wu et al., KDD 2020, arXiv:2005.11650, equations 1 to 6).

    .. math:: M_i = \\tanh(\\alpha\\,\\Theta_i E_i),\\qquad
              A = \\mathrm{relu}(\\tanh(\\alpha (M_1 M_2^T - M_2 M_1^T)))

    The argument of the relu is antisymmetric. So the diagonal is 0, and A_ij or A_ji is 0. In each row only the
    `neighbours` largest entries are kept. Some reimplementations add noise before they choose these entries. The noise
    makes the network random in evaluation too. It is not needed, because ties occur only among zeros, and it makes no
    difference which zeros are chosen. The graph has 2 D d + 2 (d² + d) parameters.

    Args:
        series: Number of series D.
        width: Dimension d of the embeddings E_1 and E_2.
        neighbours: Largest number of non-zero entries in a row. It is 20 in the paper.
        alpha: Saturation rate α: the factor on the argument of each tanh.
    """

    def __init__(self, series: int, *, width: int = 40, neighbours: int = 20, alpha: float = 3.0) -> None:
        super().__init__()
        self.neighbours, self.alpha = min(neighbours, series), alpha
        self.first, self.second = nn.Embedding(series, width), nn.Embedding(series, width)
        self.theta_first, self.theta_second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self) -> Tensor:
        """Return the adjacency `(D, D)`. Entry (i, j), in [0, 1), is the weight of series j as a source of series i."""
        one = (self.alpha * self.theta_first(self.first.weight)).tanh()
        two = (self.alpha * self.theta_second(self.second.weight)).tanh()
        difference = one @ two.T
        adjacency = (self.alpha * (difference - difference.T)).tanh().relu()
        strongest = adjacency.topk(self.neighbours, dim=1)
        return torch.zeros_like(adjacency).scatter(1, strongest.indices, strongest.values)


class MixHop(nn.Module):
    """Mix-hop propagation along a graph over series (Wu et al., KDD 2020, equations 7 to 10).

    .. math:: \\tilde A = D^{-1} (A + I),\\quad H_0 = x,\\quad H_k = \\beta x + (1 - \\beta) \\tilde A H_{k-1},\\qquad
              y = W [H_0, H_1, ..., H_K]

    The diagonal matrix D holds the row sums of A + I. So the product with Ã gives each series a weighted mean of the
    H_{k-1} of its neighbours and of itself. Some versions of the authors' code multiply by the transpose of Ã, whose
    rows do not sum to 1.

    Shapes: `(B, C_in, N, T)` for N series with T steps, and the graph `(N, N)`, to `(B, C_out, N, T)`.

    Args:
        in_channels: Number of channels C_in.
        out_channels: Number of channels C_out.
        depth: Number of hops K. It is 2 in the paper.
        beta: Share β of the input x in the result of each hop. It is 0.05 in the paper.
    """

    def __init__(self, in_channels: int, out_channels: int, *, depth: int = 2, beta: float = 0.05) -> None:
        super().__init__()
        self.depth, self.beta = depth, beta
        self.mix = conv(2, (depth + 1) * in_channels, out_channels)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """`(B, C_in, N, T) -> (B, C_out, N, T)`."""
        weights = adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype, device=adjacency.device)
        weights = weights / weights.sum(dim=1, keepdim=True)
        hops = [x]
        for _ in range(self.depth):
            hops.append(self.beta * x + (1 - self.beta) * (weights @ hops[-1]))
        return self.mix(torch.cat(hops, dim=1))
