"""Classification of series: items, splits, scales, and the accuracy of a method without a model.

Each series is scaled with the mean and standard deviation of the training split, over all items and steps. The archive
of UCR normalises each item by itself, and such data stays as it is up to one common factor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench.errors import DataError, UnknownNameError
from nasbench.tasks._base import SPLITS, Batch, Kind, Meter, Task, epoch_generator, shuffled
from nasbench.tasks.accuracy import AccuracyMeter, balanced_accuracy
from nasbench.tasks.forms import METRICS
from nasbench.tasks.groups import Groups
from nasbench.tasks.recipe import Recipe
from nasbench.tasks.stratified import draw_splits, drawn_note
from nasbench.tasks.ts_reader import LabelledSeries, read_ts

__all__ = ["LabelledItems", "SeriesClassificationTask", "digit_rows", "read_items"]

_LARGEST = 1e18
"""Largest scaled value. Its square is finite in single precision, whose largest value is 3e38."""

_CHUNK = 64
"""Number of items whose distances to all training items are computed at once."""

NEAREST = "1-nearest neighbour"


class LabelledItems:
    """Labelled series, before they are scaled.

    Args:
        values: For each item its series, `(L, D)` without gaps. L can differ between items.
        labels: Class number of each item.
        classes: The classes.
        given: The items of the splits that the data defines itself.
        read: Facts about the files.
        notes: Sentences for the report.
        held_out: Number of items of each split that is drawn. None means a fifth of the training items.
    """

    def __init__(
        self,
        values: Sequence[np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        given: Mapping[str, np.ndarray] | None = None,
        read: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
        held_out: Mapping[str, int] | None = None,
    ) -> None:
        self.values, self.labels, self.classes = list(values), labels, tuple(classes)
        self.given, self.read, self.notes, self.held_out = dict(given or {}), dict(read or {}), notes, held_out
        self.lengths = np.array([len(item) for item in self.values])


class SeriesClassificationTask(Task):
    """Classify series: from scaled series `(B, steps, D)` to class numbers `(B,)`.

    If the items have no classes, they can only be learnt by a pretext, as in `nasbench.tasks.images.ImageTask`.

    If the lengths of the items differ, all items are padded at their end to the longest. The padded steps are NaN, and
    the argument `padded` of the backbone is True.

    Args:
        name: The text that the user gave.
        items: The data.
        groups: The trials and patients of the items. None if they are not known.
        seed: Seed of the splits that are drawn.
        fill: How missing values were filled, for `describe`.
        recipe: The recipe that a search uses by default.

    Raises:
        DataError: If a class has too few items for the splits, or if values are too large for single precision.
    """

    kind: Kind = "series-classification"
    metric = "accuracy"
    augmentations = ("none",)
    metrics: Mapping[str, str] = METRICS["series-classification"]

    def __init__(
        self,
        name: str,
        items: LabelledItems,
        *,
        groups: Groups | None = None,
        seed: int = 0,
        fill: str | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.name, self.classes, self.fill = name, items.classes, fill
        self.labels = torch.from_numpy(items.labels)
        self.lengths = torch.from_numpy(items.lengths)
        self.indices = draw_splits(items.labels, items.classes, items.given, seed, items.held_out, f"items of {name}")
        made = [split for split in SPLITS if split not in items.given]
        self.split_seed = seed if made else None
        self.splits = {split: len(self.indices[split]) for split in SPLITS}
        self.padded = len(set(items.lengths.tolist())) > 1
        self._fit_scales(items)
        self._sha256 = _sha256(items)
        self.input_size = tuple(self.scaled.shape[1:])
        self.model_kwargs = {"num_classes": max(1, len(self.classes))} | ({"padded": 1} if self.padded else {})
        self.notes = (*items.notes, *drawn_note(name, made, seed, "items", by_class=bool(self.classes)))
        self.read = items.read
        if groups is not None:
            self.notes = (*self.notes, f"the items come from {groups.summary()}")
            self._groups_sha256 = hashlib.sha256(groups.numbers.tobytes()).hexdigest()
            numbers = torch.from_numpy(groups.numbers)
            self.groups = {split: numbers[self.indices[split]] for split in SPLITS}
        self.recipe = recipe or Recipe(epochs=100, batch_size=16, learning_rate=1e-3, weight_decay=0.01)

    def _fit_scales(self, items: LabelledItems) -> None:
        """Scale all items with the mean and standard deviation of each series in the training split."""
        longest, series = int(items.lengths.max()), items.values[0].shape[1]
        padded = np.full((len(items.values), longest, series), np.nan)
        for row, item in zip(padded, items.values, strict=True):
            row[: len(item)] = item
        with np.errstate(over="ignore", invalid="ignore"):
            train = padded[self.indices["train"].numpy()].reshape(-1, series)
            self.mean, deviation = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
            # As in scikit-learn's StandardScaler, what varies by rounding alone is constant. It is only centred.
            constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(train).max(
                axis=0, initial=0, where=train == train
            )
            self.std = np.where(constant, 1.0, deviation)
            scaled = (padded - self.mean) / self.std
        beyond = ~(np.abs(scaled) < _LARGEST) & ~np.isnan(padded)
        if beyond.any():
            number, step, bad = (int(part) for part in np.argwhere(beyond)[0])
            raise DataError(
                f"{self.name}: value {step + 1} of series {bad + 1} of item {number + 1} is "
                f"{padded[number, step, bad]:.6g}, too large for single precision beside the other values; correct it, "
                "or give the series in a larger unit"
            )
        self.scaled = torch.from_numpy(scaled).float()

    def describe(self) -> dict[str, Any]:
        """Return the name, the hash of the data, the seed of the split and the sizes, as data for JSON."""
        return {
            "task": self.name,
            "kind": self.kind,
            "data_sha256": self._sha256,
            "split_seed": self.split_seed,
            "splits": dict(self.splits),
            "steps": [int(self.lengths.min()), int(self.lengths.max())],
            "series": self.input_size[1],
            "classes": len(self.classes),
            "fill": self.fill,
            **({"groups_sha256": self._groups_sha256} if self.groups else {}),
        }

    def preprocessing(self) -> dict[str, Any]:
        """Return the mean and standard deviation that scale each series, the classes in order, and the padding."""
        padding = {"padding": "NaN after the last step"} if self.padded else {}
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "classes": list(self.classes), **padding}

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield each training item once, in a random order: `(B, steps, D)` and `(B,)`."""
        self.check_augmentation(augmentation)
        indices = self.indices["train"]
        for chosen in shuffled(len(indices), batch_size, epoch_generator(seed, epoch)):
            yield self._batch(indices[chosen], device)

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield all items of a split in order, `(B, steps, D)` and `(B,)`."""
        for indices in self.indices[self.check_split(split)].split(batch_size):
            yield self._batch(indices, device)

    def _batch(self, indices: Tensor, device: torch.device | str) -> Batch:
        return self.scaled[indices].to(device), self.labels[indices].to(device)

    def loss(self, model: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of logits `(B, K)` and targets: class numbers `(B,)` or probabilities `(B, K)`."""
        return F.cross_entropy(outputs, targets)

    def meter(self, split: str) -> Meter:
        """Return a meter of logits `(B, K)` and class numbers `(B,)` (see `evaluate`)."""
        return AccuracyMeter(balanced=True)

    def evaluate(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
        """Return the metrics, and for each item 1.0 (right) or 0.0 (wrong).

        The metrics are accuracy in [0, 1], balanced accuracy (the mean over classes of the accuracy of their items) and
        mean cross-entropy in nats.
        """
        meter = AccuracyMeter(balanced=True)
        meter.update(outputs, targets)
        return meter.result()

    def naive(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of the nearest neighbour, by Euclidean distance to the training items a model learns from.

        Distances are of the scaled series. A padded step counts as the mean of the training split.
        """
        known, wanted = (self.indices[each] for each in ("train", self.check_split(split)))
        reference = self.scaled[known].nan_to_num(0.0).flatten(1).double()
        found = []
        for part in wanted.split(_CHUNK):
            own = self.scaled[part].nan_to_num(0.0).flatten(1).double()
            # The products of matrices would round, so that ties and near ties could change their order.
            distance = torch.cdist(own, reference, compute_mode="donot_use_mm_for_euclid_dist")
            found.append(self.labels[known[distance.argmin(dim=1)]])
        correct = (torch.cat(found) == self.labels[wanted]).double().numpy()
        balanced = balanced_accuracy(correct, self.labels[wanted].numpy())
        return {NEAREST: {"accuracy": float(correct.mean()), "balanced_accuracy": balanced}}


def digit_rows() -> LabelledItems:
    """Return scikit-learn's 1,797 digits as series: 8 steps, the rows, of 8 series, the columns.

    The splits have as many items as those of the image task `digits`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    names = [str(name) for name in data.target_names]
    return LabelledItems(list(data.images), data.target.astype(np.int64), names, held_out={"test": 719, "val": 718})


def read_items(paths: Sequence[Path], fill: str | None = None, *, labels: bool = True) -> LabelledItems:
    """Read a training file, and a test file if there is one.

    Args:
        paths: One file or two.
        fill: How to fill missing values: "linear" or "forward". None if no value is missing.
        labels: Whether labels are needed. If not, items that are all of one class are items without labels.

    Raises:
        DataError: If a file cannot be read, if the two do not fit together or are the same, or if values are missing
            without `fill`.
        UnknownNameError: If there is no such `fill`.
    """
    _check_fill(fill)
    files = [read_ts(path) for path in paths]
    train, test = files[0], files[-1]
    if len(files) == 2 and train.path.read_bytes() == test.path.read_bytes():
        raise DataError(
            f"{train.path} and {test.path} are the same file, so training items would be the test; give the file of "
            "the test, or one file alone, from which a test is drawn"
        )
    if test.values[0].shape[1] != train.values[0].shape[1]:
        raise DataError(
            f"{test.path}:{test.lines[0]}: {test.values[0].shape[1]} series, but {train.path} has "
            f"{train.values[0].shape[1]}; give two files of one data set"
        )
    classes = [name for name in train.classes if name in set(train.labels)]
    if not labels and len({*train.labels, *test.labels}) < 2:
        classes = []
    for label, line in zip(test.labels, test.lines, strict=True):
        if classes and label not in classes:
            raise DataError(
                f"{test.path}:{line}: class {label!r} has no item in {train.path}, so it cannot be learnt; add such "
                "items there, or leave the item out"
            )
    if len(classes) == 1:
        raise DataError(
            f"{train.path}: all items are of class {classes[0]!r}; give items of two or more classes, or learn without "
            "labels: --learn ts2vec needs none (nasbench modules lists the pretexts)"
        )
    missing = {file.path.name: file.missing for file in files if file.missing}
    filled = [_filled(file, k, fill) for file in files for k in range(len(file.values))]
    numbers = [classes.index(label) if classes else 0 for file in files for label in file.labels]
    counts = np.cumsum([0, *(len(file.values) for file in files)])
    given = {}
    if len(files) == 2:
        given = {split: np.arange(a, b) for split, a, b in zip(("train", "test"), counts[:-1], counts[1:], strict=True)}
    lengths = sorted({len(item) for item in filled})
    absent = [name for name in train.classes if name not in classes] if classes else []
    read = {
        "files": " and ".join(
            f"{file.path.name} ({len(file.values)} item{'s' * (len(file.values) > 1)})" for file in files
        ),
        "steps": f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}, padded to {lengths[-1]}",
        "series": f"{filled[0].shape[1]}",
        "classes": (f"{len(classes)}" if classes else f"none, because all items are of class {train.labels[0]}")
        + (f"; {', '.join(absent)} have no item and are left out" if absent else ""),
        **(
            {"missing": ", ".join(f"{count} value{'s' * (count > 1)} in {name}" for name, count in missing.items())}
            if missing
            else {}
        ),
    }
    how = {"linear": "linearly from the same item", "forward": "with the last known value of the same item"}
    holes = sum(missing.values())
    notes = (f"{holes} missing value{'s are' if holes > 1 else ' is'} filled {how[str(fill)]}",) if missing else ()
    return LabelledItems(filled, np.array(numbers, dtype=np.int64), classes, given=given, read=read, notes=notes)


def _check_fill(fill: str | None) -> None:
    if fill not in (None, "linear", "forward"):
        raise UnknownNameError("fill", str(fill), ("linear", "forward"))


def _filled(file: LabelledSeries, number: int, fill: str | None) -> np.ndarray:
    """Return the series of an item `(L, D)` without gaps. A gap at an end gets the nearest known value."""
    values = file.values[number]
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    step, series = (int(part) for part in np.argwhere(gaps)[0])
    where = f"{file.path}:{file.lines[number]}"
    if fill is None:
        raise DataError(
            f"{where}: value {step + 1} of series {series + 1} is missing (?); fill missing values with --fill linear "
            "or --fill forward"
        )
    if gaps.all(axis=0).any():
        bad = int(np.flatnonzero(gaps.all(axis=0))[0])
        raise DataError(
            f"{where}: all values of series {bad + 1} are missing, so they cannot be filled; leave the item out"
        )
    filled, steps = values.copy(), np.arange(len(values))
    for column, holes in zip(filled.T, gaps.T, strict=True):
        known = steps[~holes]
        if fill == "linear":
            column[holes] = np.interp(steps[holes], known, column[known])
        else:
            last = np.searchsorted(known, steps[holes], side="right") - 1
            column[holes] = column[known[np.maximum(last, 0)]]
    return filled


def _sha256(items: LabelledItems) -> str:
    content = hashlib.sha256(repr((items.classes, items.lengths.tolist(), items.labels.tolist())).encode())
    for item in items.values:
        content.update(np.ascontiguousarray(item, dtype=np.float64).tobytes())
    return content.hexdigest()
