"""The splits of items: those that the data defines, and the others drawn at random, by class if there are classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nasbench.errors import DataError

__all__ = ["draw_splits", "drawn_note"]

_HELD_OUT = 0.2  # share of the items in each split that the data does not define itself


def draw_splits(
    labels: np.ndarray,
    classes: Sequence[object],
    given: Mapping[str, np.ndarray],
    seed: int,
    held_out: Mapping[str, int] | None = None,
    noun: str = "images",
) -> dict[str, Tensor]:
    """Return the item numbers of each split, in ascending order. Missing splits are drawn from the training items.

    Args:
        labels: Class number of each item.
        classes: The classes. Empty if the items have no labels.
        given: The splits that the data defines itself.
        seed: Seed of the draw.
        held_out: Number of items of each missing split. None means a fifth of the training items, but at least one of
            each class.
        noun: What an item is called in messages.

    Raises:
        DataError: If a class, or the whole, has too few items for the splits.
    """
    indices = {split: np.asarray(numbers) for split, numbers in given.items()}
    rest = indices.get("train", np.arange(len(labels)))
    missing = [split for split in ("test", "val") if split not in indices]
    _check_classes(labels[rest], classes, 1 + len(missing), noun)
    count = max(len(classes), 1, round(_HELD_OUT * len(rest)))  # a stratified draw needs one item per class
    for split in missing:
        size = count if held_out is None else held_out[split]
        from sklearn.model_selection import train_test_split  # importing it takes a second

        by_class = labels[rest] if classes else None
        rest, indices[split] = train_test_split(rest, test_size=size, stratify=by_class, random_state=seed)
    indices["train"] = rest
    return {split: torch.from_numpy(np.sort(numbers)) for split, numbers in indices.items()}


def drawn_note(
    name: str, made: Sequence[str], seed: int, noun: str = "images", *, by_class: bool = True
) -> tuple[str, ...]:
    """Return a sentence about the splits that were drawn. None if the data defines all of them."""
    of = f"all {noun}" if "train" in made else f"the training {noun}"
    drawn = " and ".join(split for split in made if split != "train")
    how = "stratified by class" if by_class else "at random"
    return (f"{name}: {drawn} drawn from {of}, {how}, seed {seed}",) if made else ()


def _check_classes(labels: np.ndarray, classes: Sequence[object], need: int, noun: str) -> None:
    if not classes and len(labels) < need:
        raise DataError(f"there are {len(labels)} training {noun}, and {need} or more are needed, one for every split")
    counts = np.bincount(labels, minlength=len(classes))[: len(classes)]
    few = [f"{name} ({n})" for name, n in zip(classes, counts, strict=True) if n < need]
    if few:
        raise DataError(
            f"classes with too few training {noun}: {', '.join(few[:5])}; each needs {need} or more, "
            "one for every split that is drawn from them"
        )
