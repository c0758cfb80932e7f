"""Backbone names: built-in forecasting backbones (stems), timm's architectures, a user's `FILE.py:function`.

Nothing here imports torch, and timm is imported only if it is not the recorded version.

timm's names are recorded in `timm_names.json`, which `scripts/update_timm_names` writes. If the installed version of
timm is not the recorded one, timm itself is asked.
"""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from pathlib import Path

from nasbench.backbones.stem_registry import STEMS
from nasbench.errors import UnknownNameError
from nasbench.library.plugins import python_file

__all__ = ["TIMM_NAMES", "backbone_names", "check_backbone_name", "is_file", "is_stem", "is_timm", "stem_names"]

TIMM_NAMES = Path(__file__).with_name("timm_names.json")
"""The file that records timm's names."""


def stem_names() -> tuple[str, ...]:
    """Return the names of all forecasting stems, including those that the user registered, sorted."""
    return tuple(sorted({*_shipped_stems(), *STEMS.registered}))


@cache
def _shipped_stems() -> tuple[str, ...]:
    """Return the names of the stems that ship with nasbench. Each stem has a file of its name."""
    # Importing the stems would register their names too, but it would import torch.
    files = Path(__file__).with_name("stems").glob("*.py")
    return tuple(file.stem for file in files if not file.stem.startswith("_"))


def timm_names() -> tuple[str, ...]:
    """Return the names of all timm architectures, sorted."""
    return _timm("names")


@cache
def _timm(key: str) -> tuple[str, ...]:
    """Return the names of timm's architectures ("names"), or those with the tag of their weights ("tagged")."""
    record = json.loads(TIMM_NAMES.read_text(encoding="utf-8"))
    if record["timm"] == importlib.metadata.version("timm"):
        return tuple(record[key])
    import timm  # another version than the recorded one may have other names

    return tuple(name for name in timm.list_models(include_tags=key == "tagged") if key == "names" or "." in name)


def backbone_names() -> tuple[str, ...]:
    """Return the names of all stems, sorted, followed by those of all timm architectures, sorted."""
    return (*stem_names(), *timm_names())


def is_stem(name: str) -> bool:
    """Whether `name` is a forecasting stem."""
    return name in stem_names()


def is_timm(name: str) -> bool:
    """Whether `name` is a timm architecture, with or without the tag of its weights ("resnet18.a1_in1k")."""
    return name in _timm("tagged" if "." in name else "names")


def is_file(name: str) -> bool:
    """Whether `name` has the form `FILE.py:function`."""
    return name.rpartition(":")[0].endswith(".py")


def check_backbone_name(name: str) -> str:
    """Return `name` if it is a backbone.

    Raises:
        UnknownNameError: If it is not. Suggests the nearest names.
        PluginError: If it is `FILE.py:function` and there is no such file.
    """
    if is_file(name):
        python_file(name)
    elif not (is_stem(name) or is_timm(name)):
        architecture, has_tag, _ = name.partition(".")
        tagged = [each for each in _timm("tagged") if each.startswith(f"{architecture}.")] if has_tag else []
        known = tagged or backbone_names()
        raise UnknownNameError("backbone", name, known, "a timm model, a forecasting backbone, or FILE.py:function")
    return name
