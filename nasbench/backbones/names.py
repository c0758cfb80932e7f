"""Backbones by name: stems, timm's architectures, a user's `FILE.py:function`. Imports neither torch nor timm.

The names of timm are on record in `timm_names.json`, which `scripts/update_timm_names` writes. Another version of timm
than that of the record is asked itself.
"""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from pathlib import Path

from nasbench.backbones.stem_registry import STEMS
from nasbench.errors import UnknownNameError

__all__ = ["TIMM_NAMES", "backbone_names", "check_backbone_name", "is_file", "is_stem", "is_timm", "stem_names"]

TIMM_NAMES = Path(__file__).with_name("timm_names.json")
"""The record of timm's names."""


def stem_names() -> tuple[str, ...]:
    """Return the names of the forecasting stems, a user's own included."""
    return tuple(sorted({*_shipped_stems(), *STEMS.registered}))


@cache
def _shipped_stems() -> tuple[str, ...]:
    """Each is a file of its own, of the same name."""
    files = Path(__file__).with_name("stems").glob("*.py")
    return tuple(file.stem for file in files if not file.stem.startswith("_"))


@cache
def timm_names() -> tuple[str, ...]:
    """Return the names of all timm architectures, sorted."""
    record = json.loads(TIMM_NAMES.read_text(encoding="utf-8"))
    if record["timm"] == importlib.metadata.version("timm"):
        return tuple(record["names"])
    import timm

    return tuple(timm.list_models())


def backbone_names() -> tuple[str, ...]:
    """Return the names of all stems and of all timm architectures, sorted each."""
    return (*stem_names(), *timm_names())


def is_stem(name: str) -> bool:
    """Whether `name` is a forecasting stem."""
    return name in stem_names()


def is_timm(name: str) -> bool:
    """Whether `name` is an architecture of timm, with or without the tag of its weights ("resnet18.a1_in1k")."""
    return name.partition(".")[0] in timm_names()


def is_file(name: str) -> bool:
    """Whether `name` is `FILE.py:function`."""
    return name.rpartition(":")[0].endswith(".py")


def check_backbone_name(name: str) -> str:
    """Return `name`, if there is such a backbone.

    Raises:
        UnknownNameError: If there is none; the nearest names are offered.
    """
    if not (is_file(name) or is_stem(name) or is_timm(name)):
        raise UnknownNameError("backbone", name, backbone_names(), "a timm model, a stem, or FILE.py:function")
    return name
