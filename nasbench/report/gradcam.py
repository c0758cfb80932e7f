"""The regions that a model uses: Grad-CAM of the bare backbone and the winner on the same held-out images.

Grad-CAM is a weighted sum over the channels of the last stage's map. The weight of a channel is the mean over its
positions of the gradient of a score. Negative values of the sum are set to 0. The score is that of the predicted class,
or the answer to a `Question` about a dense model.
Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv:1610.02391.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench.backbones import Slot
from nasbench.backbones.insertion import host_of
from nasbench.library.plan import is_stage_slot
from nasbench.report.plotting import style

__all__ = ["draw_gradcam", "gradcam"]


def gradcam(
    model: nn.Module,
    images: Tensor,
    slots: Sequence[Slot],
    question: Callable[[Any], tuple[Tensor, Sequence[int | None]]] | None = None,
) -> tuple[NDArray[np.float32], list[int | None]]:
    """Return the Grad-CAM maps of scores, and the predicted classes.

    Args:
        model: A classifier of K classes, `(B, 3, H, W) -> (B, K)`, or a dense model. Its mode and weights are left
            unchanged.
        images: `(B, 3, H, W)`.
        slots: The slots of the model. The map is made at the last stage with more than one position on which the scores
            depend.
        question: From the model's outputs to a score of each image, `(B,)`, and the predicted classes. By default the
            score and number of the predicted class of a classifier.

    Returns:
        The maps, `(B, H, W)`, each divided by its largest value, so in [0, 1], and the classes. A class is None if
        nothing was predicted.
    """
    stages = [slot for slot in slots if is_stage_slot(slot.name)] or list(slots)
    stages = [slot for slot in stages if np.prod(slot.size) > 1] or stages[-1:]
    kept: dict[str, Tensor] = {}

    def keep(slot: Slot) -> Any:
        def hook(module: nn.Module, args: object, output: Tensor | Sequence[Tensor]) -> None:
            kept[slot.name] = output if isinstance(output, Tensor) else output[slot.index or 0]

        return hook

    host, training = host_of(model), model.training
    with ExitStack() as stack:
        stack.callback(model.train, training)
        for slot in stages:
            stack.callback(host.get_submodule(slot.module).register_forward_hook(keep(slot)).remove)
        with torch.enable_grad():
            # The input requires a gradient, so that the stage's map has a gradient even if every weight is frozen.
            outputs = model.eval()(images.clone().requires_grad_())
            scores, classes = (question or _best_class)(outputs)
            # Samples do not mix in eval mode, so the gradient of the sum contains the gradient of each image.
            gradients = _gradients(scores.sum(), [kept[slot.name] for slot in stages])
    # A head can read fine levels alone. The stages after them have no gradient.
    slot, gradient = next(
        ((each, found) for each, found in zip(reversed(stages), reversed(gradients), strict=True) if found is not None),
        (stages[-1], torch.zeros_like(kept[stages[-1].name])),
    )
    order = None if slot.order is None else torch.tensor(slot.order, device=images.device)
    # Tokens and NHWC maps become `(B, C, H, W)`. Prefix tokens such as the class token have no position.
    size = tuple(images.shape[2:])
    maps, _ = slot.format.split(kept[slot.name].detach(), order, size)
    slopes, _ = slot.format.split(gradient, order, size)
    weights = slopes.flatten(2).mean(dim=2)
    cam = (weights[:, :, None, None] * maps).sum(dim=1, keepdim=True).relu()
    cam = nn.functional.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    # A map that is 0 everywhere is divided by the bound, so that it stays 0.
    cam = cam / cam.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return cam.cpu().numpy(), list(classes)


def _gradients(score: Tensor, maps: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of a score for each map, or None for a map on which it does not depend."""
    if not score.requires_grad:  # nothing was predicted in any image
        return [None] * len(maps)
    return torch.autograd.grad(score, list(maps), allow_unused=True)


def _best_class(outputs: Tensor) -> tuple[Tensor, list[int | None]]:
    scores, classes = outputs.max(dim=1)
    return scores, classes.tolist()


def held_out(batches: Iterable[tuple[Tensor, Tensor]], count: int = 6) -> tuple[Tensor, Tensor]:
    """Return the first image of each class and the classes: `(N, 3, H, W)` and `(N,)`, with N at most `count`.

    Only the first eight batches are searched.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    seen: set[int] = set()
    for x, y in islice(batches, 8):  # stop early, so that a large split is not read completely
        for image, label in zip(x, y, strict=True):
            if int(label) not in seen and len(images) < count:
                seen.add(int(label))
                images.append(image)
                labels.append(label)
    return torch.stack(images), torch.stack(labels)


def draw_gradcam(
    images: Tensor,
    labels: Sequence[str],
    maps: Mapping[str, NDArray[np.float32]],
    predicted: Mapping[str, Sequence[str]],
) -> Figure:
    """Draw the images in the first row, then a row for each model with its maps over the images and its predictions.

    Args:
        images: N images `(N, 3, H, W)` in any range. Each image is scaled to [0, 1].
        labels: True class of each image.
        maps: Maps `(N, H, W)` by model.
        predicted: Predicted classes by model.
    """
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    pixels = ((images - low) / (high - low).clamp(min=1e-12)).permute(0, 2, 3, 1).cpu().numpy()
    with style():
        figure = Figure(figsize=(1.25 * len(pixels) + 0.6, 1.45 * (len(maps) + 1)), layout="constrained")
        grid = figure.subplots(len(maps) + 1, len(pixels), squeeze=False)
        for axes, image, label in zip(grid[0], pixels, labels, strict=True):
            axes.imshow(image)
            axes.set_title(str(label), fontsize=8)
        for row, (name, cams) in zip(grid[1:], maps.items(), strict=True):
            for axes, image, cam, guess, label in zip(row, pixels, cams, predicted[name], labels, strict=True):
                axes.imshow(image.mean(axis=-1), cmap="gray")
                axes.imshow(cam, cmap="inferno", alpha=0.75 * cam, vmin=0, vmax=1)
                axes.set_title(str(guess), fontsize=8, color="black" if guess == label else "#a40e26")
            row[0].set_ylabel(name, fontsize=8)
        grid[0, 0].set_ylabel("held out", fontsize=8)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        return figure


def as_table(
    labels: Sequence[str], predicted: Mapping[str, Sequence[str]], maps: Mapping[str, NDArray[np.float32]]
) -> pd.DataFrame:
    """Return the numbers of the plot: true and predicted classes, and the centre of mass of each map, in pixels."""
    rows = []
    for name, cams in maps.items():
        for label, guess, cam in zip(labels, predicted[name], cams, strict=True):
            total = max(float(cam.sum()), 1e-12)
            ys, xs = (np.arange(side) for side in cam.shape)
            rows.append(
                {
                    "model": name,
                    "label": label,
                    "predicted": guess,
                    "centre_y": float((cam.sum(1) * ys).sum()) / total,
                    "centre_x": float((cam.sum(0) * xs).sum()) / total,
                }
            )
    return pd.DataFrame(rows)
