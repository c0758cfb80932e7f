"""Load plug-ins from the built-in folder, a user's folder, a single file, or installed entry points.

If one file of a folder fails to load, the others are still loaded. The failure becomes a `Problem` with file and line.
It is shown as a warning, and again in the message about an unknown name. If the user gave a single file, the error is
raised at once.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from nasbench import builtin
from nasbench.errors import PluginError, message_of
from nasbench.library.declarations import read_declarations
from nasbench.library.registry import MODULES

__all__ = [
    "ENTRY_POINT_GROUP",
    "Problem",
    "builtin_files",
    "import_builtin",
    "load_builtin",
    "load_path",
    "load_python_file",
    "problems",
    "python_file",
]

ENTRY_POINT_GROUP = "nasbench.modules"


@dataclass(frozen=True)
class Problem:
    """A plug-in that could not be loaded.

    Attributes:
        origin: "file:line" of the error, or the name of the entry point.
        message: The error, in one line.
    """

    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"


_problems: list[Problem] = []


def problems() -> tuple[Problem, ...]:
    """Return the plug-ins that failed to load so far in this process."""
    return tuple(_problems)


@cache
def load_builtin() -> None:
    """Load the built-in modules, then the installed entry points. Runs once per process."""
    root = builtin.content_folder("modules")
    declarations = read_declarations(root)
    for file in _plugin_files(root):
        if declarations.holds(root, file):  # with an up-to-date record neither the file nor torch is imported
            for spec in declarations.of(root, file):
                name = spec.home.partition(":")[2]
                MODULES.add(spec.name, spec, origin=spec.origin, identity=f"{file}:{name}")
            for name, reason in declarations.refused_by(root, file).items():
                MODULES.refuse(name, reason)
        else:
            import_builtin(file)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = entry.load()
            # Loading a class or a module registers it. A function must be called.
            if callable(loaded) and not isinstance(loaded, type):
                loaded()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a broken package must not stop the built-in modules, whatever it raises
            _report(Problem(f"entry point {entry.name} = {entry.value}", _describe(error)))


def import_builtin(file: Path) -> None:
    """Import a built-in plug-in file, which registers its modules."""
    dotted = ".".join(file.relative_to(builtin.content_folder("modules")).with_suffix("").parts)
    importlib.import_module(f"nasbench.builtin.modules.{dotted}")


def builtin_files() -> list[Path]:
    """Return the paths of the built-in plug-in files, sorted."""
    return _plugin_files(builtin.content_folder("modules"))


def load_path(path: str | Path) -> None:
    """Load a user's plug-ins.

    Args:
        path: A file, or a folder whose `*.py` files are loaded at any depth. Files and folders whose names begin with
            `_` or `.` are skipped.

    Raises:
        PluginError: If `path` does not exist, if it is a folder without such a file, or if it is a file that fails to
            load. If a file in a folder fails to load, there is a warning, and the other files are loaded.
    """
    load_builtin()
    path = Path(path).expanduser().resolve()
    if path.is_file():
        load_python_file(path)
        return
    if not path.is_dir():
        raise PluginError(f"no module file or folder at {path}")
    files = _plugin_files(path)
    if not files:
        raise PluginError(f"{path} contains no .py file")
    for file in files:
        try:
            load_python_file(file)
        except PluginError as error:
            _report(Problem(*_split(str(error), file)))


def python_file(text: str) -> tuple[Path, str]:
    """Split `FILE.py[:NAME]` into the absolute path of the file and the name. The name is "" if none is given.

    Raises:
        PluginError: If there is no such file.
    """
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no file at {path}")
    return path, name


def load_python_file(path: str | Path) -> ModuleType:
    """Import a user's file under a private name, so that it hides no other module.

    Raises:
        PluginError: "file:line: fault". Everything that the file registered is discarded.
    """
    path = Path(path).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no file at {path}")
    # The hash of the path distinguishes files with the same name in different folders.
    name = f"_nasbench_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution, because dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # also SystemExit: a file that calls sys.exit must not end the command
        sys.modules.pop(name, None)
        MODULES.drop(str(path))
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"{_locate(error, path)}: {_describe(error)}") from error
    return module


def _plugin_files(root: Path) -> list[Path]:
    return sorted(
        file
        for file in root.rglob("*.py")
        if not any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)
    )


def _locate(error: BaseException, path: Path) -> str:
    """Return "file:line" of the deepest frame inside `path`, where its author can correct the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the process with sys.exit({'' if error.code is None else repr(error.code)})"
    text = error.msg if isinstance(error, SyntaxError) else message_of(error)
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"


def _split(text: str, file: Path) -> tuple[str, str]:
    origin, _, message = text.partition(": ")
    return (origin, message) if origin.startswith(str(file)) else (str(file), text)


def _report(problem: Problem) -> None:
    if problem not in _problems:
        _problems.append(problem)
        warnings.warn(f"plug-in skipped: {problem}", stacklevel=3)
