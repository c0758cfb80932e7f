"""A map of the features that were learnt without labels: their two main directions, coloured by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import nn

from nasbench.report.plotting import label, style
from nasbench.training.pretexts import PretextTask, pooled_encoder

__all__ = ["draw_feature_map", "feature_map_data"]

_BATCH = 64
_MOST_ITEMS = 2000  # with more points, a map is a blot, and its file is large
_MOST_CLASSES = 20  # with more, the colours cannot be distinguished


def feature_map_data(
    task: PretextTask, models: Mapping[str, nn.Module], classes: Sequence[str], device: str
) -> pd.DataFrame:
    """Return one row for each model and validation item: model, item, class, x, y, x_share, y_share.

    x and y are the two main directions (PCA) of the features of this model after they were scaled to length 1, which is
    how the nearest neighbours compare them. The shares are the parts of the variance along them. Every item is used if
    there are at most 2,000, otherwise 2,000 at equal distances.

    Args:
        task: The task without its labels.
        models: The models by name, in eval mode on the device.
        classes: Names of the classes. Empty if the items have none; then the class is "".
        device: The device.
    """
    tables = []
    for name, model in models.items():
        encoder = pooled_encoder(model, task.input_size)
        encoder.eval()
        found, labels = [], []
        with torch.no_grad():
            for x, y in task.eval_batches("val", _BATCH, device=device):
                features = encoder(x).float().cpu()
                found.append(features)
                labels += [classes[int(each)] for each in y] if classes else [""] * len(features)
        unit = nn.functional.normalize(torch.cat(found).double(), dim=1).numpy()
        items = np.unique(np.linspace(0, len(unit) - 1, min(len(unit), _MOST_ITEMS)).astype(int))
        places, shares = _main_directions(unit)
        table = pd.DataFrame({"model": name, "item": items, "class": [labels[item] for item in items]})
        tables.append(table.assign(x=places[items, 0], y=places[items, 1], x_share=shares[0], y_share=shares[1]))
    return pd.concat(tables, ignore_index=True)


def _main_directions(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of items `(N, C)` along the two directions of most variance, `(N, 2)`, and their shares."""
    centred = features - features.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # The sign of a direction is arbitrary. It is fixed, so that the same features give the same picture.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    places = np.zeros((len(features), 2))
    kept = min(2, len(sizes))
    places[:, :kept] = (left * sizes * signs)[:, :kept]
    shares = np.zeros(2)
    shares[:kept] = (sizes**2 / max((sizes**2).sum(), np.finfo(float).tiny))[:kept]
    return places, shares


def draw_feature_map(data: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw one map for each model, one below the other.

    Args:
        data: The places of the items, as `feature_map_data` returns them.
        classes: Names of the classes, in the order of their colours. With more than 20, the points have no colours.
    """
    names = list(dict.fromkeys(data["model"]))
    coloured = 0 < len(classes) <= _MOST_CLASSES
    with style():
        figure = Figure(figsize=(6.4, 4.6 * len(names)), layout="constrained")
        grid = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        colours = sns.color_palette("tab10" if len(classes) <= 10 else "tab20", len(classes) or 1)
        for axes, name in zip(grid, names, strict=True):
            points = data[data["model"] == name]
            for number, each in enumerate(classes if coloured else [None]):
                group = points if each is None else points[points["class"] == each]
                shown = None if each is None else label(each)
                axes.plot(group["x"], group["y"], "o", ms=3, mew=0, alpha=0.75, color=colours[number], label=shown)
            first = points.iloc[0]
            axes.set(title=label(name), xlabel=f"{first['x_share']:.0%} of the variance",
                     ylabel=f"{first['y_share']:.0%} of the variance")  # fmt: skip
        if coloured:
            handles, texts = grid[0].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside right center", fontsize=8, markerscale=1.8)
        return figure
