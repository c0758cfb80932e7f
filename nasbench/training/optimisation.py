"""The parts of a training step that do not depend on the task: schedule, mixing, auxiliary losses and autocast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from timm.data.mixup import Mixup, mixup_target
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from nasbench.errors import InputError
from nasbench.tasks import item_count, map_tensors, part_of
from nasbench.tasks.recipe import Recipe

__all__ = ["all_finite", "as_float", "autocast", "aux_loss", "cut", "grouped", "mixing", "schedule"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def mixing(recipe: Recipe, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return a function that mixes and smooths a batch: timm's Mixup, its label smoothing alone, or the identity."""
    if not (recipe.mixup or recipe.cutmix or recipe.label_smoothing):
        return lambda x, y: (x, y)
    return _of_class_numbers(_mixing(recipe, classes))


def _mixing(recipe: Recipe, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    smoothing = recipe.label_smoothing
    if not (recipe.mixup or recipe.cutmix):
        # A mixing weight of 1 mixes nothing, so only the label smoothing is left.
        return lambda x, y: (x, mixup_target(y, classes, 1.0, smoothing))
    mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=smoothing, num_classes=classes)

    def mix_even(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        even = len(x) // 2 * 2  # timm mixes pairs of items
        return mix(x[:even], y[:even])

    return mix_even


def _of_class_numbers(mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def checked(x: Tensor, y: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(y, Tensor):
            raise InputError(
                f"mixup, cutmix and label_smoothing must be 0: they need targets that are a tensor of class numbers, "
                f"got a {type(y).__name__}"
            )
        return mix(x, y)

    return checked


def schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, total: int) -> Callable[[int], None]:
    """Return a function that sets the learning rate from the number of steps so far."""
    if recipe.schedule == "onecycle":
        share = 0.3 if recipe.warmup is None else recipe.warmup
        # OneCycle raises an error if it is asked to change a momentum that the optimiser does not have.
        momentum = any(key in optimizer.defaults for key in ("betas", "momentum"))
        cycle = OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=total + 1, pct_start=share, cycle_momentum=momentum
        )
        return lambda steps: cycle.step()
    warmup = round((recipe.warmup or 0.0) * total)
    options: dict[str, Any] = {
        "warmup_t": warmup,
        "warmup_lr_init": recipe.learning_rate / 25,  # OneCycle starts with the same share
        "t_in_epochs": False,
    }
    if recipe.schedule == "cosine":
        return CosineLRScheduler(optimizer, max(1, total - warmup), warmup_prefix=True, **options).step_update
    # A decay of 1 keeps the rate constant after the warm-up.
    return StepLRScheduler(optimizer, 1, decay_rate=1.0, **options).step_update


def aux_loss(model: nn.Module) -> Tensor | float:
    """Return the sum of all scalars that modules stored in `aux_loss` during forward."""
    losses = (getattr(module, "aux_loss", None) for module in model.modules())
    return sum((loss for loss in losses if isinstance(loss, Tensor)), 0.0)


def grouped(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` batches. The last list can be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def as_float(value: Tensor) -> Tensor:
    """Return a tensor in float32 if it is of another floating-point type, as under autocast."""
    return value.float() if value.is_floating_point() else value


def all_finite(outputs: Any) -> bool:
    """Return whether all numbers in the outputs of a model are finite."""
    finite: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        finite.append(value.isfinite().all())
        return value

    map_tensors(look, outputs)
    return bool(torch.stack(finite).all()) if finite else True


def cut(batch: tuple[Any, Any], parts: int, fewest: int = 1) -> Iterator[tuple[Any, Any]]:
    """Yield a batch in at most `parts` parts. Each item is in exactly one part.

    Args:
        batch: The batch.
        parts: Number of parts.
        fewest: Smallest number of items in a part, if the batch has as many.

    Raises:
        InputError: If its inputs and targets have not the same number of items.
    """
    inputs, targets = batch
    count = item_count(inputs)
    if item_count(targets) != count:
        raise InputError(
            f"a batch has {count} inputs and {item_count(targets)} targets; targets that are a list have one entry for "
            "each item, and other targets have the batch as the first axis of every tensor"
        )
    size = max(fewest, -(-count // parts))
    for start in range(0, count, size):
        # items that would be too few for a part of their own join the part before
        left = count - start - size
        if start and count - start < fewest:
            break
        items = slice(start, count if left < fewest else start + size)
        yield part_of(inputs, items), part_of(targets, items)


def autocast(device: torch.device, amp: str) -> AbstractContextManager[object]:
    """Return torch's autocast for `Recipe.amp`, or a context that does nothing."""
    return nullcontext() if amp == "none" else torch.autocast(device.type, _DTYPES[amp])
