"""The training loop of all tasks: train a model with a recipe and return its metrics on the validation split."""

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
from timm.utils import ModelEmaV3, random_seed
from torch import Tensor, nn

from nasbench.backbones.insertion import frozen_norms
from nasbench.errors import EvaluationError, InputError, kind_of_number, out_of_memory
from nasbench.ops.pretext import Progress
from nasbench.tasks import Task, apply, item_count, map_tensors
from nasbench.tasks.recipe import Recipe
from nasbench.training.optimisation import all_finite, as_float, autocast, aux_loss, cut, grouped, mixing, schedule
from nasbench.training.pretexts import Learner, PretextTask, validate_features
from nasbench.training.techniques import applied, check_model, check_task, clip_of, groups_of
from nasbench.training.waiting import DATA_WAIT, Waiting

__all__ = ["Recipe", "TrainResult", "check_recipe", "evaluate", "total_steps", "train"]

Validated = tuple[dict[str, float], np.ndarray | None]
"""The metrics of an evaluation, and one number for each item. None if they have no such numbers."""

_CHECK_EVERY = 20  # steps between checks of the loss. Each check makes the CPU wait for the GPU.


@dataclass(frozen=True)
class TrainResult:
    """The result of training a model.

    Attributes:
        metrics: The task's metrics on the validation split.
        per_item: One number for each validation item, as `Task.evaluate` returns it. None without labels, where the
            loss of a pretext has no value of one item alone.
        history: One entry for each epoch, a dict: epoch (from 1), train_loss, learning_rate, wall_s (seconds since the
            start), data_wait (with a GPU: share of the training time in which it waited for data), and the validation
            metrics if the model was validated after the epoch.
        wall_s: Duration in seconds, including validation.
        epochs: Number of epochs that were started.
        steps: Number of optimiser steps.
        stopped: Why training ended before the recipe's last epoch: "patience", "should_stop", or "".
        batch_parts: Number of parts into which each training batch was cut at the end, because memory ran out. 1 if
            batches were not cut.
    """

    metrics: dict[str, float]
    per_item: np.ndarray | None
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
    """Train a model in place and validate it.

    On the CPU of one machine, the same seed gives the same result. Every random generator is seeded here. The batches
    depend only on (seed, epoch), so every model gets the same batches. If a module stores a scalar in its attribute
    `aux_loss` during forward, the scalar is added to the loss.

    Afterwards the model is on `device`, in eval mode. It has its best weights if the recipe has `patience`, and
    otherwise its last weights. If the recipe has `ema`, these are the averaged weights.

    If memory runs out, every batch from then on is cut into two parts, if necessary into four, and so on down to single
    items. The gradients of the parts are added up, so the optimiser step is the same as for the whole batch. There is
    one exception: batch normalisation uses the statistics of each part, and a pretext compares items inside a part.

    If the task is a `PretextTask`, the loss of its pretext is minimised, and the pretext is dropped afterwards.

    Args:
        model: The model. Its inputs and outputs are those of the task.
        task: Data, loss and metrics.
        recipe: The training recipe. None means the recipe of the task.
        seed: Seed of the order of the items, of augmentation and of dropout. It does not change the initial weights,
            because the model is given.
        device: The device for training.
        on_step: Function that is called with the number of steps so far, after each step and after each validation
            batch. A caller that shares the device with others can release it in this function.
        on_epoch: Function that is called after each epoch with the epoch's entry of the history. If it is given, the
            model is validated after every epoch. An exception that the function raises ends training.
        should_stop: Function that is called after each step. If it returns True, training ends and the current weights
            are validated.

    Raises:
        EvaluationError: If the loss or an output is not finite (kind "nan" or "inf"), or a single item does not fit
            into memory ("out_of_memory").
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
    check_recipe(recipe, task, device, seed)
    check_model(recipe, model, device)
    with out_of_memory():
        random_seed(seed)
        with applied(model.to(device), recipe):
            trained = task.learner(model, seed) if isinstance(task, PretextTask) else model
            loop = _Loop(trained, task, recipe, seed, torch.device(device), on_step, should_stop)
            result = loop.run(on_epoch)
    if isinstance(trained, Learner):
        model.load_state_dict(trained.kept.state_dict())  # the mean of weights, if the pretext keeps that
    return result


def total_steps(recipe: Recipe, task: Task) -> int:
    """Return the number of optimiser steps of a training, unless it ends early."""
    items, size = task.splits["train"], recipe.batch_size
    batches = max(1, items // size + (items % size > 1))  # a task leaves out a last batch that has a single item
    return recipe.epochs * -(-batches // recipe.accumulation)


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
    """Evaluate a model on every item of a split. Afterwards the model is in eval mode.

    Random numbers come from a separate generator. So the result can be repeated even if the model draws random numbers,
    and training continues as if it had not been interrupted.

    Args:
        model: The model, on `device`.
        task: Data and metrics.
        split: "train", "val" or "test".
        device: The device for the computation.
        batch_size: Number of items in a batch.
        amp: Autocast, as in `Recipe.amp`.
        on_batch: Function that is called after each batch.

    Returns:
        The metrics, and one number for each item in the order of the split.

    Raises:
        EvaluationError: If an output is not finite (kind "nan"), or memory runs out ("out_of_memory").
    """
    device = torch.device(device)
    model.eval()
    if isinstance(task, PretextTask):
        with out_of_memory(), _own_generator(device):
            return validate_features(model, task, split, device, batch_size=batch_size, amp=amp, on_batch=on_batch)
    meter = task.meter(split)
    with out_of_memory(), _own_generator(device), torch.no_grad(), autocast(device, amp):
        for x, y in task.eval_batches(split, batch_size, device=device):
            # Each output is moved to the CPU at once, so that the device never holds the outputs of a whole split.
            output = map_tensors(as_float, apply(model, x))
            if not all_finite(output):
                raise EvaluationError(f"the model's outputs on the {split} split are not all finite", kind="nan")
            predictions = task.predictions(model, output, y)
            meter.update(map_tensors(Tensor.cpu, predictions), map_tensors(Tensor.cpu, y))
            if on_batch is not None:
                on_batch()
    return meter.result()


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
        self.learner = model if isinstance(model, Learner) else None
        self.on_step, self.should_stop = on_step, should_stop
        self.optimizer = timm.optim.create_optimizer_v2(
            groups_of(model, recipe),
            opt=recipe.optimizer,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        # bfloat16 has the range of float32. So gradients need scaling only for float16.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "float16")
        self.total = total_steps(recipe, task)
        self._set_rates = schedule(self.optimizer, recipe, self.total)
        self._scale_rates()
        self.mix = mixing(recipe, task.model_kwargs.get("num_classes", 0))
        self.clip = clip_of(model, recipe)
        # These norms stay in eval mode, because `model.train()` would let their running statistics change.
        # The norms of a teacher are not among them: no gradient reaches it, but it runs in training mode.
        self.frozen = frozen_norms(model if self.learner is None else self.learner.model)
        self.fewest = 1 if self.learner is None else self.learner.pretext.fewest
        self.epoch = 0
        self.steps, self.stopped, self.parts = 0, "", 1
        # Twice the batch fits into memory if training does, because no activations are kept for a backward pass.
        self.eval_size = 2 * recipe.batch_size
        # What is validated and kept: the moving average of the weights, or the weights themselves.
        self.ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        self.kept = model if self.ema is None else self.ema.module
        self.history: list[dict[str, float]] = []
        self.best: _Best | None = None

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
            # This comes after `on_epoch`, so that the last epoch is reported too.
            if self.stopped or self._patience_is_over(epoch):
                break
        # The model is not always validated after the last epoch.
        validated = self.best.validated if self.best is not None else validated or self._validate()
        if self.best is not None or self.ema is not None:
            self.model.load_state_dict(self.kept.state_dict() if self.best is None else self.best.weights)
        metrics, per_item = validated
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
            self.best = _Best(score, epoch, copy.deepcopy(self.kept.state_dict()), validated)

    def _patience_is_over(self, epoch: int) -> bool:
        waited = 0 if self.best is None else epoch - self.best.epoch
        if waited < max(1, self.recipe.patience) or epoch == self.recipe.epochs:
            return False
        self.stopped = "patience"
        return True

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.epoch = epoch
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
        waiting = Waiting()
        for group in grouped(waiting.watch(batches), self.recipe.accumulation):
            # Items are mixed before a batch is cut into parts, so that the mixed items do not depend on the memory.
            group = [self.mix(self._formatted(x), y) for x, y in group]
            # Batches can have different sizes, so their means are weighted by their numbers of items.
            count = sum(item_count(x) for x, _ in group)
            total += self._step(group, count) * count
            items += count
            # If any loss was not finite, the sum of all losses is not finite.
            if self.steps % _CHECK_EVERY == 0:
                self._check_finite(total, epoch)
            self._yield_device()
            if self.should_stop is not None and self.should_stop():
                self.stopped = "should_stop"
                break
        self._check_finite(total, epoch)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        line = {"epoch": epoch, "train_loss": float(total) / items, "learning_rate": rate}
        # On a CPU the loading and the training share the processor, so waiting says nothing.
        return {**line, DATA_WAIT: waiting.share()} if self.device.type == "cuda" else line

    def _step(self, group: list[tuple[Any, Any]], count: int) -> Tensor:
        """Make one optimiser step from a group of batches. Return the mean loss, still on the device."""
        # If there are as many parts as items, a batch cannot be cut further.
        largest = max(item_count(x) for x, _ in group)
        while (mean := self._gradients(group, count, last_try=self.parts >= largest // self.fewest)) is None:
            self.parts *= 2
            self._free()
        if self.learner is not None:
            self.learner.after_backward()
        if self.clip:
            # Clipping needs the true norm of the gradients, but the scaler has multiplied them.
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1
        # If the scale became lower, float16 gradients overflowed and the scaler skipped the step.
        if self.scaler.get_scale() >= scale:
            self._set_rates(self.steps)
            self._scale_rates()
            if self.learner is not None:
                self.learner.after_step()
            if self.ema is not None:
                self.ema.update(self.model, self.steps)
        return mean

    def _scale_rates(self) -> None:
        """Scale the learning rates that the schedule has set, as `groups_of` says."""
        for group in self.optimizer.param_groups:
            if group.get("constant_rate"):
                group["lr"] = self.recipe.learning_rate
            group["lr"] *= group["rate_scale"]

    def _gradients(self, group: list[tuple[Any, Any]], count: int, *, last_try: bool) -> Tensor | None:
        """Add up the gradients of a group of batches. Return the mean loss, or None if memory ran out."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.learner is not None:
            self.learner.before_step(Progress(self.steps + 1, self.total, self.epoch))
        mean = torch.zeros((), device=self.device)
        try:
            with out_of_memory():
                for x, y in (part for batch in group for part in cut(batch, self.parts, self.fewest)):
                    # Each part is weighted by its share of the items, so that the sum is the gradient of the mean over
                    # the group.
                    loss = self._loss(x, y) * (item_count(x) / count)
                    self.scaler.scale(loss).backward()
                    mean += loss.detach()
        except EvaluationError as error:
            if last_try or error.kind != "out_of_memory":
                raise
            return None
        return mean

    def _loss(self, x: Any, y: Any) -> Tensor:
        """Return the mean loss of a part of a batch, with the auxiliary losses of the modules."""
        if self.learner is not None:
            return self.learner.loss(x, y, self.recipe.amp)
        with autocast(self.device, self.recipe.amp):
            output = apply(self.model, x)
        return self.task.loss(self.model, map_tensors(as_float, output), y) + aux_loss(self.model)

    def _formatted(self, inputs: Any) -> Any:
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else inputs

    def _free(self) -> None:
        """Release the memory of a step that ran out of memory."""
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _yield_device(self) -> None:
        if self.on_step is not None:
            self.on_step(self.steps)

    def _check_finite(self, total: Tensor, epoch: int) -> None:
        if not bool(total.isfinite()):
            raise EvaluationError(
                f"the training loss became {float(total)} in epoch {epoch}", kind=kind_of_number(float(total))
            )

    def _validates(self, epoch: int) -> bool:
        every = self.recipe.validate_every or (1 if self.recipe.patience else 0)
        # The model is validated after the last epoch in any case, so this costs nothing, and the curve has its end.
        return bool(every) and (epoch % every == 0 or epoch == self.recipe.epochs)

    def _validate(self) -> Validated:
        while (validated := self._validated(last_try=self.eval_size == 1)) is None:
            self.eval_size //= 2
            self._free()
        return validated

    def _validated(self, *, last_try: bool) -> Validated | None:
        """Evaluate on the validation split. Return None if memory ran out."""
        amp, size = self.recipe.amp, self.eval_size
        try:
            return evaluate(
                self.kept, self.task, "val", self.device, batch_size=size, amp=amp, on_batch=self._yield_device
            )
        except EvaluationError as error:
            if last_try or error.kind != "out_of_memory":
                raise
            return None


def check_recipe(recipe: Recipe, task: Task, device: torch.device | str, seed: int = 0) -> None:
    """Check that a recipe fits a task, a device and a seed.

    Raises:
        InputError: If it does not. The message says which setting, and what is allowed.
    """
    device = torch.device(device)
    check_task(recipe, task)
    task.check_augmentation(recipe.augmentation)
    if not 0 <= seed < 2**32:
        raise InputError(f"a seed is a whole number from 0 to 2**32 - 1, got {seed}")
    if isinstance(task, PretextTask):
        given = [k for k in ("mixup", "cutmix", "label_smoothing", "compile", "layer_decay") if _is_set(recipe, k)]
        if given:
            raise InputError(f"{', '.join(given)}: not with learn={task.learn}; leave them out")
    if task.kind not in ("classification", "series-classification"):
        given = [k for k in ("mixup", "cutmix", "label_smoothing") if getattr(recipe, k)]
        if given:
            raise InputError(f"{', '.join(given)} must be 0: {task.name} is a {task.kind} task and has no classes")
    if recipe.amp == "float16" and device.type != "cuda":
        raise InputError(f"amp=float16 needs a CUDA device, not {device}; amp=bfloat16 works on every device")


def _is_set(recipe: Recipe, name: str) -> bool:
    return getattr(recipe, name) != type(recipe).model_fields[name].default


@contextmanager
def _own_generator(device: torch.device) -> Iterator[None]:
    # fork_rng restores the state of the CPU's generator, and of the generators of the devices that it is given.
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(0)
        yield
