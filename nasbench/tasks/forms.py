"""The texts that a person types for a task, and the kind of task that each text denotes. This file needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from nasbench.errors import InputError, UnknownNameError
from nasbench.tasks.places import TORCHVISION

__all__ = ["FORMS", "LABEL_FREE", "METRICS", "PRETEXT_METRICS", "TABLE", "USER_TASK", "is_user_task", "kind_of"]

TABLE = "table:"
"""Prefix of a task whose results are looked up in a table that `tabulate` wrote, without training. A search can use
such a task, but `create_task` cannot make it."""

USER_TASK = "Task"
"""The class that is used if a user gives `FILE.py` without the name of a class."""

_KINDS: dict[str, str] = {
    "digits": "classification",
    "co2": "forecasting",
    "folder:PATH": "classification",
    "tar:FILE": "classification",
    "tar:TRAIN.tar,TEST.tar": "classification",
    "torchvision:NAME": "classification",
    "timm:READER/NAME": "classification",
    "csv:PATH": "forecasting",
    "ett:PATH": "forecasting",
    "scenes-segment": "segmentation",
    "segment:PATH": "segmentation",
    "scenes-detect": "detection",
    "detect:PATH": "detection",
    "photos-sr": "super-resolution",
    "sr:PATH": "super-resolution",
    "digits-rows": "series-classification",
    "series:TRAIN.ts,TEST.ts": "series-classification",
    "FILE.py:Task": "",
}

FORMS = tuple(_KINDS)
"""The texts that `create_task` understands."""

METRICS: dict[str, Mapping[str, str]] = {
    "classification": {"accuracy": "maximize", "loss": "minimize"},
    "forecasting": {"mse": "minimize", "mae": "minimize", "smape": "minimize", "mase": "minimize"},
    "series-classification": {"accuracy": "maximize", "balanced_accuracy": "maximize", "loss": "minimize"},
    "segmentation": {"miou": "maximize", "pixel_accuracy": "maximize"},
    "detection": {name: "maximize" for name in ("ap", "ap50", "ap_small", "ap_medium", "ap_large")},
    "super-resolution": {"psnr": "maximize", "ssim": "maximize"},
}
"""The metrics of each kind of task, with their directions. Plans are selected by the first metric."""


PRETEXT_METRICS: Mapping[str, str] = {
    "knn_accuracy": "maximize",
    "probe_accuracy": "maximize",
    "pretext_loss": "minimize",
    "rank_me": "maximize",
    "feature_spread": "maximize",
}
"""The metrics of learning without labels, with their directions."""

LABEL_FREE = ("pretext_loss", "rank_me", "feature_spread")
"""Those of them that need no labels. If the items have none, plans are selected by the first."""


def is_user_task(text: str) -> bool:
    """Return whether the text of a task names a user's own task, `FILE.py` or `FILE.py:Task`."""
    return text.endswith(".py") or ".py:" in text


def kind_of(text: str) -> str:
    """Return the kind of a task from its text, or "" for a user's own task, whose class defines the kind.

    Raises:
        UnknownNameError: If the text is not a task.
        InputError: If the path or name of the data is missing in the text.
    """
    if is_user_task(text):
        return ""
    form, colon, place = text.partition(":")
    kinds = [kind for known, kind in _KINDS.items() if known.partition(":")[:2] == (form, colon)]
    if not kinds:
        known = (*FORMS, f"{TABLE}FILE", *(f"torchvision:{name}" for name in TORCHVISION))
        raise UnknownNameError("task", text, known, f"one of {', '.join((*FORMS, f'{TABLE}FILE'))}")
    if colon and not place:
        raise InputError(
            f"{text!r} has no path or name of data; write it as one of {', '.join(f for f in FORMS if ':' in f)}"
        )
    return kinds[0]
