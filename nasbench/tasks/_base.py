"""The base class of all tasks. Training, evaluation and search use only its batches, loss and metrics."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.errors import InputError, NasbenchError, PluginError, UnknownNameError, message_of
from nasbench.library.heads import attach_head
from nasbench.tasks.recipe import Recipe

__all__ = [
    "SPLITS", "Batch", "Inputs", "Kind", "Meter", "Task", "apply", "epoch_generator", "item_count", "joined",
    "map_tensors", "part_of", "shuffled",
]  # fmt: skip

Kind = Literal[
    "classification", "forecasting", "segmentation", "detection", "super-resolution", "series-classification"
]

SPLITS = ("train", "val", "test")
"""The names of the splits. A search uses `train` and `val`, but never `test`. Only the report uses `test`."""

Inputs = Tensor | tuple[Tensor, Tensor]
"""The input of a model: a tensor, or series with the covariates of their time steps."""

Batch = tuple[Any, Any]
"""A pair of `Inputs` and targets.

Targets are a list with the target of each item (of any kind), or anything nested of dicts, tuples and, inside these,
lists, with the batch as the first axis of every tensor.
"""


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to every tensor in nested dicts, lists and tuples. Everything else stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [map_tensors(function, each) for each in value])
    return value


def item_count(batch: Any) -> int:
    """Return the number of items in inputs or targets of a batch.

    Raises:
        InputError: If they are not as `Batch` says. The message says what is allowed.
    """
    if isinstance(batch, list):
        return len(batch)
    lengths: set[int] = set()

    def look(value: Tensor) -> Tensor:
        lengths.add(len(value) if value.ndim else 0)
        return value

    map_tensors(look, batch)
    if len(lengths) != 1:
        found = f"tensors with {', '.join(map(str, sorted(lengths)))} items" if lengths else "no tensor"
        raise InputError(
            f"the targets of a batch are a list with one entry for each item, or nested dicts and tuples in which the "
            f"batch is the first axis of every tensor (the same for inputs); got a {type(batch).__name__} with {found}"
        )
    return lengths.pop()


def part_of(batch: Any, items: slice) -> Any:
    """Return some items of inputs or targets of a batch, as `Batch` describes them."""
    return batch[items] if isinstance(batch, list) else map_tensors(lambda value: value[items], batch)


def joined(batches: Sequence[Any]) -> Any:
    """Join targets or outputs of several batches, as `Batch` describes them. What is no tensor is that of the first."""
    first = batches[0]
    return [item for batch in batches for item in batch] if isinstance(first, list) else _joined(batches)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return _like(first, [_joined(each) for each in zip(*parts, strict=True)])
    return first


def _like(value: Any, parts: list[Any]) -> Any:
    """Return the parts in a list or tuple like `value`, which can be a named tuple."""
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def apply(model: nn.Module, inputs: Inputs) -> Any:
    """Run a model on the inputs of a batch. It gets covariates only if its `forward` has an argument `marks`."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    values, marks = inputs
    return model(values, marks) if "marks" in inspect.signature(model.forward).parameters else model(values)


class Meter(Protocol):
    """Computes metrics batch by batch, without having the whole split in memory."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Take the predictions and targets of the next batch, on the CPU."""

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and one value for each item, in the order in which the items came."""
        ...


class Task(ABC):
    """The data, loss and metrics of one problem. A task is built once and used for every plan.

    A user's own task (`FILE.py:Task`) derives from this class, or from `ImageTask` or `ForecastingTask`. The
    constructor can declare any of the keywords of `create_task`, and gets those that it declares.

    Attributes:
        name: The text that the user gave ("digits", "csv:sales.csv").
        kind: "classification", "forecasting", "segmentation", "detection", "super-resolution" or
            "series-classification".
        metric: The primary metric. A search selects plans by it.
        metrics: The direction, "maximize" or "minimize", of each metric that `evaluate` returns.
        input_size: Size of one input: (3, H, W), or (lookback, series).
        any_size: Whether inputs in evaluation can have other sides than those of `input_size`.
        augmentations: The values of the recipe's `augmentation` that the task takes. None if this is not known.
        model_kwargs: What the task tells the backbone or the head: {"num_classes": n}, {"horizon": h} or {"scale": s}.
        splits: Number of items in each split.
        notes: Sentences that a report must print.
        read: What was read from the files of the data, at most five short facts by name. It is shown to the user before
            training.
        recipe: The recipe that a search uses by default.
        has_items: Whether the primary metric has a value for each item.
        head: The head of the library that ends the models, as an expression. None if the backbone ends them.
        neck: The neck that a host has if none is chosen, as an expression. It needs a head.
        groups: For each split, numbers of the groups to which its items belong, such as trials and patients, `(items,
            levels)` in the order of `eval_batches`, from the finest level to the coarsest. Some pretexts read them.
            Empty if there are none.
    """

    name: str
    kind: Kind
    metric: str
    metrics: Mapping[str, str]
    input_size: tuple[int, ...]
    any_size: bool = False
    augmentations: Sequence[str] | None = None
    model_kwargs: Mapping[str, int]
    splits: Mapping[str, int]
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = MappingProxyType({})
    recipe: Recipe = Recipe()
    has_items: bool = True
    head: str | None = None
    neck: str = "none"
    groups: Mapping[str, Tensor] = MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # If a class defines only `evaluate`, its `evaluate` is used, even if the class that it derives from has a
        # meter.
        if "evaluate" in vars(cls) and "meter" not in vars(cls):
            cls.meter = Task.meter  # type: ignore[method-assign]
        # Most losses do not depend on the model.
        if "loss" in vars(cls) and len(inspect.signature(cls.loss).parameters) == 3:
            cls.loss = _of_any_model(cls.loss)  # type: ignore[assignment, method-assign, arg-type]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what identifies the data set and its split, as JSON-serialisable data.

        The data is part of the identity of a run.
        """

    @abstractmethod
    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the training split once, in an order that depends on `seed` and `epoch` only, not on the model."""

    @abstractmethod
    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield every item of a split in order, without augmentation."""

    @abstractmethod
    def loss(self, model: nn.Module, outputs: Any, targets: Any) -> Tensor:
        """Return the scalar loss that training minimises.

        A class can also define it without `model`: `loss(outputs, targets)`.
        """

    def attach(self, host: nn.Module) -> nn.Module:
        """Return the model of a host: the host itself if `head` is None, or the host with the head.

        A class can override this. The result must be the host, or a module that contains it. Without an `attach` of its
        own, the models of a run can be built again from `head`, `neck` and `model_kwargs`. With one, this needs the
        task, and so its data.

        Args:
            host: The backbone with a plan, built with `model_kwargs`, or the dense host if `head` is given.
        """
        return host if self.head is None else attach_head(host, self.head, **dict[str, Any](self.model_kwargs))

    @property
    def attaches_itself(self) -> bool:
        """Whether the class has an `attach` of its own."""
        return type(self).attach is not Task.attach

    def model_of(self, host: nn.Module) -> nn.Module:
        """Return what `attach` makes of a host, and check it.

        Raises:
            PluginError: If an `attach` of the task's own fails, or if its result does not contain the host.
        """
        if not self.attaches_itself:
            return self.attach(host)
        try:
            model = self.attach(host)
        except NasbenchError:  # its message was written for the user
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"attach of {self.name} fails: {type(error).__name__}: {message_of(error)}") from error
        if not isinstance(model, nn.Module) or all(module is not host for module in model.modules()):
            raise PluginError(
                f"attach of {self.name} returns a {type(model).__name__} without the host; it must return the host, or "
                "an nn.Module that has the host as a child"
            )
        return model

    def predictions(self, model: nn.Module, outputs: Any, targets: Any) -> Any:
        """Return what `meter` takes: the model's outputs, or what its head decodes from them."""
        return outputs

    def meter(self, split: str) -> Meter:
        """Return a new meter for a split. The primary metric is the mean of the per-item values that the meter returns.

        A task defines this or `evaluate`. The default stores the outputs of the whole split and calls `evaluate`.
        """
        return _WholeSplit(self)

    def evaluate(self, outputs: Any, targets: Any) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and one value for each item. The mean of these values is the primary metric.

        The values are in the order of `eval_batches`, so that two models can be compared item by item.
        """
        if type(self).meter is Task.meter:
            raise NotImplementedError(f"{type(self).__name__} defines neither `meter` nor `evaluate`")
        meter = self.meter("val")
        meter.update(outputs, targets)
        return meter.result()

    def naive(self, split: str) -> Mapping[str, Mapping[str, float]]:
        """Return the metrics on a split of methods without a model, by name. A useful model must be better.

        The default is empty.
        """
        return {}

    def preprocessing(self) -> dict[str, Any]:
        """Return how the input of an exported model must be prepared, as JSON-serialisable data."""
        return {}

    def check_augmentation(self, augmentation: str) -> None:
        """Raise `InputError` if the task is known not to take an `augmentation`."""
        if self.augmentations is not None and augmentation not in self.augmentations:
            raise InputError(
                f"augmentation={augmentation}: {self.name}, a {self.kind} task, takes {' or '.join(self.augmentations)}"
            )

    def check_split(self, split: str) -> str:
        """Return `split`, or raise `UnknownNameError` if the task has no such split."""
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits)
        return split

    def __repr__(self) -> str:
        counts = " / ".join(f"{self.splits[s]} {s}" for s in SPLITS)
        return f"{type(self).__name__}({self.name!r}, {self.kind}, input {self.input_size}, {counts})"


def _of_any_model(loss: Callable[[Any, Any, Any], Tensor]) -> Callable[[Any, nn.Module, Any, Any], Tensor]:
    @functools.wraps(loss)
    def with_model(self: Any, model: nn.Module, outputs: Any, targets: Any) -> Tensor:
        return loss(self, outputs, targets)

    return with_model


class _WholeSplit:
    """The meter of a task that only evaluates whole splits."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def update(self, outputs: Any, targets: Any) -> None:
        """Store a batch."""
        self._outputs.append(outputs)
        self._targets.append(targets)

    def result(self) -> tuple[dict[str, float], np.ndarray]:
        """Evaluate all batches."""
        return self._task.evaluate(joined(self._outputs), joined(self._targets))


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator that depends on `seed` and `epoch` only, not on random numbers that the model has used."""
    # If the generator were seeded with seed + epoch, epoch 1 of seed 0 and epoch 0 of seed 1 would have the same
    # batches.
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the numbers 0 to `count` - 1 in random batches.

    If the last batch has a single item, it is left out, because batch normalisation cannot train on it.
    """
    for batch in torch.randperm(count, generator=generator).split(batch_size):
        if len(batch) > 1 or count == 1:
            yield batch
