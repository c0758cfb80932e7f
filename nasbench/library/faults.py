"""Find the module of a plan in which an exception was raised. Imports no torch."""

from __future__ import annotations

import traceback
from pathlib import Path

from nasbench.errors import message_of
from nasbench.library.registry import MODULES

__all__ = ["fault_place", "fault_text"]


def fault_text(error: BaseException) -> str:
    """Return the type and the first line of an exception. If a module of a plan raised it, its place comes first.

    Example:
        >>> fault_text(ValueError("boom"))
        'ValueError: boom'
    """
    lines = message_of(error).strip().splitlines()
    place = fault_place(error)
    return f"{place}{': ' if place else ''}{type(error).__name__}: {lines[0] if lines else 'no message'}"


def fault_place(error: BaseException) -> str:
    """Return the plan, slot, module and line in which an exception was raised, or "" if no module of a plan raised it.

    The text is such as "plan stage2=mine, slot stage2, module mine (mine.py:17)". The place is found in the traceback,
    so that it costs nothing while a model runs.
    """
    place, inside = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        runs, file = frame.f_locals.get("self"), frame.f_code.co_filename
        if getattr(type(runs), "is_plugin", False):
            place = str(getattr(runs, "place", ""))
        elif place and (name := _module_name(runs, file)):
            inside = f", module {name} ({Path(file).name}:{line})"
    return place + inside if place else ""


def _module_name(runs: object, file: str) -> str:
    """Return the registered name of an object whose class the file registers, or ""."""
    of_file = (name for name in MODULES.names_of(file) if MODULES.get(name).registered is type(runs))
    return next(of_file, "")
