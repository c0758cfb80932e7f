"""Read the text of a pretext, such as `simclr(temperature=0.2)`, and create it for a host. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasbench.errors import InputError, UnknownNameError
from nasbench.library.expression import Leaf, parse
from nasbench.library.modules import create_pretext, list_modules, module_spec
from nasbench.library.registry import MODULES, ModuleSpec

if TYPE_CHECKING:
    from nasbench.ops.pretext import Pretext

__all__ = ["SUPERVISED", "build_pretext", "check_learn", "labels_read", "pretexts_for", "spec_of"]

SUPERVISED = "supervised"
"""The value of the setting `learn` for training with labels."""


def check_learn(learn: str) -> str:
    """Return the canonical text of the setting `learn`: "supervised", or a pretext with its hyper-parameters.

    Raises:
        UnknownNameError: If no pretext has this name, or a hyper-parameter does not exist.
        InputError: If it is no pretext, or a value is not allowed.

    Example:
        >>> check_learn("simclr(temperature=0.5, crop=.2)")
        'simclr(crop=0.2)'
    """
    return learn if learn == SUPERVISED else _leaf(learn).canonical()


def pretexts_for(dims: int) -> list[str]:
    """Return the names of the pretexts for images (2) or series (1)."""
    return list_modules(kind="pretext", dims=dims)


def build_pretext(
    learn: str, channels: int | Sequence[int], *, items: int, input_size: Sequence[int], num_classes: int | None = None
) -> Pretext:
    """Create the pretext that a text names, for a host with features of width `channels`, as `create_pretext` does.

    Raises:
        InputError: If it does not support the width, the data or its hyper-parameters.
    """
    part = _leaf(learn)
    given = {"items": items, "input_size": input_size, "num_classes": num_classes}
    return create_pretext(part.name, channels, **given, **dict(part.hyper))  # type: ignore[arg-type]


def spec_of(learn: str) -> ModuleSpec:
    """Return the declaration of the pretext that a text names."""
    return module_spec(_leaf(learn).name)


def labels_read(learn: str) -> float:
    """Return the share of the training items whose labels a pretext reads, as it declares it: 0 if it reads none.

    Example:
        >>> labels_read("simclr"), labels_read("semi_supervised"), labels_read("semi_supervised(share=0.25)")
        (0.0, 0.1, 0.25)
    """
    spec = spec_of(learn)
    cls: Any = spec.cls
    if "labels" not in cls.reads:
        return 0.0
    if not cls.label_share:
        return 1.0
    return float(dict(_leaf(learn).hyper).get(cls.label_share, spec.hyperparameters[cls.label_share].default))


def _leaf(learn: str) -> Leaf:
    known = [SUPERVISED, *list_modules(kind="pretext")]
    name = learn.partition("(")[0].strip()
    if name.isidentifier() and name not in MODULES:
        raise UnknownNameError("way to learn", name, known, "`nasbench modules` lists the pretexts")
    part = parse(learn)
    if not isinstance(part, Leaf) or module_spec(part.name).kind != "pretext":
        raise InputError(f"learn={learn!r} is no pretext; allowed: {', '.join(known)}")
    return part
