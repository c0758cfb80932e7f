"""The regions that a model uses: Grad-CAM of the bare backbone and the winner on the same held-out images.

Grad-CAM is a weighted sum over the channels of the last stage's map. The weight of a channel is the mean over its
positions of the gradient of a score. Negative values of the sum are set to 0. The score is that of the predicted class,
or the answer to a `Question` about a dense model.
Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
arXiv:1610.02391.

Where average pooling and one linear layer end the model, Grad-CAM is CAM, which takes the weights of the linear layer
instead of gradients.
Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv:1512.04150.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from nasbench.errors import UnsupportedError
from nasbench.library.plan import is_stage_slot
from nasbench.report.plotting import label, style

__all__ = ["NO_EVIDENCE", "best_class", "cam", "draw_gradcam", "gradcam", "is_cam"]

NO_EVIDENCE = "no positive evidence"
"""Text in the picture over a map that is 0 everywhere."""

_LONGEST_NAME = 20
"""Width of the longest name of a class that fits above an image, in characters."""


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
    stages = _stages(slots)
    with _watched(model, stages) as kept, torch.enable_grad():
        # The input requires a gradient, so that the stage's map has a gradient even if every weight is frozen.
        outputs = model(images.clone().requires_grad_())
        scores, classes = (question or best_class)(outputs)
        # Samples do not mix in eval mode, so the gradient of the sum contains the gradient of each image.
        gradients = _gradients(scores.sum(), [kept[slot.name] for slot in stages])
    # A head can read fine levels alone. The stages after them have no gradient.
    slot, gradient = next(
        ((each, found) for each, found in zip(reversed(stages), reversed(gradients), strict=True) if found is not None),
        (stages[-1], torch.zeros_like(kept[stages[-1].name])),
    )
    weights = _split(slot, gradient, images).flatten(2).mean(dim=2)
    return _weighted(weights, _split(slot, kept[slot.name].detach(), images), images), list(classes)


@torch.no_grad()
def cam(model: nn.Module, images: Tensor, slots: Sequence[Slot]) -> tuple[NDArray[np.float32], list[int]]:
    """Return the class activation maps of the predicted classes, and these classes. As `gradcam`.

    The map of a class is the sum over the channels of the last stage's map, each times its weight in the linear layer.

    Raises:
        UnsupportedError: If the model does not end in the mean over the positions of this map and one linear layer.
    """
    classifier = getattr(model, "get_classifier", lambda: None)()
    slot, pooled = _stages(slots)[-1], []
    if isinstance(classifier, nn.Linear):
        with _watched(model, [slot]) as kept, ExitStack() as stack:
            stack.callback(classifier.register_forward_pre_hook(lambda _, given: pooled.append(given[0])).remove)
            outputs = model(images)
        maps = _split(slot, kept[slot.name], images)
        # The numbers are compared, not the names of modules, because the norm or the activation that would spoil the
        # equality has another name in each host.
        if len(pooled) == 1 and _same(pooled[0], maps.mean(dim=(2, 3))) and _same(outputs, classifier(pooled[0])):
            _, classes = best_class(outputs)
            return _weighted(classifier.weight[classes], maps, images), classes
    raise UnsupportedError(f"{type(model).__name__} does not end in average pooling and one linear layer, as CAM needs")


def is_cam(model: nn.Module, images: Tensor, slots: Sequence[Slot], maps: NDArray[np.float32]) -> bool:
    """Return whether the Grad-CAM maps of a model are its class activation maps too."""
    try:
        return np.allclose(cam(model, images, slots)[0], maps, atol=1e-3)
    except UnsupportedError:
        return False


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def _stages(slots: Sequence[Slot]) -> list[Slot]:
    """Return the slots after stages, fine to coarse, without those that have one position."""
    stages = [slot for slot in slots if is_stage_slot(slot.name)] or list(slots)
    return [slot for slot in stages if np.prod(slot.size) > 1] or stages[-1:]


@contextmanager
def _watched(model: nn.Module, stages: Sequence[Slot]) -> Iterator[dict[str, Tensor]]:
    """Put a model into eval mode and keep, by slot, what the stages return. Afterwards the model is as before."""
    kept: dict[str, Tensor] = {}

    def keep(slot: Slot) -> Any:
        def hook(module: nn.Module, args: object, output: Tensor | Sequence[Tensor]) -> None:
            kept[slot.name] = output if isinstance(output, Tensor) else output[slot.index or 0]

        return hook

    with ExitStack() as stack:
        stack.callback(model.train, model.training)
        for slot in stages:
            stack.callback(host_of(model).get_submodule(slot.module).register_forward_hook(keep(slot)).remove)
        model.eval()
        yield kept


def _split(slot: Slot, x: Tensor, images: Tensor) -> Tensor:
    """Return a tensor of a slot as a map `(B, C, H, W)`. Prefix tokens such as the class token have no position."""
    order = None if slot.order is None else torch.tensor(slot.order, device=images.device)
    return slot.format.split(x, order, tuple(images.shape[2:]))[0]


def _weighted(weights: Tensor, maps: Tensor, images: Tensor) -> NDArray[np.float32]:
    """Return the sum of the channels of maps `(B, C, h, w)` with weights `(B, C)`, at the size of the images.

    Negative values are set to 0, and the largest value of an image is 1.
    """
    total = (weights[:, :, None, None] * maps).sum(dim=1, keepdim=True).relu()
    total = nn.functional.interpolate(total, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    # A map that is 0 everywhere is divided by the bound, so that it stays 0.
    return (total / total.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).cpu().numpy()


def _gradients(score: Tensor, maps: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of a score for each map, or None for a map on which it does not depend."""
    if not score.requires_grad:  # nothing was predicted in any image
        return [None] * len(maps)
    return torch.autograd.grad(score, list(maps), allow_unused=True)


def best_class(outputs: Tensor) -> tuple[Tensor, list[int]]:
    """Return the largest of the scores of each image, `(B, K) -> (B,)`, and its number."""
    scores, classes = outputs.max(dim=1)
    return scores, classes.tolist()


def held_out(batches: Iterable[tuple[Tensor, Tensor]], count: int = 6) -> tuple[Tensor, Tensor]:
    """Return the first image of each class and the classes: `(N, 3, H, W)` and `(N,)`, with N at most `count`.

    Only the first eight batches are searched.

    Raises:
        UnsupportedError: If the targets are no class numbers.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    seen: set[int] = set()
    for x, y in islice(batches, 8):  # stop early, so that a large split is not read completely
        if not isinstance(y, Tensor) or y.ndim != 1:
            raise UnsupportedError("the targets of the task are no class numbers (B,), as Grad-CAM needs")
        for image, truth in zip(x, y, strict=True):
            if int(truth) not in seen and len(images) < count:
                seen.add(int(truth))
                images.append(image)
                labels.append(truth)
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
        for axes, image, truth in zip(grid[0], pixels, labels, strict=True):
            axes.imshow(image)
            axes.set_title(label(str(truth), _LONGEST_NAME), fontsize=8)
        for row, (name, cams) in zip(grid[1:], maps.items(), strict=True):
            for axes, image, cam, guess, truth in zip(row, pixels, cams, predicted[name], labels, strict=True):
                axes.imshow(image.mean(axis=-1), cmap="gray")
                axes.imshow(cam, cmap="inferno", alpha=0.75 * cam, vmin=0, vmax=1)
                if not cam.any():
                    where = {"transform": axes.transAxes, "ha": "center", "va": "center"}
                    text = NO_EVIDENCE.replace(" ", "\n")
                    axes.text(0.5, 0.5, text, **where, fontsize=7, bbox={"color": "white", "alpha": 0.8, "pad": 1})
                colour = "black" if guess == truth else "#a40e26"
                axes.set_title(label(str(guess), _LONGEST_NAME), fontsize=8, color=colour)
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
        for truth, guess, cam in zip(labels, predicted[name], cams, strict=True):
            total = max(float(cam.sum()), 1e-12)
            ys, xs = (np.arange(side) for side in cam.shape)
            rows.append(
                {
                    "model": name,
                    "label": truth,
                    "predicted": guess,
                    "centre_y": float((cam.sum(1) * ys).sum()) / total,
                    "centre_x": float((cam.sum(0) * xs).sum()) / total,
                }
            )
    return pd.DataFrame(rows)
