"""nasbench: which plug-and-play modules help a network, where, at what real cost, and how sure that is.

Names are loaded on first use, so that `nasbench --help` need not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "Plan": "nasbench.plan",
    "bare_state_dict": "nasbench.insertion",
    "create_module": "nasbench.library",
    "fingerprint": "nasbench.properties.fingerprint",
    "fingerprint_plan": "nasbench.properties.fingerprint",
    "insert": "nasbench.insertion",
    "list_modules": "nasbench.library",
    "load_run": "nasbench.runs",
    "measure": "nasbench.costs",
    "profile": "nasbench.costs.latency",
    "register_formula": "nasbench.costs",
    "register_module": "nasbench.registry",
    "remove": "nasbench.insertion",
    "search": "nasbench.study",
    "slots": "nasbench.backbones",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from nasbench.backbones import slots as slots
    from nasbench.costs import measure as measure
    from nasbench.costs import register_formula as register_formula
    from nasbench.costs.latency import profile as profile
    from nasbench.insertion import bare_state_dict as bare_state_dict
    from nasbench.insertion import insert as insert
    from nasbench.insertion import remove as remove
    from nasbench.library import create_module as create_module
    from nasbench.library import list_modules as list_modules
    from nasbench.plan import Plan as Plan
    from nasbench.properties.fingerprint import fingerprint as fingerprint
    from nasbench.properties.fingerprint import fingerprint_plan as fingerprint_plan
    from nasbench.registry import register_module as register_module
    from nasbench.runs import load_run as load_run
    from nasbench.study import search as search


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'nasbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
