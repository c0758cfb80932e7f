"""Zero-cost proxies: scores of an untrained model that are supposed to predict its metric after training.

`score` computes one of these scores for a model and a task. A score does not replace training. Over 19 tasks, NASWOT
and the plain number of MACs correlate about equally with the metric after training: the mean Spearman correlation is
0.621 for NASWOT and 0.609 for MACs. So for each search `nasbench.evidence.proxy_agreement` reports how well the
proxies, the number of parameters and the MACs predict this metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import EvaluationError, InputError, UnknownNameError, out_of_memory
from nasbench.tasks import Task
from nasbench.training.pretexts import PretextTask
from nasbench.training.proxies.naswot import naswot
from nasbench.training.proxies.synflow import synflow
from nasbench.training.proxies.zico import zico

__all__ = ["BATCHES", "PROXIES", "Proxy", "check_flow", "check_names", "naswot", "score", "synflow", "zico"]

Proxy = Callable[[nn.Module, Sequence[tuple[Any, Any]], Callable[[Any, Any], Tensor]], float]
"""A function `proxy(model, batches, loss)` that returns a score. Higher is better. The model is not changed."""

PROXIES: dict[str, Proxy] = {"naswot": naswot, "synflow": synflow, "zico": zico}
"""Every proxy by name."""

BATCHES = 4
"""Number of training batches that `score` passes to a proxy."""


def check_names(names: Sequence[str]) -> None:
    """Check the names of proxies.

    Raises:
        UnknownNameError: If one of them is not a proxy. The message suggests the nearest names.
    """
    for name in names:
        if name not in PROXIES:
            raise UnknownNameError("zero-cost proxy", name, PROXIES)


def check_flow(names: Sequence[str], task: Task) -> None:
    """Check that proxies make sense for the models of a task.

    Raises:
        InputError: If `synflow` is among them, but a head ends the models, so that they return several tensors. If
            `zico` is among them, but a pretext is learnt, whose loss is not one of a model's outputs.
    """
    if "zico" in names and isinstance(task, PretextTask):
        raise InputError(
            f"zico needs the loss of a model's outputs, and learn={task.learn} has none; leave it out, or choose naswot"
        )
    if "synflow" in names and task.head is not None:
        raise InputError(
            f"synflow: the models of a {task.kind} task return several tensors, so there is no one flow; leave it out, "
            f"or choose {' or '.join(name for name in PROXIES if name != 'synflow')}"
        )


def score(
    name: str,
    model: nn.Module,
    task: Task,
    *,
    seed: int = 0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> float:
    """Score an untrained model. The same seed gives the same score.

    Batch norms use the statistics of the batch, because the running statistics of an untrained model carry no
    information. Dropout and stochastic depth are off. The model is not changed. It can be in any mode and on any
    device.

    Args:
        name: One of `PROXIES`.
        model: The model, with its weights as they are before training.
        task: The task. Its loss and its training batches, without augmentation, are used.
        seed: Seed of the batches, and of random numbers in the model's forward pass.
        batch_size: Number of items in a batch.
        device: The device for the computation.

    Returns:
        The score. A higher score is supposed to be better. Scores cannot be compared between tasks or backbones.

    Raises:
        UnknownNameError: If no proxy has this name.
        EvaluationError: If the score is not finite ("nan"), or memory runs out ("out_of_memory").

    Example:
        >>> import timm
        >>> from nasbench.tasks import create_task
        >>> score("naswot", timm.create_model("test_resnet", num_classes=10), create_task("digits")) > 100
        True
    """
    check_names([name])
    device = torch.device(device)
    home = {"devices": [device]} if device.type == "cuda" else {"devices": []}
    # The caller's random numbers must not depend on whether a proxy was computed.
    with out_of_memory(), torch.random.fork_rng(**home):
        torch.manual_seed(seed)
        batches = list(islice(task.train_batches(batch_size, seed=seed, epoch=1, device=device), BATCHES))
        value = PROXIES[name](model, batches, partial(task.loss, model))
    if not math.isfinite(value):
        raise EvaluationError(f"{name} has no value: the score is {value}", kind="nan")
    return value
