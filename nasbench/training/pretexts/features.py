"""What features are worth: weighted nearest neighbours, a linear probe, their spread and their rank."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["COLLAPSED", "linear_probe", "rank_me", "spread", "weighted_knn"]

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Number of neighbours and temperature of their weights (Wu et al., CVPR 2018, and most papers since)."""

COLLAPSED = 1e-3
"""A spread below this means that all items have the same features up to rounding."""

_ROWS = 1024  # items whose similarities to all training items are computed at once


def weighted_knn(known: Tensor, labels: Tensor, wanted: Tensor, *, neighbours: int = NEIGHBOURS) -> Tensor:
    """Classify features by their nearest neighbours: each votes for its class with the weight exp(cos / 0.07).

    Args:
        known: Features of the training items, `(N, C)`.
        labels: Class numbers of the training items, `(N,)`.
        wanted: Features to classify, `(M, C)`.
        neighbours: Number k of neighbours. At most N are used.

    Returns:
        Class numbers, `(M,)`.
    """
    classes, nearest = int(labels.max()) + 1, min(neighbours, len(known))
    known, wanted = (F.normalize(each.double(), dim=1) for each in (known, wanted))
    found = []
    for rows in wanted.split(_ROWS):
        cosine, index = (rows @ known.T).topk(nearest, dim=1)
        votes = torch.zeros(len(rows), classes, dtype=torch.float64)
        found.append(votes.scatter_add_(1, labels[index], (cosine / TEMPERATURE).exp()).argmax(dim=1))
    return torch.cat(found)


def linear_probe(known: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Classify features by a logistic regression on the training items, after scaling each feature.

    Args:
        known: Features of the training items, `(N, C)`.
        labels: Class numbers of the training items, `(N,)`.
        wanted: Features to classify, `(M, C)`.

    Returns:
        Class numbers, `(M,)`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(known.double().numpy(), labels.numpy())
    return torch.from_numpy(np.asarray(probe.predict(wanted.double().numpy())))


def spread(features: Tensor) -> float:
    """Return the standard deviation of normalised features, times √C.

    It is 1 if unit features `(N, C)` point evenly into all directions, and 0 if all are equal, which is called a
    collapse (Chen and He, CVPR 2021, section 4.1).
    """
    unit = F.normalize(features.double(), dim=1)
    return float(unit.std(dim=0, unbiased=False).mean()) * features.shape[1] ** 0.5


def rank_me(features: Tensor) -> float:
    """Return RankMe, the effective rank of features `(N, C)` (Garrido et al., ICML 2023, arXiv:2210.02885, eq. 1).

    .. math:: \\exp(-\\sum_k p_k \\log p_k),\\quad p_k = \\sigma_k / \\sum_i \\sigma_i + 10^{-7}

    σ are the singular values of the uncentred features. Values can be compared at equal N and C only.
    """
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))
