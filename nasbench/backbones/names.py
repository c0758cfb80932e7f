"""Backbone names: built-in backbones ("stems"), timm's architectures, a user's `FILE.py:function`.

Nothing here imports torch. timm's names come from a list that ships with nasbench. timm itself is imported only if its
installed version is not the version of the list.

The path of a file of weights is checked here too, so that both checks come before a backbone is built.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nasbench.backbones.stem_registry import STEMS
from nasbench.errors import BackboneError, UnknownNameError
from nasbench.library.source_names import check_defined
from nasbench.library.timm_names import timm_names

__all__ = [
    "SR_STEMS", "backbone_names", "check_backbone_name", "check_checkpoint", "is_file", "is_sr_stem", "is_stem",
    "is_timm", "stem_names",
]  # fmt: skip

SR_STEMS = ("sr_residual",)
"""The built-in backbones for super-resolution. They return one map, which is as large as the image."""


def stem_names() -> tuple[str, ...]:
    """Return the names of all forecasting backbones, including those that the user registered, sorted."""
    return tuple(sorted({*_shipped_stems(), *STEMS.registered}))


@cache
def _shipped_stems() -> tuple[str, ...]:
    """Return the names of the forecasting backbones that ship with nasbench. Each has a file of this name."""
    # Importing these files would register the names too, but it would import torch.
    files = Path(__file__).with_name("stems").glob("*.py")
    return tuple(file.stem for file in files if not file.stem.startswith("_"))


def backbone_names() -> tuple[str, ...]:
    """Return the names of all built-in backbones, sorted, and then those of all timm architectures, sorted."""
    return (*sorted((*stem_names(), *SR_STEMS)), *timm_names("architectures"))


def is_stem(name: str) -> bool:
    """Return whether `name` is a built-in forecasting backbone, or one that the user registered."""
    return name in stem_names()


def is_sr_stem(name: str) -> bool:
    """Return whether `name` is a built-in backbone for super-resolution."""
    return name in SR_STEMS


def is_timm(name: str) -> bool:
    """Return whether `name` is a timm architecture, alone or with the tag of its weights ("resnet18.a1_in1k")."""
    return name in timm_names("tagged" if "." in name else "architectures")


def is_file(name: str) -> bool:
    """Return whether `name` has the form `FILE.py:function`."""
    return name.rpartition(":")[0].endswith(".py")


def check_backbone_name(name: str) -> str:
    """Return `name` if it is a backbone.

    Raises:
        UnknownNameError: If it is not a backbone. The message suggests the nearest names.
        PluginError: If it is `FILE.py:function` and there is no such file.
    """
    if is_file(name):
        check_defined(name, "backbone")
    elif not (is_stem(name) or is_sr_stem(name) or is_timm(name)):
        architecture, has_tag, _ = name.partition(".")
        tagged = (
            [tagged_name for tagged_name in timm_names("tagged") if tagged_name.startswith(f"{architecture}.")]
            if has_tag
            else []
        )
        known = tagged or backbone_names()
        raise UnknownNameError("backbone", name, known, "a timm model, a built-in backbone, or FILE.py:function")
    return name


def check_checkpoint(file: str | Path) -> None:
    """Check that a file of weights exists.

    Raises:
        BackboneError: If it does not exist.
    """
    if not Path(file).is_file():
        raise BackboneError(f"no checkpoint at {file}")
