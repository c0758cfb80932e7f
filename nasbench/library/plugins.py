"""Load plug-ins from the built-in folder, a user's folder, a single file, or installed entry points.

If one file of a folder fails to load, the others are still loaded. The failure becomes a `Problem` with file and line.
The problem is shown as a warning, and again in the message about an unknown name. If the user gave a single file, the
error is raised at once.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType, ModuleType

from nasbench import builtin
from nasbench.errors import PluginError, message_of
from nasbench.library.declarations import read_declarations
from nasbench.library.faults import said
from nasbench.library.registry import MODULES

__all__ = [
    "ENTRY_POINT_GROUP",
    "Problem",
    "UserFile",
    "builtin_files",
    "import_builtin",
    "load_builtin",
    "load_path",
    "load_python_file",
    "loaded_files",
    "locate",
    "problems",
    "python_file",
    "skip",
]

ENTRY_POINT_GROUP = "nasbench.modules"

MOST_FILES = 500
"""Largest number of files in a folder of plug-ins. A folder with more files, such as a home folder, contains other
programs too, and they would run, because loading a file runs it."""


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


class UserFile(importlib.machinery.SourceFileLoader):
    """Load a user's file from the bytes that were read when this loader was made.

    Python's own loader writes a compiled copy beside the file, even in a run folder, which a reader must not change. It
    also runs such a copy instead of the source.

    Args:
        name: The name of the module.
        path: The file.

    Raises:
        OSError: If the file cannot be read.
    """

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, str(path))
        self.source = path.read_bytes()

    @cached_property
    def sha256(self) -> str:
        """The hash of the source."""
        return hashlib.sha256(self.source).hexdigest()

    def get_data(self, path: str) -> bytes:
        """Return the source that was read, even if the file was changed or removed since then."""
        return self.source if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source."""
        return compile(self.source, self.path, "exec", dont_inherit=True)

    @property
    def neighbours(self) -> list[str]:
        """The Python modules that the file imports from its own folder, sorted. A run stores no copies of them."""
        folder = Path(self.path).parent
        tree = ast.parse(self.source)
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        tops = {name.partition(".")[0] for name in names} - {"", "nasbench", *sys.stdlib_module_names}
        beside = ((top, [folder / f"{top}.py", folder / top / "__init__.py"]) for top in tops)
        return sorted(top for top, files in beside if any(file.is_file() for file in files))


@dataclass(frozen=True)
class _Loaded:
    """A user's file that was loaded: its Python module, its loader and the names under which it registered modules."""

    module: ModuleType
    file: UserFile
    names: tuple[str, ...]

    @property
    def is_registered(self) -> bool:
        """Whether the file registered modules and all of them are still registered."""
        return bool(self.names) and set(self.names) <= set(MODULES.names_of(self.file.path))


_loaded: dict[Path, _Loaded] = {}
"""The result of the last load of each file, by absolute path."""

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
            with redirect_stdout(sys.stderr):
                loaded = entry.load()
                # An entry point names a class, a Python module or a function. Importing the first two registers their
                # modules, but a function must be called.
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
        PluginError: If `path` does not exist, if it is a folder without such a file or with more than `MOST_FILES` of
            them, or if it is a file that fails to load. If one file in a folder fails to load, this is only a warning,
            and the other files are loaded.
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
    if len(files) > MOST_FILES:
        raise PluginError(
            f"{path} contains {len(files):,} .py files, and at most {MOST_FILES} are loaded; give the folder of the "
            "plug-ins themselves, or one file"
        )
    for file in files:
        try:
            load_python_file(file)
        except PluginError as error:
            _report(Problem(*_split(str(error), file)))


def python_file(text: str) -> tuple[Path, str]:
    """Split `FILE.py[:NAME]` into the absolute path of the file and the name, which is "" if the text has none.

    Raises:
        PluginError: If there is no such file.
    """
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = Path(file).expanduser().resolve()
    if not file.strip():
        raise PluginError("the name of a file is empty; write FILE.py, or FILE.py:NAME")
    if path.is_dir():
        raise PluginError(f"{path} is a folder; give one of its files: FILE.py, or FILE.py:NAME")
    if not path.is_file():
        raise PluginError(f"no file at {path}")
    return path, name


def load_python_file(path: str | Path) -> ModuleType:
    """Import a user's file under a private name, so that it hides no other Python module.

    If another file with the same content has registered its modules, this file is the same plug-in. It is not imported,
    and the Python module of the other file is returned. So a plug-in and its copy in a run folder can both be loaded.

    Raises:
        PluginError: If the file does not exist, cannot be read or raises an error. For an error that it raises, the
            message is "file:line: error", and everything that the file registered is discarded.
    """
    path = Path(path).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no file at {path}")
    # The hash of the path distinguishes files with the same name in different folders.
    name = f"_nasbench_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    try:
        file = UserFile(name, path)
    except OSError as error:
        raise PluginError(f"cannot read {path}: {error.strerror}") from None
    same = (each for other, each in _loaded.items() if other != path and each.file.sha256 == file.sha256)
    if (before := next((each for each in same if each.is_registered), None)) is not None:
        _loaded[path] = before
        return before.module
    spec = importlib.util.spec_from_file_location(name, path, loader=file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before the file runs, because dataclasses and pickle look up its module by name
    try:
        with redirect_stdout(sys.stderr):  # what a plug-in prints must not be part of a command's JSON
            file.exec_module(module)
    except BaseException as error:  # also SystemExit: a file that calls sys.exit must not end the command
        sys.modules.pop(name, None)
        _loaded.pop(path, None)
        MODULES.drop(str(path))
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"{locate(error, path)}: {_describe(error)}") from error
    _loaded[path] = _Loaded(module, file, tuple(MODULES.names_of(str(path))))
    return module


def loaded_files(path: str | Path) -> dict[Path, UserFile]:
    """Return the loaded files of a user's path (a file or a folder), by absolute path."""
    path = Path(path).expanduser().resolve()
    candidates = _plugin_files(path) if path.is_dir() else [path]
    return {file: _loaded[file].file for file in candidates if file in _loaded}


def skip(origin: str, message: str) -> None:
    """Warn that plug-ins are not loaded, and repeat this in the message about an unknown name.

    Args:
        origin: The path or the description by which the message names the plug-ins.
        message: Why they are not loaded, in one line.
    """
    _report(Problem(origin, message))


def _plugin_files(root: Path) -> list[Path]:
    return sorted(
        file
        for file in root.rglob("*.py")
        if not any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)
    )


def locate(error: BaseException, path: Path) -> str:
    """Return "file:line" of the deepest stack frame in the file `path`, where its author can correct the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return said(error)
    text = error.msg if isinstance(error, SyntaxError) else message_of(error)
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"


def _split(text: str, file: Path) -> tuple[str, str]:
    origin, _, message = text.partition(": ")
    return (origin, message) if origin.startswith(str(file)) else (str(file), text)


def _report(problem: Problem) -> None:
    if problem not in _problems:
        _problems.append(problem)
        warnings.warn(f"plug-in skipped: {problem}", stacklevel=3)
