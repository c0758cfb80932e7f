"""Confusion matrices of classifiers of series: which class of the test split is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from nasbench.report.plotting import label, style
from nasbench.tasks import Task, apply

__all__ = ["confusion_data", "draw_confusion"]

_BATCH = 64
_MOST_NUMBERS = 15  # with more classes, the cells are too small for numbers


def confusion_data(task: Task, models: Mapping[str, nn.Module], classes: Sequence[str], device: str) -> pd.DataFrame:
    """Return the number of test items for each model, true class and predicted class.

    Args:
        task: A task of classification, whose targets are class numbers `(B,)`.
        models: The models by name, in eval mode.
        classes: Names of the classes.
        device: The device of the models.
    """
    counts = {name: np.zeros((len(classes),) * 2, dtype=int) for name in models}
    with torch.no_grad():
        for inputs, targets in task.eval_batches("test", _BATCH, device=device):
            for name, model in models.items():
                predicted = apply(model, inputs).argmax(dim=1)
                np.add.at(counts[name], (targets.cpu().numpy(), predicted.cpu().numpy()), 1)
    rows = [
        {"model": name, "true": classes[i], "predicted": classes[j], "items": int(count[i, j])}
        for name, count in counts.items()
        for i in range(len(classes))
        for j in range(len(classes))
    ]
    return pd.DataFrame(rows)


def draw_confusion(data: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw one matrix for each model, side by side. Colours are shares of the true class.

    Args:
        data: The numbers of items, as `confusion_data` returns them.
        classes: Names of the classes.
    """
    names = list(dict.fromkeys(data["model"]))
    side = min(6.0, 1.2 + 0.32 * len(classes))
    with style():
        figure = Figure(figsize=(side * len(names) + 0.8, side + 0.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            # In the order of the data, which is that of the classes.
            counts = data.loc[data["model"] == name, "items"].to_numpy().reshape(len(classes), -1)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
            axes.set(title=label(name), xlabel="predicted", ylabel="true")
            if len(classes) <= _MOST_NUMBERS:
                ticks, shown = range(len(classes)), [label(each, 20) for each in classes]
                axes.set_xticks(ticks, shown, rotation=90 if max(map(len, shown)) > 2 else 0)
                axes.set_yticks(ticks, shown)
                for (i, j), count in np.ndenumerate(counts):
                    if count:
                        colour = "white" if shares[i, j] > 0.5 else "black"
                        axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color=colour)
            axes.grid(False)
        return figure
