"""Find the module of a plan in which an exception was raised. Imports no torch."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path

from nasbench.errors import message_of
from nasbench.library.registry import MODULES

__all__ = ["BLAMED", "fault_place", "fault_text", "said"]

BLAMED = "nasbench_blamed"
"""Attribute of an exception that holds the module whose result is wrong, where the module itself raised nothing."""


def said(error: BaseException) -> str:
    """Return the type and the first line of an exception, and of `sys.exit` what it does.

    Example:
        >>> said(ValueError("boom")), said(SystemExit(7))
        ('ValueError: boom', 'it ends the process with sys.exit(7)')
    """
    if isinstance(error, SystemExit):
        return f"it ends the process with sys.exit({'' if error.code is None else repr(error.code)})"
    lines = message_of(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def fault_text(error: BaseException) -> str:
    """Return what `said` says of an exception. If a module raised it, its place comes first.

    Example:
        >>> fault_text(ValueError("boom"))
        'ValueError: boom'
    """
    plan, module = _places(error)
    return ": ".join(filter(None, [", ".join(filter(None, [plan, module])), said(error)]))


def fault_place(error: BaseException) -> str:
    """Return the plan, slot, module and line in which an exception was raised, or "" if no module of a plan raised it.

    The text is such as "plan stage2=mine, slot stage2, module mine (mine.py:17)". The place is found in the traceback,
    so that it costs nothing while a model runs.
    """
    plan, module = _places(error)
    return ", ".join(filter(None, [plan, module])) if plan else ""


def _places(error: BaseException) -> tuple[str, str]:
    """Return the plan with its slot, and the module with its line. Each is "" if it is not known."""
    place, inside = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        runs, file = frame.f_locals.get("self"), frame.f_code.co_filename
        if getattr(type(runs), "is_plugin", False):
            place = str(getattr(runs, "place", ""))
        elif name := _module_name(runs, file):
            inside = f"module {name} ({Path(file).name}:{line})"
    blamed = getattr(error, BLAMED, None)
    if blamed is not None and (own := inspect.getsourcefile(type(blamed))) and (name := _module_name(blamed, own)):
        inside = f"module {name} ({Path(own).name}:{type(blamed).forward.__code__.co_firstlineno})"
    return place, inside


def _module_name(runs: object, file: str) -> str:
    """Return the registered name of an object whose class the file registers, or ""."""
    of_file = (name for name in MODULES.names_of(file) if MODULES.get(name).registered is type(runs))
    return next(of_file, "")
