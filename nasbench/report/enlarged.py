"""Details of test images of super-resolution, enlarged: bicubic, the bare backbone, the winner and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nasbench.report.plotting import label, style
from nasbench.tasks import SuperResolutionTask, apply
from nasbench.tasks.super_resolution import bicubic

__all__ = ["BICUBIC", "TRUTH", "Detail", "as_table", "details_of", "draw_details"]

BICUBIC, TRUTH = "bicubic", "truth"
"""Names of the first and the last column."""

_SHOWN = 4  # details
_SIDE_PX = 32  # side of a detail in the large image
_LOOKED_THROUGH = 100  # test images


@dataclass(frozen=True)
class Detail:
    """A square of a test image.

    Attributes:
        image: Number of the image in the test split.
        row: Its first row in the large image.
        column: Its first column.
        differing: Mean absolute difference between the plans, in grey levels.
        pixels: Bytes `(side, side, 3)` by column of the picture: bicubic, the models, the truth.
    """

    image: int
    row: int
    column: int
    differing: float
    pixels: Mapping[str, np.ndarray]

    def psnr(self, name: str) -> float:
        """Return the PSNR of a column against the truth over all colours, in dB. Infinite if they are equal."""
        gap = self.pixels[name].astype(float) - self.pixels[TRUTH]
        error = float((gap**2).mean())
        return float(10 * np.log10(255**2 / error)) if error else float("inf")


def details_of(task: SuperResolutionTask, models: Mapping[str, nn.Module], device: str) -> list[Detail]:
    """Return the details in which the models differ most, at most one of each image, the most different first.

    If there is one model, these are the details in which it differs most from bicubic interpolation.

    Args:
        task: The task.
        models: The models by name, in the order of the columns.
        device: The device of the models.
    """
    details: list[Detail] = []
    with torch.no_grad():
        for inputs, targets in task.eval_batches("test", 1, device=device):
            if len(details) == _LOOKED_THROUGH:
                break
            (target,), number = targets, len(details)
            small, _ = task.pair("test", number)
            found = {name: task.predictions(m, apply(m, inputs), targets)[0].cpu() for name, m in models.items()}
            columns = {BICUBIC: bicubic(small, task.scale), **found, TRUTH: target["image"]}
            compared = list(found.values()) if len(found) > 1 else [columns[BICUBIC], *found.values()]
            details.append(_most_different(number, columns, torch.stack(compared).float()))
    return sorted(details, key=lambda each: -each.differing)[:_SHOWN]


def _most_different(number: int, columns: Mapping[str, Tensor], compared: Tensor) -> Detail:
    """Return the square of an image in which the compared images `(N, 3, H, W)` differ most."""
    spread = (compared.amax(0) - compared.amin(0)).mean(0)
    side = min(_SIDE_PX, *spread.shape)
    means = nn.functional.avg_pool2d(spread[None, None], side, stride=max(1, side // 4))[0, 0]
    best = int(means.argmax())
    row, column = (max(1, side // 4) * place for place in divmod(best, means.shape[1]))
    pixels = {
        name: image[:, row : row + side, column : column + side].permute(1, 2, 0).numpy()
        for name, image in columns.items()
    }
    return Detail(number, row, column, float(means.flatten()[best]), pixels)


def draw_details(details: list[Detail]) -> Figure:
    """Draw one row for each detail, with its PSNR under each column but the truth."""
    columns = list(details[0].pixels)
    with style():
        figure = Figure(figsize=(1.6 * len(columns) + 0.4, 1.8 * len(details) + 0.2), layout="constrained")
        grid = figure.subplots(len(details), len(columns), squeeze=False)
        for axes_of_row, detail in zip(grid, details, strict=True):
            for axes, name in zip(axes_of_row, columns, strict=True):
                axes.imshow(detail.pixels[name], interpolation="nearest")
                if name != TRUTH:
                    axes.set_xlabel(f"{detail.psnr(name):.2f} dB", fontsize=8)
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
            axes_of_row[0].set_ylabel(f"image {detail.image}", fontsize=8)
        for axes, name in zip(grid[0], columns, strict=True):
            axes.set_title(label(name), fontsize=9)
        return figure


def as_table(details: list[Detail]) -> pd.DataFrame:
    """Return a row for each detail and column: where the detail is, how much the models differ, and its PSNR."""
    return pd.DataFrame(
        {
            "image": each.image,
            "row": each.row,
            "column": each.column,
            "side": len(each.pixels[TRUTH]),
            "differing": each.differing,
            "shown": name,
            "psnr": each.psnr(name),
        }
        for each in details
        for name in each.pixels
        if name != TRUTH
    )
