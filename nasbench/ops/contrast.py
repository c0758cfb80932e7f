"""Contrastive losses, and the small networks that pretexts put on features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import UnsupportedError

__all__ = ["cosine_distance", "mlp", "nt_xent", "other_logits", "supervised_contrast", "unit_rows"]


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


def supervised_contrast(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2), as the mean over all rows.

    .. math:: \\ell_i = -\\frac{1}{|P(i)|} \\sum_{p \\in P(i)}
              \\log \\frac{\\exp(s_{ip} / \\tau)}{\\sum_{k \\ne i} \\exp(s_{ik} / \\tau)}

    s is the cosine similarity, and P(i) are the other rows with the label of row i. (The official code multiplies by
    τ / .07, which is 1 at its own τ.) A row that is alone with its label has no loss, and counts in no mean.

    Args:
        z: Projections, `(N, D)`.
        labels: Class numbers, `(N,)`.
        temperature: Temperature τ.
    """
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    shares = F.log_softmax((z @ z.T / temperature).masked_fill(itself, -torch.inf), dim=1)
    positive = (labels.unsqueeze(1) == labels) & ~itself
    count = positive.sum(1)
    losses = -shares.masked_fill(~positive, 0.0).sum(1) / count.clamp(min=1)
    return losses.sum() / (count > 0).sum().clamp(min=1)


def unit_rows(count: int, width: int) -> Tensor:
    """Return random unit rows `(count, width)`, as a queue or a bank starts.

    Raises:
        UnsupportedError: If they are larger than the memory of the machine.
    """
    size = count * width * torch.finfo(torch.get_default_dtype()).bits // 8
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else size
    if size > memory:
        raise UnsupportedError(
            f"{count} rows of width {width} take {size / 1e9:.0f} GB, more than the {memory / 1e9:.0f} GB of this "
            "machine; choose a smaller width"
        )
    return F.normalize(torch.randn(count, width), dim=1)


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
