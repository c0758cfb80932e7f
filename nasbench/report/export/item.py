"""A real item of the test split, and what the model makes of it, for the example of an exported model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nasbench.errors import RunError
from nasbench.runs.run import Run
from nasbench.tasks.dense import DenseTask
from nasbench.tasks.series_classification import SeriesClassificationTask
from nasbench.tasks.super_resolution import SuperResolutionTask
from nasbench.text import narrate

__all__ = ["IMAGE", "RESULTS", "Item", "SeriesItem", "item_of"]

IMAGE = "example.png"
"""Name of the file with the image."""

SERIES = "example.csv"
"""Name of the file with the series: one row a step, one column a series."""

RESULTS = {
    "segmentation": "example-result.png",
    "detection": "example-result.json",
    "super-resolution": "example-result.png",
    "series-classification": "example-result.json",
}
"""Name of the file with the model's result, for each kind of task."""


@dataclass(frozen=True)
class Item:
    """An image of the test split of a dense task.

    Attributes:
        task: The task with its data.
        image: The original image, or the small image of super-resolution.
        inputs: What the model gets, `(1, 3, H, W)`.
        targets: The truth, as `Task.predictions` takes it.
    """

    task: DenseTask | SuperResolutionTask
    image: Image.Image
    inputs: Tensor
    targets: list[dict[str, Any]]

    def write(self, model: nn.Module, folder: Path) -> None:
        """Write the image and the result of the model: class numbers, detections, or the large image."""
        self.image.save(folder / IMAGE)
        with torch.no_grad():
            (found,) = self.task.predictions(model, model(self.inputs), self.targets)
        file = folder / RESULTS[self.task.kind]
        if isinstance(found, Tensor):
            pixels = found.numpy().astype(np.uint8)
            Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).save(file)
        else:
            rows = {key: value.tolist() for key, value in found.items()}
            file.write_text(json.dumps(rows) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SeriesItem:
    """The series of an item of the test split.

    Attributes:
        task: The task with its data.
        inputs: What the model gets, `(1, steps, D)`.
        true: The class.
    """

    task: SeriesClassificationTask
    inputs: Tensor
    true: str

    def write(self, model: nn.Module, folder: Path) -> None:
        """Write the series in their own units, and the probabilities that the model gives to the classes."""
        scaled = self.inputs[0, ~self.inputs[0].isnan().any(dim=1)].double().numpy()
        np.savetxt(folder / SERIES, scaled * self.task.std + self.task.mean, fmt="%.10g", delimiter=",")
        with torch.no_grad():
            probabilities = model(self.inputs).softmax(-1)[0]
        result = {"true": self.true, "probabilities": probabilities.tolist()}
        (folder / RESULTS[self.task.kind]).write_text(json.dumps(result) + "\n", encoding="utf-8")


def item_of(run: Run) -> Item | SeriesItem | None:
    """Return the first item of the test split of a run. None if the task has none to show, or if its data is gone.

    An export needs no data. Without them its example runs on a grey image, or on a sine.
    """
    try:
        task = run.task()
    except RunError as error:
        narrate(f"the example gets no item of the data: {error}")
        return None
    if isinstance(task, SeriesClassificationTask):
        inputs, targets = next(iter(task.eval_batches("test", 1)))
        return SeriesItem(task, inputs, str(task.classes[int(targets[0])]))
    if not isinstance(task, (DenseTask, SuperResolutionTask)):
        return None
    inputs, targets = next(iter(task.eval_batches("test", 1)))
    if isinstance(task, SuperResolutionTask):
        small, _ = task.pair("test", 0)
        return Item(task, Image.fromarray(small.permute(1, 2, 0).contiguous().numpy()), inputs, targets)
    return Item(task, task.source.image(int(task.indices["test"][0])).convert("RGB"), inputs, targets)
