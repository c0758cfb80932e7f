"""Validate what was learnt without labels, on the features of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.errors import EvaluationError, kind_of_number
from nasbench.tasks import item_count
from nasbench.training.optimisation import autocast
from nasbench.training.pretexts.encoder import pooled_encoder
from nasbench.training.pretexts.features import COLLAPSED, linear_probe, rank_me, spread, weighted_knn
from nasbench.training.pretexts.learner import GROUPS, ITEMS, LABELS, Learner
from nasbench.training.pretexts.pretext_task import PretextTask

__all__ = ["validate_features"]


@torch.no_grad()
def validate_features(
    model: nn.Module,
    task: PretextTask,
    split: str,
    device: torch.device,
    *,
    batch_size: int,
    amp: str,
    on_batch: Callable[[], object] | None,
) -> tuple[dict[str, float], np.ndarray | None]:
    """Return the metrics of a host's features on a split, and whether kNN classifies each item correctly (1.0 or 0.0).

    Args:
        model: A `Learner`, or a host alone. The loss of the pretext needs a `Learner`, and so does the rank, which is
            that of the projector's output.
        task: The data.
        split: The split.
        device: The device of the model.
        batch_size: Number of items in a batch.
        amp: Autocast, as in `Recipe.amp`.
        on_batch: Function that is called after each batch.

    Raises:
        EvaluationError: If the features are not finite (kind "nan"), or those of all items are equal ("collapsed").
    """
    learner = model if isinstance(model, Learner) else None
    encoder = pooled_encoder(model, task.input_size) if learner is None else learner.pooled()
    encoder.eval()
    metrics: dict[str, float] = {}
    if learner is not None:
        metrics |= _pretext_loss(learner, task, split, device, batch_size=batch_size, amp=amp)

    def features(of: str) -> tuple[Tensor, Tensor | None]:
        found, labels = list[Tensor](), list[Tensor]()
        for x, y in task.data.eval_batches(of, batch_size, device=device):
            with autocast(device, amp):
                found.append(encoder(x).cpu())
            labels += [y.cpu()] if task.labelled else []
            if on_batch is not None:
                on_batch()
        return torch.cat(found), torch.cat(labels) if task.labelled else None

    wanted, truth = features(split)
    if not bool(wanted.isfinite().all()):
        raise EvaluationError(f"the features on the {split} split are not all finite", kind="nan")
    width = spread(wanted)
    if width < COLLAPSED:
        raise EvaluationError(
            f"all items of the {split} split have the same features (spread {width:.2g}), so nothing was learnt from "
            f"{task.learn}; either the encoder collapsed, or the items themselves are all alike",
            kind="collapsed",
        )
    correct = None
    if task.labelled:
        known, labels = features("train")
        assert labels is not None
        assert truth is not None
        correct = (weighted_knn(known, labels, wanted) == truth).double().numpy()
        probed = linear_probe(known, labels, wanted) == truth
        metrics = {"knn_accuracy": float(correct.mean()), "probe_accuracy": float(probed.double().mean()), **metrics}
    metrics["feature_spread"] = width
    if learner is not None and learner.pretext.needs == "pooled":
        metrics["rank_me"] = rank_me(learner.pretext.project(wanted.to(device)).cpu())
    elif learner is not None:
        metrics["rank_me"] = rank_me(wanted)
    return metrics, correct


def _pretext_loss(
    learner: Learner, task: PretextTask, split: str, device: torch.device, *, batch_size: int, amp: str
) -> dict[str, float]:
    total, items, seen = 0.0, 0, 0
    groups = task.groups_of(split).to(device)
    for x, y in task.data.eval_batches(split, batch_size, device=device):
        count = item_count(x)
        seen += count
        if count < learner.pretext.fewest:  # a last batch that is too small to be compared
            continue
        known = {ITEMS: torch.full((count,), -1, device=device), LABELS: y, GROUPS: groups[seen - count : seen]}
        total += float(learner.validation_loss(x, known, amp)) * count
        items += count
    if not np.isfinite(total):
        raise EvaluationError(f"the loss of {learner.name} on the {split} split is {total}", kind=kind_of_number(total))
    return {"pretext_loss": total / items} if items else {}
