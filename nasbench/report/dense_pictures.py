"""Test images with masks or boxes: the truth, and what the bare backbone and the winner found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn
from torchvision.ops import nms

from nasbench.ops.segmentation import VOID
from nasbench.report.plotting import label, style
from nasbench.tasks import apply, map_tensors

__all__ = ["MOST_NAMED", "TRUTH", "as_table", "draw_found", "found_by"]

TRUTH = "truth"
"""Name of the row with the truth."""

_SHOWN = 6
_LEAST_SCORE = 0.3  # boxes below this score are not drawn
_SAME_PLACE = 0.5  # of boxes with a larger IoU, only the one with the highest score is drawn
MOST_NAMED = 8
"""If an image has more boxes, nothing is written beside them, because the texts would cover one another."""

_COLOURS = 20  # of matplotlib's tab20
_LEGEND_COLUMNS = 5
_BACKGROUND = ("background", "_background_", "bg")
"""Names of the class that is not painted over the image."""


def found_by(task: Any, models: Mapping[str, nn.Module], device: str) -> tuple[Tensor, dict[str, list[Any]]]:
    """Return test images and, by row of the picture, what is true and what each model found.

    Args:
        task: A task whose predictions are masks `(h, w)`, or dicts of `boxes`, `scores` and `labels`.
        models: The models by name.
        device: The device of the models.

    Returns:
        The images inside their padding as a list would be ragged, so they are `(N, 3, H, W)` with it, N at most 6. The
        rows: the truth, and for each model its predictions, all in pixels of the original images.
    """
    inputs, targets = next(iter(task.eval_batches("test", _SHOWN, device=device)))
    rows: dict[str, list[Any]] = {TRUTH: [target.get("mask", target) for target in targets]}
    with torch.no_grad():
        for name, model in models.items():
            found = task.predictions(model, apply(model, inputs), targets)
            rows[name] = [map_tensors(Tensor.cpu, each) for each in found]
    images = inputs.cpu()
    sizes = [target["size"] for target in targets]
    originals = [target["original"] for target in targets]
    shown = [
        _at_original(image, size, original) for image, size, original in zip(images, sizes, originals, strict=True)
    ]
    height, width = (max(s.shape[axis] for s in shown) for axis in (1, 2))
    canvas = torch.full((len(shown), 3, height, width), float("nan"))
    for place, image in zip(canvas, shown, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return canvas, rows


def _at_original(image: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    inside = image[None, :, : size[0], : size[1]]
    return nn.functional.interpolate(inside, original, mode="bilinear", align_corners=False)[0]


def draw_found(images: Tensor, rows: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> Figure:
    """Draw one row for the truth and one for each model, with masks or boxes over the images.

    A legend names the colours of the classes where nothing else does. A class that is named background is not painted.
    Of boxes in one place, only the best is drawn. Class and score are written beside the boxes of an image if they are
    few.

    Args:
        images: `(N, 3, H, W)` in any range, NaN outside of an image.
        rows: Masks or boxes of each image, by name of the row.
        classes: Class names.
    """
    low = torch.nan_to_num(images, nan=float("inf")).amin(dim=(1, 2, 3), keepdim=True)
    high = torch.nan_to_num(images, nan=float("-inf")).amax(dim=(1, 2, 3), keepdim=True)
    pixels = ((images - low) / (high - low).clamp(min=1e-12)).nan_to_num(nan=1.0).permute(0, 2, 3, 1).numpy()
    ratio = images.shape[2] / images.shape[3]
    painted = _painted(rows, classes)
    panels = [each for found in rows.values() for each in found]
    unnamed = any(isinstance(each, Tensor) or len(_drawn_boxes(each)) > MOST_NAMED for each in panels)
    legend = painted if unnamed else {}
    lines = -(-len(legend) // _LEGEND_COLUMNS)
    with style():
        height = 1.5 * ratio * len(rows) + 0.3 + 0.18 * lines
        figure = Figure(figsize=(1.5 * len(pixels) + 0.6, height), layout="constrained")
        grid = figure.subplots(len(rows), len(pixels), squeeze=False)
        for axes_of_row, (name, found) in zip(grid, rows.items(), strict=True):
            for axes, image, each in zip(axes_of_row, pixels, found, strict=True):
                axes.imshow(image)
                if isinstance(each, Tensor):
                    _draw_mask(axes, each.numpy(), painted)
                else:
                    _draw_boxes(axes, each, classes, painted)
            axes_of_row[0].set_ylabel(label(name), fontsize=8)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        if legend:
            handles = [Patch(color=colour, label=label(str(classes[number]), 24)) for number, colour in legend.items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=7, frameon=False)
        return figure


def _colour(number: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab20"](number % _COLOURS)


def _painted(rows: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> dict[int, Any]:
    """Return the colours of the classes that are drawn, by number, without the background."""
    drawn = {number for found in rows.values() for each in found for number in _numbers(each)}
    numbers = sorted(drawn - {VOID})
    shown = [number for number in numbers if str(classes[number]).lower() not in _BACKGROUND]
    # By their place among those that are shown, so that up to 20 classes have colours of their own.
    return {number: _colour(place) for place, number in enumerate(shown)}


def _numbers(found: Any) -> list[int]:
    """Return the numbers of the classes that are drawn of a mask, or of the boxes of an image."""
    if isinstance(found, Tensor):
        return [int(number) for number in found.unique()]
    labels = np.asarray(found["labels"])
    return [int(labels[place]) for place in _drawn_boxes(found)]


def _draw_mask(axes: Axes, mask: np.ndarray, painted: Mapping[int, Any]) -> None:
    colours = np.zeros((*mask.shape, 4))
    for number, colour in painted.items():
        colours[mask == number] = (*colour[:3], 0.6)
    axes.imshow(colours)


def _draw_boxes(axes: Axes, found: Mapping[str, Any], classes: Sequence[str], painted: Mapping[int, Any]) -> None:
    boxes, labels = (np.asarray(found[key]) for key in ("boxes", "labels"))
    places = _drawn_boxes(found)
    for place in places:
        x1, y1, x2, y2 = boxes[place]
        number = int(labels[place])
        colour = painted.get(number, "black")
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=1.2))
        if len(places) <= MOST_NAMED:
            name = label(str(classes[number]), 16)
            text = f"{name} {float(found['scores'][place]):.2f}" if "scores" in found else name
            axes.text(x1, y1 - 1, text, fontsize=6, color=colour, va="bottom")


def _drawn_boxes(found: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the boxes to draw: all of the truth, or of each place the one with the highest score."""
    boxes = torch.as_tensor(np.asarray(found["boxes"])).reshape(-1, 4).float()
    if "scores" not in found:
        return list(range(len(boxes)))
    scores = torch.as_tensor(np.asarray(found["scores"])).float()
    return [place for place in nms(boxes, scores, _SAME_PLACE).tolist() if scores[place] >= _LEAST_SCORE]


def as_table(rows: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> pd.DataFrame:
    """Return the numbers of the picture: a row for each box, or the pixels of each class of each mask."""
    lines: list[dict[str, Any]] = []
    for name, found in rows.items():
        for image, each in enumerate(found):
            if isinstance(each, Tensor):
                numbers, counts = np.unique(each.numpy(), return_counts=True)
                for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                    shown = "without a label" if number == VOID else classes[number]
                    lines.append({"row": name, "image": image, "class": shown, "pixels": count})
                continue
            scores = each.get("scores", [None] * len(each["labels"]))
            for box, number, score in zip(np.asarray(each["boxes"]).tolist(), each["labels"], scores, strict=True):
                place = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
                given = None if score is None else float(score)
                lines.append({"row": name, "image": image, "class": classes[int(number)], "score": given, **place})
    return pd.DataFrame(lines)
