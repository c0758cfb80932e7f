"""nasbench: which plug-and-play modules help a network, where, at what real cost, and how sure that is.

Names are loaded on first use, so that `nasbench --help` need not import torch.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The public names and the modules that define them. The imports below repeat them for type checkers.
_HOME = {
    "Plan": "nasbench.library.plan",
    "bare_state_dict": "nasbench.backbones.insertion",
    "create_module": "nasbench.library.modules",
    "fingerprint": "nasbench.measurement.properties.fingerprint",
    "fingerprint_plan": "nasbench.measurement.properties.fingerprint",
    "insert": "nasbench.backbones.insertion",
    "list_modules": "nasbench.library.modules",
    "load_atlas": "nasbench.evidence.atlas",
    "load_run": "nasbench.runs.run",
    "measure": "nasbench.measurement.costs",
    "profile": "nasbench.measurement.latency.profiler",
    "register_formula": "nasbench.measurement.costs",
    "register_module": "nasbench.library.registry",
    "remove": "nasbench.backbones.insertion",
    "search": "nasbench.study.search",
    "slots": "nasbench.backbones",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from pathlib import Path

    from nasbench.backbones import slots as slots
    from nasbench.backbones.insertion import bare_state_dict as bare_state_dict
    from nasbench.backbones.insertion import insert as insert
    from nasbench.backbones.insertion import remove as remove
    from nasbench.evidence.atlas import load_atlas as load_atlas
    from nasbench.library.modules import create_module as create_module
    from nasbench.library.modules import list_modules as list_modules
    from nasbench.library.plan import Plan as Plan
    from nasbench.library.registry import register_module as register_module
    from nasbench.measurement.costs import measure as measure
    from nasbench.measurement.costs import register_formula as register_formula
    from nasbench.measurement.latency.profiler import profile as profile
    from nasbench.measurement.properties.fingerprint import fingerprint as fingerprint
    from nasbench.measurement.properties.fingerprint import fingerprint_plan as fingerprint_plan
    from nasbench.runs.run import Run
    from nasbench.runs.run import load_run as load_run
    from nasbench.study.search import search as search


def __getattr__(name: str) -> object:
    if f"nasbench.{name}" in _MovedModules.homes:
        return importlib.import_module(f"nasbench.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'nasbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def build_report(run: Run) -> Path:
    """Build the report of a run. `Run.report` calls this, because only this file may import every layer."""
    from nasbench.report.assembly import build
    from nasbench.report.notebook import ReportPath

    return ReportPath(build(run))


def summary_html(run: Run) -> str:
    """Return what a notebook shows of a run. `Run._repr_html_` calls this, for the reason above."""
    from nasbench.report import notebook

    return notebook.summary_html(run)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _MovedModules:
    """Import modules under their old dotted paths, which some plug-in files and messages still use.

    An old path gives the module itself and not a copy. So there is only one registry and only one table of formulas.
    """

    homes = {  # noqa: RUF012  # never changed
        "nasbench.registry": "nasbench.library.registry",
        "nasbench.costs": "nasbench.measurement.costs",
    }

    neighbour = ("api", "lib")
    """The modules of NAS-Bench-101 (google-research/nasbench), a benchmark of networks with the same import name."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[2].partition(".")[0] in self.neighbour and name.startswith("nasbench."):
            raise ModuleNotFoundError(
                f"{name} belongs to NAS-Bench-101 (google-research/nasbench), which has the same import name as the "
                f"nasbench in {__path__[0]}; the two need separate environments"
            )
        for old, new in self.homes.items():
            if name == old or name.startswith(old + "."):
                return ModuleSpec(name, self, origin=new + name[len(old) :])  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        assert spec.origin is not None
        module = importlib.import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        # The import system replaced the module's own spec by that of the old path.
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _MovedModules())  # before the finders that would load a second copy
