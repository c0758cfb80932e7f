"""Imports point one way: every file has a rank, and imports only what stands lower or in its own folder."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support import ROOT as REPOSITORY

import nasbench

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

OF_THE_ROOT = {"nasbench.__version__", "nasbench.build_report", "nasbench.summary_html"}
"""All that a file may take from `nasbench` itself. Any other name there is known by its home.

`Run.report` is a promised method of a class below the report, so the root, which is free, builds the report for it. It
makes the summary for a notebook too.
"""

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
    """Yield the line and the dotted module of everything of nasbench that a file imports, by any form of import."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names = [module_of(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert "nasbench" not in names, f"line {node.lineno}: import what you need of nasbench, not all of it"
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            names = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        for name in dict.fromkeys(names):
            if name.startswith("nasbench.") and name not in OF_THE_ROOT:
                yield node.lineno, name


def module_of(module: str, name: str) -> str:
    """Return the module that `from module import name` imports: the name itself, or the one that holds it."""
    if module == "nasbench" and name in nasbench._HOME:
        return nasbench._HOME[name]
    inside = f"{module}.{name}"
    return inside if module == "nasbench" or file_of(inside) else module


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
        ("def late():\n    from nasbench import search", "errors"),  # by way of the lazy root
        ("def late():\n    return importlib.import_module('nasbench.report.page')", "runs"),
    ],
)
def test_the_test_sees_every_form(source, own):
    assert len(upward(source, own)) == 1


def test_the_test_refuses_the_root_as_a_whole():
    with pytest.raises(AssertionError, match="line 1: import what you need"):
        upward("import nasbench", "text")


def test_the_test_lets_pass_what_points_down():
    source = "from nasbench.errors import InputError\nfrom nasbench import __version__, load_run, files"
    assert upward(source, "runs") == []


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


def underscored(source: str, folder: str) -> list[str]:
    """Return the imports of a file in a folder (dotted) that take what begins with an underscore in another folder."""
    found = []
    for node in ast.walk(ast.parse(source)):
        taken: list[str] = []
        if isinstance(node, ast.ImportFrom):
            taken = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            taken = [alias.name for alias in node.names]
        for name in taken:
            if not name.startswith("nasbench.") or name in OF_THE_ROOT:
                continue
            parts = name.split(".")
            private = next((index for index, part in enumerate(parts) if part.startswith("_")), None)
            if private is not None and home_of(".".join(parts[:private])) != folder:
                found.append(f"line {node.lineno} imports {name}")
    return found


def home_of(dotted: str) -> str:
    """Return the folder, dotted, that a module or folder is or lies in."""
    return dotted if REPOSITORY.joinpath(*dotted.split(".")).is_dir() else dotted.rpartition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_underscored_name_crosses_folders(file):
    """What begins with an underscore belongs to its folder: others import the public names alone."""
    folder = ".".join(("nasbench", *file.relative_to(ROOT).parent.parts))
    assert underscored(file.read_text(encoding="utf-8"), folder) == []


@pytest.mark.parametrize(
    "source",
    [
        "import nasbench.spaces._space",
        "from nasbench.spaces import _space",
        "from nasbench.spaces._space import Space",
        "def late():\n    from nasbench.runs.run import _row",
    ],
)
def test_the_test_sees_every_underscore(source):
    assert len(underscored(source, "nasbench.report")) == 1


def test_no_folder_hides_a_public_function():
    """`nasbench.search` is a function: a file or folder of that name would overwrite it when it is imported."""
    names = {path.stem for path in ROOT.iterdir()}
    assert not names & set(nasbench.__all__)
