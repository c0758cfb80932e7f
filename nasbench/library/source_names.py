"""The names that a user's Python file defines, read from its source. The file is not run, so nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from nasbench.errors import UnknownNameError
from nasbench.library.plugins import python_file

__all__ = ["check_defined", "not_defined"]

_DYNAMIC = {"globals", "locals", "vars", "setattr", "exec"}
"""Functions with which a file can define names that are not visible in its source."""


def check_defined(text: str, kind: str, default: str = "") -> None:
    """Check that the file in `FILE.py:NAME` exists and, as far as its source shows, defines the name.

    Args:
        text: `FILE.py:NAME` or `FILE.py`.
        kind: What the name stands for, in the singular ("backbone", "task"), for messages.
        default: The name that is checked if `text` is `FILE.py`.

    Raises:
        PluginError: If there is no such file.
        UnknownNameError: If the file does not define the name.
    """
    file, name = python_file(text)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # the error appears with its line when the file is loaded later
    names = set(_bound(tree))
    # A star import, a `__getattr__` of the file and the functions in `_DYNAMIC` can define any name.
    dynamic = any(isinstance(node, ast.Name) and node.id in _DYNAMIC for node in ast.walk(tree))
    if (name or default) not in names and not names & {"*", "__getattr__"} and not dynamic:
        defined = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        raise not_defined(kind, name or default, file, [public for public in defined if not public.startswith("_")])


def not_defined(kind: str, name: str, file: str | Path, known: list[str]) -> UnknownNameError:
    """Return the error that a file does not define a name. The error suggests the nearest name in `known`."""
    return UnknownNameError(kind, name, known, f"{file} defines nothing of that name")


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that statements bind at the top level of a Python module. A star import gives "*"."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name  # names inside it do not belong to the module
        elif isinstance(child, ast.alias):
            yield (child.asname or child.name).partition(".")[0]
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        else:
            yield from _bound(child)
