"""What every task offers: data in batches, a loss, metrics. Training, evaluation and search know no more than this."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.errors import UnknownNameError
from nasbench.tasks.recipe import Recipe

__all__ = ["SPLITS", "Batch", "Inputs", "Task", "apply", "epoch_generator", "shuffled"]

SPLITS = ("train", "val", "test")
"""Selection sees `train` and `val`; `test` is opened by the report alone."""

Inputs = Tensor | tuple[Tensor, Tensor]
"""What a model gets: a tensor, or series and the covariates of their time."""

Batch = tuple[Any, Tensor]
"""`Inputs` and targets."""


def apply(model: nn.Module, inputs: Inputs) -> Tensor:
    """Run a model on a batch's inputs; where its `forward` takes no `marks`, it never sees the covariates."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    values, marks = inputs
    return model(values, marks) if "marks" in inspect.signature(model.forward).parameters else model(values)


class Task(ABC):
    """Data, loss and metrics of one problem; built once, used for every plan.

    A user's own task (`FILE.py:Task`) derives from this, or from `ImageTask` or `ForecastingTask`; its constructor may
    take any of the keywords of `create_task` and gets those it names.

    Attributes:
        name: The text the user gave ("digits", "csv:sales.csv").
        kind: "classification" or "forecasting".
        metric: The metric that selection uses.
        metrics: Every metric that `evaluate` returns, to "maximize" or "minimize".
        input_size: (3, H, W), or (lookback, series).
        model_kwargs: What the backbone's constructor needs: {"num_classes": n} or {"horizon": h}.
        splits: Items by split.
        notes: Sentences that a report must print.
        recipe: The recipe a search uses unless told otherwise.
    """

    name: str
    kind: Literal["classification", "forecasting"]
    metric: str
    metrics: Mapping[str, str]
    input_size: tuple[int, ...]
    model_kwargs: Mapping[str, int]
    splits: Mapping[str, int]
    notes: tuple[str, ...] = ()
    recipe: Recipe = Recipe()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what identifies the data and its split, JSON-able; part of a run's identity."""

    @abstractmethod
    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the training split once, shuffled by (seed, epoch): the same batches for every model."""

    @abstractmethod
    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield every item of a split, in order, nothing dropped and nothing augmented."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar that training minimises."""

    @abstractmethod
    def evaluate(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and one figure per item (correctness, error) whose mean is the primary metric.

        The figures stand in the order of `eval_batches`, so that two models can be compared item by item.
        """

    def preprocessing(self) -> dict[str, Any]:
        """Return what a user of an exported model must know to prepare its input, JSON-able."""
        return {}

    def check_split(self, split: str) -> str:
        """Return `split`, or raise `UnknownNameError`."""
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits)
        return split

    def __repr__(self) -> str:
        counts = " / ".join(f"{self.splits[s]} {s}" for s in SPLITS)
        return f"{type(self).__name__}({self.name!r}, {self.kind}, input {self.input_size}, {counts})"


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator that depends on (seed, epoch) alone, not on what the model drew."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `range(count)` in random batches.

    A last batch of a single item is left out of this epoch: batch normalisation cannot train on it.
    """
    for batch in torch.randperm(count, generator=generator).split(batch_size):
        if len(batch) > 1 or count == 1:
            yield batch
