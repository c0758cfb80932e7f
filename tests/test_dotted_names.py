"""Dotted names in messages, docstrings and pages exist, so a reader who follows them finds something."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_DOTTED = re.compile(r"(?<![\w./-])nasbench((?:\.[A-Za-z_]\w*)+)(?![\w/-])")

_NO_IMPORTS = ("nasbench.SLOT", "nasbench.stage", "nasbench.modules", "nasbench.mplstyle")
"""How names of weights in a state dict, an entry-point group and a file begin, which look like dotted names."""


def texts() -> list[tuple[str, str]]:
    """Every string of the package and every page, with its place."""
    found = [(page.name, page.read_text("utf-8")) for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]]
    for file in (ROOT / "nasbench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((f"{file.name}:{node.lineno}", node.value))
    return found


def exists(dotted: str) -> bool:
    value: object = importlib.import_module("nasbench")
    path = "nasbench"
    for part in dotted.split(".")[1:]:
        path += f".{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        value = getattr(value, part)
    return True


def test_they_exist():
    named: dict[str, str] = {}
    for place, text in texts():
        for match in _DOTTED.finditer(text):
            named.setdefault("nasbench" + match[1], place)
    assert len(named) > 20
    missing = {name: place for name, place in named.items() if not name.startswith(_NO_IMPORTS) and not exists(name)}
    assert not missing


@pytest.mark.parametrize("name", ["costs", "registry"])
def test_old_paths_are_attributes(name):
    # Before, `nasbench.costs` was an AttributeError until something had imported it.
    import nasbench

    vars(nasbench).pop(name, None)
    assert getattr(nasbench, name) is importlib.import_module(f"nasbench.{name}")
