"""The training loop of all tasks: train a model by a recipe and return its metrics on the validation split."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import timm.optim
import torch
from timm.utils import random_seed
from torch import Tensor, nn

from nasbench.backbones.insertion import frozen_norms, parameter_groups
from nasbench.errors import EvaluationError, InputError, out_of_memory
from nasbench.tasks import Task, apply
from nasbench.tasks.recipe import Recipe
from nasbench.training.optimisation import autocast, aux_loss, cut, grouped, mixing, schedule

__all__ = ["Recipe", "TrainResult", "evaluate", "train"]

Validated = tuple[dict[str, float], np.ndarray]
"""Metrics, and one number for each item."""

_CHECK_EVERY = 20  # steps between checks of the loss. Each check makes the CPU wait for the GPU.


@dataclass(frozen=True)
class TrainResult:
    """The result of training a model.

    Attributes:
        metrics: The task's metrics on the validation split.
        per_item: One number for each validation item, as `Task.evaluate` returns it.
        history: One dict for each epoch: epoch (from 1), train_loss, learning_rate, wall_s, and the validation metrics
            if the epoch was validated.
        wall_s: Duration in seconds, including validation.
        epochs: Number of epochs that were started.
        steps: Number of optimiser steps.
        stopped: Why training ended before the recipe's last epoch: "patience", "should_stop", or "".
        batch_parts: Number of parts into which each training batch was cut because memory ran out. 1 if batches were
            not cut.
    """

    metrics: dict[str, float]
    per_item: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    wall_s: float = 0.0
    epochs: int = 0
    steps: int = 0
    stopped: str = ""
    batch_parts: int = 1


def train(
    model: nn.Module,
    task: Task,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: Callable[[int], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train a model in place and validate it. The same seed on the same machine's CPU gives the same result.

    Every random generator is seeded here. The batches depend only on (seed, epoch), so every model gets the same
    batches. If a module stores a scalar in its attribute `aux_loss` during forward, the scalar is added to the loss.

    The model ends on `device` in eval mode. With `patience` it has its best weights, otherwise its last weights.

    If memory runs out, every batch from then on is cut into two parts, then into four, down to single items. The
    gradients of the parts are added up, so the optimiser step is the same as for the whole batch. Only batch norms use
    the statistics of the parts.

    Args:
        model: The model. Its inputs and outputs are those of the task.
        task: Data, loss and metrics.
        recipe: The training recipe. By default that of the task.
        seed: Seed of order, augmentation and dropout. It does not change the weights of the given model.
        device: The device for training.
        on_step: Called after each step with the number of steps so far, and between validation batches. A caller that
            shares the device can release it in this function.
        on_epoch: Called after each epoch with its line of the history. Every epoch is then validated. An exception that
            it raises ends training.
        should_stop: Called after each step. If it returns True, training ends and the current weights are validated.

    Raises:
        EvaluationError: If the loss or an output is not finite (kind "nan"), or one item does not fit into memory
            ("out_of_memory").
        InputError: If the recipe does not fit the task or the device.

    Example:
        >>> import timm
        >>> from nasbench.tasks import create_task
        >>> task = create_task("digits")
        >>> result = train(timm.create_model("test_resnet", num_classes=10), task, task.recipe, seed=0)
        >>> result.metrics["accuracy"] > 0.7
        True
    """
    recipe = task.recipe if recipe is None else recipe
    _check(recipe, task, torch.device(device), seed)
    with out_of_memory():
        random_seed(seed)
        loop = _Loop(model.to(device), task, recipe, seed, torch.device(device), on_step, should_stop)
        return loop.run(on_epoch)


def evaluate(
    model: nn.Module,
    task: Task,
    split: str,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 64,
    amp: str = "none",
    on_batch: Callable[[], object] | None = None,
) -> Validated:
    """Evaluate a model on every item of a split. The model is left in eval mode.

    Random numbers come from a separate generator. So the result can be repeated even if a model samples, and training
    continues as if it had not been interrupted.

    Args:
        model: The model, on `device`.
        task: Data and metrics.
        split: "train", "val" or "test".
        device: The device for the computation.
        batch_size: Number of items in a batch.
        amp: Autocast as in `Recipe.amp`.
        on_batch: Called after each batch.

    Returns:
        The metrics, and one number for each item in the order of the split.

    Raises:
        EvaluationError: If an output is not finite (kind "nan"), or memory runs out ("out_of_memory").
    """
    device = torch.device(device)
    model.eval()
    outputs, targets = [], []
    with out_of_memory(), _own_generator(device), torch.no_grad(), autocast(device, amp):
        for x, y in task.eval_batches(split, batch_size, device=device):
            # Moved to the CPU at once, so that the outputs of a whole split are never on the device.
            outputs.append(apply(model, x).float().cpu())
            targets.append(y.cpu())
            if on_batch is not None:
                on_batch()
    output = torch.cat(outputs)
    if not bool(output.isfinite().all()):
        raise EvaluationError(f"the model's outputs on the {split} split are not all finite", kind="nan")
    return task.evaluate(output, torch.cat(targets))


@dataclass(frozen=True)
class _Best:
    """The best weights so far, with their epoch and their validation result."""

    score: float
    epoch: int
    weights: dict[str, Any]
    validated: Validated


class _Loop:
    """The state of one training run: the arguments of `train`, and the progress."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        on_step: Callable[[int], object] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.model, self.task, self.recipe, self.seed, self.device = model, task, recipe, seed, device
        self.on_step, self.should_stop = on_step, should_stop
        self.optimizer = timm.optim.create_optimizer_v2(
            parameter_groups(model, recipe.weight_decay),
            opt=recipe.optimizer,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        # bfloat16 has the range of float32, so only float16 needs its gradients scaled.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "float16")
        self.advance = schedule(self.optimizer, recipe, self._total_steps())
        self.mix = mixing(recipe, task.model_kwargs.get("num_classes", 0))
        # With `model.train()`, the running statistics of a frozen backbone would change.
        self.frozen = frozen_norms(model)
        self.steps, self.stopped, self.parts = 0, "", 1
        # this fits into memory if training does, because no gradients are stored
        self.eval_size = 2 * recipe.batch_size
        self.history: list[dict[str, float]] = []
        self.best: _Best | None = None

    def _total_steps(self) -> int:
        items, size = self.task.splits["train"], self.recipe.batch_size
        batches = max(1, items // size + (items % size > 1))  # tasks leave out a last batch of a single item
        return self.recipe.epochs * -(-batches // self.recipe.accumulation)

    def run(self, on_epoch: Callable[[dict[str, float]], object] | None) -> TrainResult:
        begin = time.perf_counter()
        validated: Validated | None = None
        for epoch in range(1, self.recipe.epochs + 1):
            line = self._epoch(epoch)
            self.history.append(line)
            validated = self._validate() if on_epoch is not None or self._validates(epoch) else None
            if validated is not None:
                line.update(validated[0])
                self._remember(epoch, validated)
            line["wall_s"] = time.perf_counter() - begin
            if on_epoch is not None:
                on_epoch(line)
            # Checked after `on_epoch`, so that the last epoch is reported too.
            if self.stopped or self._patience_is_over(epoch):
                break
        if self.best is not None:
            self.model.load_state_dict(self.best.weights)
            validated = self.best.validated
        # The last epoch is not always validated.
        metrics, per_item = validated or self._validate()
        self.model.eval()
        wall_s = time.perf_counter() - begin
        return TrainResult(
            metrics, per_item, self.history, wall_s, len(self.history), self.steps, self.stopped, self.parts
        )

    def _remember(self, epoch: int, validated: Validated) -> None:
        """Copy the weights if they are the best so far and the recipe has `patience`."""
        value = validated[0][self.task.metric]
        score = value if self.task.metrics[self.task.metric] == "maximize" else -value
        if self.recipe.patience and (self.best is None or score > self.best.score):
            self.best = _Best(score, epoch, copy.deepcopy(self.model.state_dict()), validated)

    def _patience_is_over(self, epoch: int) -> bool:
        waited = 0 if self.best is None else epoch - self.best.epoch
        if waited < max(1, self.recipe.patience) or epoch == self.recipe.epochs:
            return False
        self.stopped = "patience"
        return True

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.model.train()
        for norm in self.frozen:
            norm.eval()
        batches = self.task.train_batches(
            self.recipe.batch_size,
            seed=self.seed,
            epoch=epoch,
            augmentation=self.recipe.augmentation,
            device=self.device,
        )
        total, items = torch.zeros((), device=self.device), 0
        for group in grouped(batches, self.recipe.accumulation):
            # Mixed before the batch is cut, so that the mixed items do not depend on the memory.
            group = [self.mix(x, y) for x, y in group]
            # Batches of a group can have different sizes, so means are weighted by the number of items.
            count = sum(len(y) for _, y in group)
            total += self._step(group, count) * count
            items += count
            # If a single loss was not finite, the sum of all losses is not finite.
            if self.steps % _CHECK_EVERY == 0:
                self._check_finite(total, epoch)
            self._yield_device()
            if self.should_stop is not None and self.should_stop():
                self.stopped = "should_stop"
                break
        self._check_finite(total, epoch)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return {"epoch": epoch, "train_loss": float(total) / items, "learning_rate": rate}

    def _step(self, group: list[tuple[Any, Tensor]], count: int) -> Tensor:
        """Make one optimiser step from a group of batches. Return the mean loss, still on the device."""
        # If there are as many parts as items, nothing is left to cut.
        largest = max(len(y) for _, y in group)
        while (mean := self._gradients(group, count, last_try=self.parts >= largest)) is None:
            self.parts *= 2
            self._free()
        if self.recipe.clip_grad:
            # Clipping needs the true norm, and the scaler has multiplied the gradients.
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        # A lower scale means that float16 gradients overflowed and the scaler skipped the step.
        if self.scaler.get_scale() >= scale:
            self.advance(self.steps)
        return mean

    def _gradients(self, group: list[tuple[Any, Tensor]], count: int, *, last_try: bool) -> Tensor | None:
        """Add up the gradients of a group of batches. Return the mean loss, or None if memory ran out."""
        self.optimizer.zero_grad(set_to_none=True)
        mean = torch.zeros((), device=self.device)
        try:
            with out_of_memory():
                for x, y in (part for batch in group for part in cut(batch, self.parts)):
                    with autocast(self.device, self.recipe.amp):
                        output = apply(self.model, x)
                    # Each part is weighted by its share of the items, so that the sum is the gradient of the mean over
                    # the group.
                    loss = (self.task.loss(output.float(), y) + aux_loss(self.model)) * (len(y) / count)
                    self.scaler.scale(loss).backward()
                    mean += loss.detach()
        except EvaluationError as error:
            if last_try or error.kind != "out_of_memory":
                raise
            return None
        return mean

    def _free(self) -> None:
        """Release the memory of the step that ran out of it."""
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _yield_device(self) -> None:
        if self.on_step is not None:
            self.on_step(self.steps)

    def _check_finite(self, total: Tensor, epoch: int) -> None:
        if not bool(total.isfinite()):
            raise EvaluationError(f"the training loss became {float(total)} in epoch {epoch}", kind="nan")

    def _validates(self, epoch: int) -> bool:
        every = self.recipe.validate_every or (1 if self.recipe.patience else 0)
        return bool(every) and epoch % every == 0

    def _validate(self) -> Validated:
        while (validated := self._validated(last_try=self.eval_size == 1)) is None:
            self.eval_size //= 2
            self._free()
        return validated

    def _validated(self, *, last_try: bool) -> Validated | None:
        """Evaluate on the validation split. None if memory ran out."""
        amp, size = self.recipe.amp, self.eval_size
        try:
            return evaluate(
                self.model, self.task, "val", self.device, batch_size=size, amp=amp, on_batch=self._yield_device
            )
        except EvaluationError as error:
            if last_try or error.kind != "out_of_memory":
                raise
            return None


def _check(recipe: Recipe, task: Task, device: torch.device, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"a seed is a whole number from 0 to 2**32 - 1, got {seed}")
    if task.kind != "classification":
        given = [k for k in ("mixup", "cutmix", "label_smoothing") if getattr(recipe, k)]
        if given:
            raise InputError(f"{', '.join(given)} mix or smooth classes; {task.name} is a {task.kind} task: leave at 0")
    if recipe.amp == "float16" and device.type != "cuda":
        raise InputError(f"amp=float16 needs a CUDA device, not {device}; amp=bfloat16 works on every device")


@contextmanager
def _own_generator(device: torch.device) -> Iterator[None]:
    # fork_rng always restores the state of the CPU's generator, and that of the devices it is given.
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(0)
        yield
