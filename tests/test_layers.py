"""Imports point one way: every file has a rank, and imports only what stands lower or in its own folder."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT as REPOSITORY

ROOT = REPOSITORY / "nasbench"

LAYERS = (
    ("errors",),
    ("files", "text", "objectives", "ops"),
    ("library",),
    ("tasks", "backbones", "spaces"),
    ("training", "measurement", "evidence"),
    ("runs",),
    ("study", "testing"),
    ("report",),
    ("cli",),
)
"""From the ground up, as DESIGN.md draws it. What stands together does not import one another."""

SAME_ROOM = {"builtin": "library"}
"""The shim that carries the content is part of the library's room."""

FREE = {"__init__", "__main__"}
"""`nasbench` itself, which loads names lazily, and the command."""

RANKS = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}


def unit_of(dotted: str) -> str:
    """Return the folder or file right below `nasbench` that a dotted name lies in."""
    unit = dotted.split(".")[1]
    return SAME_ROOM.get(unit, unit)


def file_of(dotted: str) -> Path | None:
    """Return the file that holds a dotted name's module; None where the name is no module."""
    path = REPOSITORY.joinpath(*dotted.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported(tree: ast.AST):
    """Yield the line and the dotted module of everything of nasbench that a file imports, by either form of import."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if file_of(name) else str(node.module) for name in inside]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in dict.fromkeys(names):
            if name.startswith("nasbench."):
                yield node.lineno, name


def upward(source: str, own: str) -> list[str]:
    """Return the imports of a file in the unit `own` that do not point down."""
    found = []
    for line, name in imported(ast.parse(source)):
        other = unit_of(name)
        if other != own and RANKS[other] >= RANKS[own]:
            found.append(f"line {line}: {own} imports {name}")
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    unit = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if unit in FREE:
        return
    own = SAME_ROOM.get(unit, unit)
    assert own in RANKS, f"{unit} has no rank; give it one in LAYERS"
    assert upward(file.read_text(encoding="utf-8"), own) == []


def test_every_unit_is_ranked_and_there():
    """A rank without a folder or file is a leftover."""
    there = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in FILES} - FREE
    assert there == {*RANKS, *SAME_ROOM}


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("from nasbench.report import build", "runs"),
        ("import nasbench.report.page", "runs"),
        ("from nasbench import report", "runs"),
        ("def late():\n    from nasbench.cli import console", "report"),
        ("from nasbench.training.loop import train", "measurement"),  # side by side
        ("import torch, nasbench.study.search as s", "runs"),
    ],
)
def test_the_test_sees_both_forms(source, own):
    assert len(upward(source, own)) == 1


def test_the_test_lets_pass_what_points_down():
    assert upward("from nasbench.errors import InputError\nfrom nasbench import load_run, files", "runs") == []


FOLDERS = sorted({file.relative_to(ROOT).parts[0] for file in FILES if file.parent != ROOT})


def circle_in(sources: Mapping[Path, str]) -> list[str]:
    """Return the files of one circle of imports among some files, each importing the next; [] where there is none.

    An import inside a function or under TYPE_CHECKING counts: two files that need each other are one thing.
    """
    # a sorter's edges lead to what comes first, hence the circle it reports is read from its end
    needs = {file: [file_of(name) for _, name in imported(ast.parse(text))] for file, text in sources.items()}
    try:
        TopologicalSorter({file: [f for f in after if f in sources] for file, after in needs.items()}).prepare()
    except CycleError as error:
        return [file.relative_to(ROOT).as_posix() for file in reversed(error.args[1])]
    return []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circles_within_a_folder(folder):
    assert circle_in({file: file.read_text(encoding="utf-8") for file in (ROOT / folder).rglob("*.py")}) == []


@pytest.mark.parametrize(
    "source",
    [
        "from nasbench.spaces._space import Space",
        "def late():\n    from nasbench.spaces import _space",
        "if TYPE_CHECKING:\n    import nasbench.spaces._space",
        "from nasbench.spaces import Space",  # by way of the folder's own list of names
    ],
)
def test_the_test_sees_every_circle(source):
    spaces = {file: file.read_text(encoding="utf-8") for file in (ROOT / "spaces").rglob("*.py")}
    circle = circle_in(spaces | {ROOT / "spaces/_files.py": source})
    assert circle[0] == circle[-1]
    assert "spaces/_files.py" in circle


def parent_of(dotted: str) -> str:
    return dotted.rpartition(".")[0]


def test_no_underscored_name_crosses_folders():
    """What begins with an underscore belongs to its folder: others import the public names alone."""
    found = []
    for file in FILES:
        folder = ".".join(("nasbench", *file.relative_to(ROOT).parent.parts))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("nasbench"):
                continue
            names = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name != "__version__"]
            private = any(part.startswith("_") for part in node.module.split("."))
            home = node.module if (ROOT.parent / Path(*node.module.split("."))).is_dir() else parent_of(node.module)
            if (private or names) and home != folder:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} imports {node.module} {names}")
    assert found == []


def test_no_folder_hides_a_public_function():
    """`nasbench.search` is a function: a file or folder of that name would overwrite it when it is imported."""
    import nasbench

    names = {path.stem for path in ROOT.iterdir()}
    assert not names & set(nasbench.__all__)
