"""Contrastive losses, and the small networks that pretexts put on features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["cosine_distance", "mlp", "nt_xent", "other_logits"]


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent, the loss of SimCLR (Chen et al., ICML 2020, eq. 1), as the mean over all 2B views.

    .. math:: \\ell_{ij} = -\\log \\frac{\\exp(s_{ij} / \\tau)}{\\sum_{k \\ne i} \\exp(s_{ik} / \\tau)}

    s is the cosine similarity. The positive of a view is the other view of its item. All other 2B − 2 views are
    negatives. (The official code adds the means over both halves, which is twice this value.)

    Args:
        first: Projections of the first views, `(B, D)`.
        second: Projections of the second views, `(B, D)`, in the same order of items.
        temperature: Temperature τ.
    """
    count = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -torch.inf)
    positives = torch.arange(2 * count, device=z.device).roll(count)
    return F.cross_entropy(logits, positives)


def other_logits(similarity: Tensor) -> Tensor:
    """Leave the diagonal out of square matrices: `(..., N, N) -> (..., N, N − 1)`.

    In row i, column j of the result is column j of the matrix if j < i, and column j + 1 otherwise.
    """
    return torch.tril(similarity, -1)[..., :-1] + torch.triu(similarity, 1)[..., 1:]


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 2 − 2cos of each pair of rows, `(B, D)` each, to `(B,)`: the squared distance of unit rows."""
    return 2.0 - 2.0 * F.cosine_similarity(first, second, dim=-1)


def mlp(widths: Sequence[int], *, bias: bool = True, last_bias: bool = True) -> nn.Sequential:
    """Return linear layers, with a batch norm and a ReLU after each but the last.

    Args:
        widths: Width of the input, and then of each layer.
        bias: Whether the layers before the last have a bias.
        last_bias: Whether the last layer has a bias.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=last_bias))
