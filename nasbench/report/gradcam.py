"""The regions that a classifier uses: Grad-CAM of the bare backbone and the winner on the same held-out images.

Grad-CAM is a weighted sum over the channels of the last stage's map. The weight of a channel is the mean over its
positions of the gradient of the score of the predicted class. Negative values of the sum are set to 0.
Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv:1610.02391.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench.backbones import Slot
from nasbench.library.plan import is_stage_slot
from nasbench.report.plotting import style

__all__ = ["draw_gradcam", "gradcam"]


def gradcam(model: nn.Module, images: Tensor, slots: Sequence[Slot]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the Grad-CAM maps of the predicted classes, and these classes.

    Args:
        model: A classifier of K classes, `(B, 3, H, W) -> (B, K)`. Its mode and weights are left unchanged.
        images: `(B, 3, H, W)`.
        slots: The slots of the model. The map is made at the last stage with more than one position.

    Returns:
        The maps, `(B, H, W)`, each divided by its largest value, so in [0, 1], and the classes, `(B,)`.
    """
    stages = [slot for slot in slots if is_stage_slot(slot.name)] or list(slots)
    slot = next((s for s in reversed(stages) if np.prod(s.size) > 1), stages[-1])
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor | Sequence[Tensor]) -> None:
        kept.append(output if isinstance(output, Tensor) else output[slot.index or 0])

    handle = model.get_submodule(slot.module).register_forward_hook(keep)
    training = model.training
    try:
        with torch.enable_grad():
            # The input requires a gradient, so that the stage's map has a gradient even if every weight is frozen.
            scores = model.eval()(images.clone().requires_grad_())
            classes = scores.argmax(dim=1)
            # Samples do not mix in eval mode, so the gradient of the sum contains the gradient of each image.
            (gradient,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), kept[0])
    finally:
        handle.remove()
        model.train(training)
    order = None if slot.order is None else torch.tensor(slot.order, device=images.device)
    # Tokens and NHWC maps become `(B, C, H, W)`. Prefix tokens such as the class token have no position.
    size = tuple(images.shape[2:])
    maps, _ = slot.format.split(kept[0].detach(), order, size)
    slopes, _ = slot.format.split(gradient, order, size)
    weights = slopes.flatten(2).mean(dim=2)
    cam = (weights[:, :, None, None] * maps).sum(dim=1, keepdim=True).relu()
    cam = nn.functional.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    # A map that is 0 everywhere is divided by the bound, so that it stays 0.
    cam = cam / cam.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return cam.cpu().numpy(), classes.cpu().numpy()


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
