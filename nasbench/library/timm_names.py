"""The recorded names of timm's architectures and optimizers. With them, a name is checked without importing timm.

`scripts/update_timm_names` writes the record. If the installed version of timm is not the recorded version, the names
come from timm itself.
"""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from pathlib import Path

__all__ = ["TIMM_NAMES", "names_of_timm", "timm_names"]

TIMM_NAMES = Path(__file__).with_name("timm_names.json")
"""The file that records timm's names."""


@cache
def timm_names(kind: str) -> tuple[str, ...]:
    """Return the names of one kind, sorted.

    Args:
        kind: "architectures", "tagged" (architectures with the tag of their weights) or "optimizers".
    """
    record = json.loads(TIMM_NAMES.read_text(encoding="utf-8"))
    names = record if record["timm"] == importlib.metadata.version("timm") else names_of_timm()
    return tuple(names[kind])


def names_of_timm() -> dict[str, list[str]]:
    """Return the names of every kind in the installed version of timm. This imports timm, which takes seconds."""
    import timm
    import timm.optim

    return {
        "architectures": timm.list_models(),
        "tagged": [name for name in timm.list_models(include_tags=True) if "." in name],
        "optimizers": [str(name) for name in timm.optim.list_optimizers()],
    }
