"""A real item of the data of a task with a head, and what the model makes of it, for the example of an export."""

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
from nasbench.tasks.super_resolution import SuperResolutionTask
from nasbench.text import narrate

__all__ = ["IMAGE", "RESULTS", "Item", "item_of"]

IMAGE = "example.png"
"""Name of the file with the image."""

RESULTS = {
    "segmentation": "example-result.png", "detection": "example-result.json", "super-resolution": "example-result.png"
}  # fmt: skip
"""Name of the file with the model's result, for each kind of task."""


@dataclass(frozen=True)
class Item:
    """An item of the test split.

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


def item_of(run: Run) -> Item | None:
    """Return the first item of the test split of a run. None if the task has no head, or if the data cannot be read.

    An export needs no data. Without them its example runs on a grey image.
    """
    try:
        task = run.task()
    except RunError as error:
        narrate(f"the example gets no image of the data: {error}")
        return None
    if not isinstance(task, (DenseTask, SuperResolutionTask)):
        return None
    inputs, targets = next(iter(task.eval_batches("test", 1)))
    if isinstance(task, SuperResolutionTask):
        small, _ = task.pair("test", 0)
        return Item(task, Image.fromarray(small.permute(1, 2, 0).contiguous().numpy()), inputs, targets)
    return Item(task, task.source.image(int(task.indices["test"][0])).convert("RGB"), inputs, targets)
