"""Zero-cost proxies: figures of an untrained model that are said to tell how well it will train.

`score` gives one for a model and a task. None of them is a result: over 19 tasks NASWOT and the plain number of MACs
correlate with the trained metric alike (0.621 and 0.609 mean Spearman). So `nasbench.evidence.proxy_agreement`
always sets them beside parameters and MACs, in the study at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from nasbench.errors import EvaluationError, UnknownNameError, out_of_memory
from nasbench.tasks import Task
from nasbench.training.proxies.naswot import naswot
from nasbench.training.proxies.synflow import synflow
from nasbench.training.proxies.zico import zico

__all__ = ["BATCHES", "PROXIES", "Proxy", "check_names", "naswot", "score", "synflow", "zico"]

Proxy = Callable[[nn.Module, Sequence[tuple[object, Tensor]], Callable[[Tensor, Tensor], Tensor]], float]
"""`proxy(model, batches, loss)`; higher is better, the model is not touched."""

PROXIES: dict[str, Proxy] = {"naswot": naswot, "synflow": synflow, "zico": zico}
"""Every proxy by name."""

BATCHES = 4
"""Training batches that `score` gives a proxy."""


def check_names(names: Sequence[str]) -> None:
    """Raise `UnknownNameError` for a name that is no proxy."""
    for name in names:
        if name not in PROXIES:
            raise UnknownNameError("zero-cost proxy", name, PROXIES)


def score(
    name: str,
    model: nn.Module,
    task: Task,
    *,
    seed: int = 0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> float:
    """Score an untrained model; the same seed gives the same score.

    Batch norms use the statistics of the batch, since those of an untrained model say nothing; dropout and stochastic
    depth are off. The model is not changed and may be in any mode, on any device.

    Args:
        name: One of `PROXIES`.
        model: The model, as its training would find it.
        task: Gives the training batches, not augmented, and the loss.
        seed: Of the batches, and of what a model draws in its forward pass.
        batch_size: Items a batch.
        device: Where to compute.

    Returns:
        The score; higher is said to be better. Its scale means nothing across tasks or backbones.

    Raises:
        UnknownNameError: If there is no such proxy.
        EvaluationError: If the score is not a number ("nan"), or memory runs out ("out_of_memory").

    Example:
        >>> import timm
        >>> from nasbench.tasks import create_task
        >>> score("naswot", timm.create_model("test_resnet", num_classes=10), create_task("digits")) > 100
        True
    """
    check_names([name])
    device = torch.device(device)
    home = {"devices": [device]} if device.type == "cuda" else {"devices": []}
    with out_of_memory(), torch.random.fork_rng(**home):
        torch.manual_seed(seed)
        batches = list(islice(task.train_batches(batch_size, seed=seed, epoch=1, device=device), BATCHES))
        value = PROXIES[name](model, batches, task.loss)
    if not math.isfinite(value):
        raise EvaluationError(f"{name} is {value}, not a number", kind="nan")
    return value
