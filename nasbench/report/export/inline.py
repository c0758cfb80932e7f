"""Collect the source of classes, and all that it needs, into one text that runs without the original packages.

A definition is copied unchanged from its file. All definitions that it refers to are copied too, also from other files.
Decorators that register a definition are removed, and imports of other packages stay. If two files use the same name
for different things, one of the names gets a number.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import site
import sys
import sysconfig
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from nasbench.errors import UnsupportedError
from nasbench.library.plugins import UserFile

__all__ = ["Inliner"]

Key = tuple[str, str]
"""Module and name of a top-level definition."""

_OWN = "nasbench"
_REGISTERS = "register_"
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class _Reference:
    """A use of an inlined definition, at bytes `start` to `end` of its file.

    It is `eager` if it is evaluated when the text is imported, for example as a base class.
    """

    key: Key
    start: int
    end: int
    eager: bool


@dataclass
class _Taken:
    """A definition that the text needs. Each edit replaces the bytes from `start` to `end` of its file."""

    node: _Definition
    references: list[_Reference] = field(default_factory=list)
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)


class _File:
    """A source file: its bytes, its top-level definitions and its imports."""

    def __init__(self, name: str) -> None:
        module = sys.modules.get(name) or importlib.import_module(name)
        path, loader = getattr(module, "__file__", None), getattr(module, "__loader__", None)
        if isinstance(loader, UserFile):  # the source that was loaded, because the file can be changed or gone by now
            self.data = loader.source
        elif path is None or not Path(path).is_file():
            raise UnsupportedError(f"the source of {name} cannot be read, so its definitions cannot be exported")
        else:
            self.data = Path(path).read_bytes()
        self.name, self.module = name, module
        self.tree = ast.parse(self.data)
        # The offsets of `ast` count bytes within a line, not characters, so the source stays bytes.
        starts = [0]
        for line in self.data.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the first byte of a node and the byte after its last."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    @cached_property
    def definitions(self) -> dict[str, _Definition]:
        """Functions, classes and constants by name, and methods by `CLASS.METHOD`."""
        definitions: dict[str, _Definition] = {}
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                definitions[node.name] = node
                methods = [each for each in getattr(node, "body", ()) if isinstance(each, ast.FunctionDef)]
                definitions |= {f"{node.name}.{each.name}": each for each in methods if isinstance(node, ast.ClassDef)}
            elif isinstance(node, ast.Assign):
                definitions |= {
                    t.id: node for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)
                }
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                definitions[node.target.id] = node
        return definitions

    @cached_property
    def imports(self) -> dict[str, tuple[str, str | None, str]]:
        """Imported names: (module, attribute or None for the module itself, the statement without its `as`)."""
        imports: dict[str, tuple[str, str | None, str]] = {}
        for node in self.tree.body:
            guarded = node.body if isinstance(node, ast.If) else [node]  # including imports under `if TYPE_CHECKING:`
            for statement in guarded:
                imports |= self.imported(statement)
        return imports

    def imported(self, node: ast.stmt) -> dict[str, tuple[str, str | None, str]]:
        """Return the names that one statement imports, in the form of `imports`."""
        if isinstance(node, ast.Import):
            return {
                a.asname or a.name.partition(".")[0]: (
                    a.name if a.asname else a.name.partition(".")[0],
                    None,
                    f"from {a.name.rpartition('.')[0]} import {a.name.rpartition('.')[2]}"
                    if a.asname and "." in a.name
                    else f"import {a.name}",
                )
                for a in node.names
            }
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            package = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(package, self.module.__package__ or "") if node.level else package
            return {a.asname or a.name: (module, a.name, f"from {module} import {a.name}") for a in node.names}
        return {}


class Inliner:
    """Collects definitions through `need`, then writes them as `source`.

    Args:
        reserved: Names that the text around the source uses.
    """

    def __init__(self, reserved: Collection[str] = ()) -> None:
        self._reserved = frozenset(reserved)
        self._files: dict[str, _File] = {}
        self._taken: dict[Key, _Taken] = {}
        self._imports: dict[str, str] = {}
        self._roots = {_OWN}

    def need(self, thing: Any, *, without: Collection[str] = ()) -> None:
        """Add a class or function, and all definitions that it refers to.

        Args:
            thing: The class or function. A method becomes a function.
            without: Names of the class's methods that are left out, with the definitions that only they refer to.

        Raises:
            UnsupportedError: If its source cannot be read.
        """
        module, name = thing.__module__, thing.__qualname__
        self._roots.add(module.partition(".")[0])
        self._take((module, name), frozenset(without))

    def name(self, thing: Any) -> str:
        """Return the name that a needed class or function has in the source."""
        return self._names[thing.__module__, thing.__qualname__]

    @property
    def source(self) -> str:
        """The imports, then the definitions. Each definition comes after those that must exist when it is executed."""
        names = self._names
        written: dict[int, str] = {}
        for key in self._ordered():
            node = self._taken[key].node
            if id(node) not in written:  # `a, b = 1, 2` is one statement of two names
                written[id(node)] = self._text(key, names)
        return "\n".join(self._import_lines()) + "\n\n\n" + "\n\n\n".join(written.values()) + "\n"

    # -- what is needed ----------------------------------------------------------------------------------------

    def _take(self, key: Key, without: frozenset[str] = frozenset()) -> None:
        if key in self._taken:
            return
        file = self._file(key[0])
        node = file.definitions.get(key[1])
        if node is None:
            if key[1] in file.imports:  # re-exported
                return self._follow(file, key, without)
            raise UnsupportedError(
                f"{key[1]} of {key[0]} is not defined in its file, so it cannot be exported as source"
            )
        taken = self._taken[key] = _Taken(node)
        for reference in _Walk(self, file, node, taken, without).run():
            taken.references.append(reference)
            self._take(reference.key)

    def _follow(self, file: _File, key: Key, without: frozenset[str]) -> None:
        module, attribute, _ = file.imports[key[1]]
        assert attribute is not None
        self._take((module, attribute), without)

    def origin(self, module: str, attribute: str) -> Key:
        """Return the module that defines a name, and the name there. `module` can be one that only re-exports it."""
        file = self._file(module)
        while attribute not in file.definitions and attribute in file.imports:
            module, original, _ = file.imports[attribute]
            if original is None or not self.internal(module):
                raise UnsupportedError(f"{attribute} of {file.name} is a module or a name of another package")
            attribute, file = original, self._file(module)
        return module, attribute

    def internal(self, module: str) -> bool:
        """Whether the source of a module is copied: nasbench, the user's files, and files that these import."""
        root = module.partition(".")[0]
        if root in self._roots:
            return True
        if root in sys.stdlib_module_names:
            return False
        loaded = sys.modules.get(module)
        path = getattr(loaded, "__file__", None)
        return path is not None and not _installed(Path(path))

    def imports(self, name: str, statement: str) -> str:
        """Record an import of another package, and return the name that it has in the text.

        If the text uses the name for something else, a number is added to the name.
        """
        thing = statement.partition(" as ")[0]
        called, number = name, 2
        while self._imports.get(called, thing) != thing:
            called, number = f"{name}_{number}", number + 1
        self._imports[called] = thing
        return called

    def _file(self, module: str) -> _File:
        if module not in self._files:
            self._files[module] = _File(module)
        return self._files[module]

    # -- the text ----------------------------------------------------------------------------------------------

    @property
    def _names(self) -> dict[Key, str]:
        """The name of each definition in the text: its own name, with a number if that name is already used."""
        names: dict[Key, str] = {}
        used = {*self._imports, *self._reserved}
        for key in self._taken:
            name, number = _last(key), 2
            while name in used:
                name, number = f"{_last(key)}_{number}", number + 1
            used.add(name)
            names[key] = name
        return names

    def _ordered(self) -> Iterator[Key]:
        """Yield the definitions in an order in which they can be executed (depth first along eager references)."""
        done: set[Key] = set()

        def visit(key: Key) -> Iterator[Key]:
            if key in done:
                return
            done.add(key)
            for reference in self._taken[key].references:
                if reference.eager:
                    yield from visit(reference.key)
            yield key

        for key in self._taken:
            yield from visit(key)

    def _text(self, key: Key, names: dict[Key, str]) -> str:
        """Return the source of a definition, with the names of this text."""
        taken, file = self._taken[key], self._files[key[0]]
        node = taken.node
        decorators = getattr(node, "decorator_list", [])
        first = min([file.span(d)[0] for d in decorators], default=None)
        begin, end = file.span(node)
        begin = begin if first is None else first - 1  # with the @
        edits = [(r.start, r.end, names[r.key].encode()) for r in taken.references if r.end > r.start]
        edits += taken.edits
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and names[key] != _last(key):
            word = b"class " if isinstance(node, ast.ClassDef) else b"def "
            own = _last(key).encode()
            at = file.data.index(word + own, file.span(node)[0]) + len(word)
            edits.append((at, at + len(own), names[key].encode()))
        text = file.data[begin:end]
        # From the last edit to the first, so that the positions of the remaining edits stay valid.
        for start, stop, new in sorted(set(edits), reverse=True):
            text = text[: start - begin] + new + text[stop - begin :]
        written = text.decode()
        if node.col_offset:  # a method, which becomes a function, so it begins at the margin
            written = textwrap.dedent(" " * node.col_offset + written)
        return written.strip("\n")

    def _import_lines(self) -> list[str]:
        plain: list[str] = []
        joined: dict[str, list[str]] = {}
        for called, thing in self._imports.items():
            alias = "" if called == thing.rpartition(" ")[2].partition(".")[0] else f" as {called}"
            if thing.startswith("import"):
                plain.append(thing + alias)
            else:
                module, _, name = thing.removeprefix("from ").partition(" import ")
                joined.setdefault(module, []).append(name + alias)
        return sorted(plain) + [
            f"from {module} import {', '.join(sorted(joined[module]))}" for module in sorted(joined)
        ]


def _last(key: Key) -> str:
    """Return the name of a definition without that of the class in which it stands."""
    return key[1].rpartition(".")[2]


class _Walk:
    """Finds the references and edits of one definition. Methods of the names `without` are left out."""

    def __init__(
        self, inliner: Inliner, file: _File, node: _Definition, taken: _Taken, without: frozenset[str] = frozenset()
    ) -> None:
        self.inliner, self.file, self.node, self.taken, self.without = inliner, file, node, taken, without
        self.references: list[_Reference] = []

    def run(self) -> list[_Reference]:
        self._visit(self.node, eager=True, local=frozenset())
        return self.references

    def _visit(self, node: ast.AST, eager: bool, local: frozenset[str]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._decorators(node, eager, local)
            if isinstance(node, ast.ClassDef):
                for part in (*node.bases, *node.keywords, *self._written(node)):
                    self._visit(part, eager, local)
                return
            arguments = node.args
            for default in (*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)):
                self._visit(default, eager, local)
            for argument in ast.walk(arguments):
                if isinstance(argument, ast.arg) and argument.annotation is not None:
                    self._annotation(argument.annotation, local)
            if node.returns is not None:
                self._annotation(node.returns, local)
            # A body runs only when the function is called, so the names in it can be defined later in the text.
            inner = local | _bound(node)
            for statement in node.body:
                self._visit(statement, False, inner)
            return
        if isinstance(node, ast.Lambda):
            self._visit(node.body, False, local | {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)})
            return
        if isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation, local)
            self._visit(node.target, eager, local)
            if node.value is not None:
                self._visit(node.value, eager, local)
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._local_import(node)
            return
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in local:
            imported = self.file.imports.get(node.value.id)
            if imported is not None and self._module(imported) is not None:
                key = self.inliner.origin(str(self._module(imported)), node.attr)
                self.references.append(_Reference(key, *self.file.span(node), eager))
                return
        if isinstance(node, ast.Name):
            self._name(node, eager, local)
            return
        for child in ast.iter_child_nodes(node):
            self._visit(child, eager, local)

    def _name(self, node: ast.Name, eager: bool, local: frozenset[str]) -> None:
        if node.id in local:
            return
        if node.id in self.file.definitions:
            own = isinstance(self.node, (ast.Assign, ast.AnnAssign)) and self.file.definitions[node.id] is self.node
            self.references.append(_Reference((self.file.name, node.id), *self.file.span(node), eager and not own))
        elif node.id in self.file.imports:
            imported = self.file.imports[node.id]
            module, attribute, statement = imported
            if not self.inliner.internal(module):
                called = self.inliner.imports(node.id, statement)
                if called != node.id:
                    self.taken.edits.append((*self.file.span(node), called.encode()))
            elif attribute is not None and self._module(imported) is None:
                self.references.append(_Reference(self.inliner.origin(module, attribute), *self.file.span(node), eager))
            else:
                raise UnsupportedError(
                    f"{self.file.name} uses the module {node.id} as a value; import the used names from it instead"
                )

    def _annotation(self, node: ast.expr, local: frozenset[str]) -> None:
        """Add the definitions that an annotation names. No code needs them, but a person who reads the text does."""
        for name in ast.walk(node):
            if not isinstance(name, ast.Name) or name.id in local:
                continue
            imported = self.file.imports.get(name.id)
            if imported is None or self._module(imported) is None:
                self._name(name, False, local)

    def _decorators(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, eager: bool, local: frozenset[str]
    ) -> None:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name.startswith(_REGISTERS):
                start, end = self.file.span(decorator)
                # Removed from the @ to the end of the line, because outside nasbench nothing is registered.
                newline = self.file.data.index(b"\n", end) + 1
                self.taken.edits.append((start - 1, newline, b""))
            else:
                self._visit(decorator, eager, local)

    def _written(self, node: ast.ClassDef) -> Iterator[ast.stmt]:
        """Yield the statements of a class that are written, and record the edits that cut the others out."""
        for before, part in zip([None, *node.body], node.body, strict=False):
            if node is self.node and isinstance(part, ast.FunctionDef) and part.name in self.without and before:
                self.taken.edits.append((self.file.span(before)[1], self.file.span(part)[1], b""))
            else:
                yield part

    def _local_import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Add the definitions that a function imports from inlined modules while it runs. The import becomes `pass`."""
        imported = self.file.imported(node)
        ours = {name: row for name, row in imported.items() if self.inliner.internal(row[0])}
        if not ours:
            return
        for name, (module, attribute, _) in ours.items():
            if attribute is None or name != attribute:
                raise UnsupportedError(f"{self.file.name} imports {module} inside a function under another name")
            self.references.append(_Reference(self.inliner.origin(module, attribute), 0, 0, False))
        self.taken.edits.append((*self.file.span(node), b"pass"))

    def _module(self, imported: tuple[str, str | None, str]) -> str | None:
        """Return the inlined module that an import names. None if it names something else."""
        module, attribute, _ = imported
        if not self.inliner.internal(module):
            return None
        if attribute is None:
            return module
        whole = f"{module}.{attribute}"
        if whole in sys.modules and isinstance(getattr(sys.modules.get(module), attribute, None), ModuleType):
            return whole
        return None


def _bound(node: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    """Return the names that a function binds. They hide the same names of its module."""
    names = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        elif isinstance(inner, (ast.Import, ast.ImportFrom)):
            names |= {a.asname or a.name.partition(".")[0] for a in inner.names if not _kept(inner)}
        elif isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and inner is not node:
            names.add(inner.name)
    return frozenset(names)


def _kept(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _OWN


def _installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return any(path.resolve().is_relative_to(root) for root in _installation())


@cache
def _installation() -> tuple[Path, ...]:
    """The folders of Python and of the installed packages, links resolved."""
    roots = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    roots |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(root).resolve() for root in roots if root)
