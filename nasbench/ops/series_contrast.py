"""What pretexts for series share: crops that overlap, levels of max pooling over time, and contrast within groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nasbench.ops.contrast import other_logits

__all__ = [
    "group_contrast", "hidden_steps", "id_contrast", "mixed_frequencies", "overlapping_crops", "step_levels",
]  # fmt: skip

_KEPT = 3
"""The strongest frequencies of a series, which are never exchanged."""


def overlapping_crops(x: Tensor, draw: torch.Generator) -> tuple[list[Tensor], int]:
    """Cut two crops that overlap from each series, and return them with the number of steps of their overlap.

    The overlap is at the end of the first crop and at the start of the second. All series have the same lengths of
    crops. Each is shifted by a number of steps of its own.

    Args:
        x: Series `(B, L, D)`.
        draw: The generator of the random numbers.
    """

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=draw))

    count, steps = x.shape[:2]
    overlap = number(min(2, steps), steps + 1)
    left = number(0, steps - overlap + 1)
    right = left + overlap
    first, last = number(0, left + 1), number(right, steps + 1)
    shift = torch.randint(-first, steps - last + 1, (count,), generator=draw).to(x.device)
    return [_rows(x, shift + first, right - first), _rows(x, shift + left, last - left)], overlap


def _rows(x: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return `length` steps of each series from its own start on."""
    steps = starts[:, None] + torch.arange(length, device=x.device)
    return x[torch.arange(len(x), device=x.device)[:, None], steps]


def hidden_steps(x: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Draw which steps of series `(B, L, D)` are hidden, each with the same probability: `(B, L)`."""
    return (torch.rand(x.shape[:2], generator=draw) < share).to(x.device)


def step_levels(maps: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Yield maps `(B, T, C)` of one length, then the same max-pooled over 2 steps, and so on up to one step."""
    while True:
        yield maps
        if maps[0].shape[1] == 1:
            return
        maps = [F.max_pool1d(z.transpose(1, 2), 2).transpose(1, 2) for z in maps]


def group_contrast(first: Tensor, second: Tensor, negatives: Tensor | None = None) -> Tensor:
    """Contrast the N vectors of each of G groups in both views, `(G, N, C)` each. One vector alone costs nothing.

    The positive of a vector is the same one in the other view. All other vectors of its group in both views are
    negatives. Similarities are dot products.

    Args:
        first: Vectors of the first view.
        second: Vectors of the second view.
        negatives: Further negatives of all vectors of a group, `(G, M, C)`.
    """
    count = first.shape[1]
    if count == 1:
        return first.new_zeros(())
    z = torch.cat([first, second], dim=1)
    logits = other_logits(z @ z.transpose(1, 2))
    if negatives is not None:
        logits = torch.cat([logits, z @ negatives.transpose(1, 2)], dim=2)
    losses = -F.log_softmax(logits, dim=-1)
    here = torch.arange(count, device=z.device)
    # Without the diagonal, the partner of row i lies at column N + i − 1, and that of row N + i at column i.
    return (losses[:, here, count + here - 1].mean() + losses[:, count + here, here].mean()) / 2


def id_contrast(first: Tensor, second: Tensor, numbers: Tensor, temperature: float) -> Tensor:
    """Contrast series across two views, `(B, F)` each, where those with the same number are positives.

    .. math:: \\ell = -\\mathrm{mean}_i\\, \\mathrm{mean}_{j: n_j = n_i} \\log \\frac{\\exp(s_{ij} / \\tau)}
              {\\sum_k \\exp(s_{ik} / \\tau)}

    s is the cosine of series i in one view and j in the other. The result is the mean of both directions.
    """
    cosine = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    same = (numbers.unsqueeze(1) == numbers).to(cosine)
    share = same / same.sum(1, keepdim=True)
    directions = [-(share * F.log_softmax(logits, dim=1)).sum(1).mean() for logits in (cosine, cosine.T)]
    return (directions[0] + directions[1]) / 2


def mixed_frequencies(x: Tensor, other: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Exchange a share of the frequencies of series `(B, L, D)` for those of others, but the strongest stay.

    A padded step, NaN, stays NaN. It counts as zero in the frequencies.
    """
    own, theirs = (torch.fft.rfft(each.nan_to_num(0.0), dim=1) for each in (x, other))
    rank = own.abs().argsort(dim=1, descending=True).argsort(dim=1)
    taken = (torch.rand(own.shape, generator=draw).to(x.device) < share) & (rank >= _KEPT)
    mixed = torch.fft.irfft(torch.where(taken, theirs, own), n=x.shape[1], dim=1)
    return torch.where(x.isnan(), x, mixed)
