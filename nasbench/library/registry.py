"""The declaration of a module, and the one registry of all modules.

A plug-in file registers its class with `register_module`. All other code asks `nasbench.library.modules`, which loads
the built-in files first. The registry itself does not use files or folders.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:  # a look-up of a name must not import torch
    from torch import nn

from nasbench.errors import PluginError, UnknownNameError, UnsupportedError
from nasbench.library.hyperparameters import Hyperparameter, check_range

__all__ = ["HEAD_TASKS", "MODULES", "PROPERTIES", "ModuleSpec", "Registry", "register_module"]

PROPERTIES = ("locality", "globality", "sparsity", "multiscale", "complexity")
"""The five properties. A module declares which of the first four it has. The fifth follows from its cost order."""

HEAD_TASKS = ("classification", "segmentation", "point_segmentation", "detection", "super-resolution")
"""The kinds of tasks that a head can serve."""

Kind = Literal["module", "fusion", "neck", "head", "pretext"]
T = TypeVar("T")
C = TypeVar("C", bound=type)

_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)?\Z")
_SOCKET = ("channels", "dims", "inputs")  # constructor arguments that depend on the slot, not on the user
# Those of a head and of a pretext. The host and the data decide them.
_GIVEN_SOCKETS = {
    "head": ("channels", "num_classes", "scale", "strides"),
    "pretext": ("channels", "items", "input_size", "num_classes"),
}


@dataclass(frozen=True)
class ModuleSpec:
    """The declaration of a plug-in module, made by `register_module` or read from the record of the built-ins.

    Attributes:
        name: The registry name, as typed in expressions.
        kind: "module" (from one map to one map of the same shape), "fusion" (from several maps to one), "neck" (from a
            pyramid to a pyramid), "head" (from a pyramid to the output of a task) or "pretext" (a way to learn without
            labels).
        properties: Declared properties, a subset of `PROPERTIES[:4]`.
        cost_order: How the cost grows with the number of positions N: 1 means linearly, 2 quadratically.
        paper: The source: authors, title, venue, year and arXiv id.
        dims: Numbers of spatial dimensions that the module supports, a subset of (1, 2). For a pretext, those of the
            data: 1 for series, 2 for images.
        hyperparameters: The keywords of the constructor, without those that depend on the slot.
        socket: Which keywords the constructor has: of `dims` and `inputs`, or, in a head, of `num_classes`, `scale`
            and `strides`, or, in a pretext, of `items`, `input_size` and `num_classes`.
        home: The class, as "module:name". "" if only the declaration is known (`Registry.declare`).
        doc: The docstring of the class.
        starts_as_identity: Whether the module computes `f(x) == x` bit for bit before training. For a fusion, whether
            it returns x before training if all its inputs are x.
        commutative: For a fusion, whether the order of its inputs makes no difference to the functions that it can
            compute.
        limits: What the module does not support, in words. It is "" if every channel count and size is supported.
        selectable: Whether a space that selects modules by their declarations can select this one. False for a control,
            which a space must name.
        tasks: For a head, the kinds of tasks that it serves, a subset of `HEAD_TASKS`.
        origin: "file:line" of the registration.
        registered: The class `cls(channels, *, ...)` itself, or None until its file is imported.

    `cls` raises `PluginError` if only the declaration is known.
    """

    name: str
    kind: Kind
    properties: tuple[str, ...]
    cost_order: int
    paper: str
    dims: tuple[int, ...]
    hyperparameters: Mapping[str, Hyperparameter]
    socket: frozenset[str]
    home: str
    doc: str = ""
    starts_as_identity: bool = False
    commutative: bool = False
    limits: str = ""
    selectable: bool = True
    tasks: tuple[str, ...] = ()
    origin: str = ""
    # Not compared, so that a spec from the record equals the spec that its file registers.
    registered: type | None = field(default=None, repr=False, compare=False)

    @cached_property
    def cls(self) -> type[nn.Module]:
        """The class. The first access imports the file of a built-in module."""
        if self.registered is not None:
            return self.registered
        if not self.home:
            raise PluginError(f"module {self.name!r} is known by its declaration alone: {self.origin}")
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def space(self) -> dict[str, tuple[Any, ...]]:
        """The values that a search tries, for each hyper-parameter that is searched."""
        return {parameter.name: parameter.values for parameter in self.hyperparameters.values() if parameter.values}

    @property
    def family(self) -> str:
        """The folder of the plug-in file, named after what the module mixes ("channel", "token", ...)."""
        return Path(self.origin.rsplit(":", 1)[0]).parent.name

    @property
    def year(self) -> int | None:
        """The year of the paper, or None if `paper` has no year."""
        # If there are several years, the last one counts. Four digits, a point and more digits are an arXiv id, which
        # can look like a year (2006.12030).
        years = re.findall(r"\b(?:19|20)\d\d\b(?!\.\d)", self.paper)
        return int(years[-1]) if years else None

    def has(self, property: str) -> bool:
        """Return whether the module has `property`. It has `complexity` if its cost order is at most 1."""
        return self.cost_order <= 1 if property == "complexity" else property in self.properties


def property_name(text: str) -> str:
    """Return the identifier of the property that a person typed: `multiscale` for "Multi-Scale".

    Raises:
        UnknownNameError: If the text is none of the five properties.
    """
    name = text.strip().lower().replace("-", "").replace("_", "").replace(" ", "")
    if name not in PROPERTIES:
        raise UnknownNameError("property", text, PROPERTIES)
    return name


class Registry(Generic[T]):
    """A table of entries by name. If two different entries have the same name, an error names the origins of both.

    Args:
        kind: The kind of the entries, in the singular, for messages.
        load: Function that registers the entries that ship with nasbench. It is called before an entry is looked up.

    Attributes:
        refused: For each name that is known but not available, the reason.
    """

    def __init__(self, kind: str, load: Callable[[], object] = lambda: None) -> None:
        self.kind = kind
        self._load = load
        self._entries: dict[str, tuple[T, str, str]] = {}
        self._declared: dict[str, T] = {}
        self.refused: dict[str, str] = {}

    def add(self, name: str, entry: T, *, origin: str, identity: str) -> None:
        """Register `entry` under `name`.

        Args:
            name: The name.
            entry: The entry.
            origin: "file:line", for messages.
            identity: File and qualified name of the entry. An entry with the same identity can be registered again.
                This happens if a file is loaded twice.

        Raises:
            PluginError: If an entry with another identity has the name.
        """
        held = self._entries.get(name)
        if held is not None and held[2] != identity:
            raise PluginError(
                f"{self.kind} {name!r} is registered twice: {held[1]} and {origin}; give one of them another name"
            )
        self._entries[name] = (entry, origin, identity)

    def declare(self, name: str, entry: T) -> None:
        """Let `get` return `entry` as long as `name` is not registered.

        So the plans of a run can be read although the code of its modules was not executed. A declared name is not
        listed, and it can still be registered at any time.
        """
        self._declared[name] = entry

    def refuse(self, name: str, reason: str) -> None:
        """Make `get` raise an error with `reason` for `name`, unless the name is registered."""
        self.refused[name] = reason

    def get(self, name: str, hint: str = "", offered: Iterable[str] | None = None) -> T:
        """Return the entry called `name`.

        Args:
            name: The name.
            hint: How the user can list all names, for the message.
            offered: The names that the message can suggest. None means all.

        Raises:
            UnsupportedError: If the name was given to `refuse`. The message gives the reason.
            UnknownNameError: If no entry has the name. The message suggests the nearest names.
        """
        self._load()
        if name not in self._entries and name in self._declared:
            return self._declared[name]
        if name not in self._entries and name in self.refused:
            raise UnsupportedError(f"{self.kind} {name!r} is not offered: {self.refused[name]}")
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries if offered is None else offered, hint)
        return self._entries[name][0]

    def drop(self, origin_file: str) -> None:
        """Discard all entries that `origin_file` registered, so that nothing remains of a file that failed to load."""
        self._entries = {n: e for n, e in self._entries.items() if e[1].rsplit(":", 1)[0] != origin_file}

    def names_of(self, origin_file: str) -> list[str]:
        """Return the names of the current entries that `origin_file` registered."""
        return [name for name, entry in self._entries.items() if entry[1].rsplit(":", 1)[0] == origin_file]

    @property
    def registered(self) -> list[str]:
        """The names that are registered at this moment, sorted. Reading this loads nothing."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self.registered)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)


MODULES: Registry[ModuleSpec] = Registry("module")
"""All registered modules of every kind. Ask `nasbench.library.modules`, which loads the built-ins first."""


def register_module(
    *,
    name: str,
    properties: tuple[str, ...] | list[str] = (),
    paper: str = "",
    space: Mapping[str, tuple[Any, ...] | list[Any]] | None = None,
    ranges: Mapping[str, str | tuple[Any, ...]] | None = None,
    dims: tuple[int, ...] | int = (1, 2),
    kind: Kind = "module",
    cost_order: int = 1,
    starts_as_identity: bool = False,
    commutative: bool = False,
    limits: str = "",
    selectable: bool = True,
    tasks: tuple[str, ...] | list[str] = (),
) -> Callable[[C], C]:
    """Register an `nn.Module` class as a plug-in.

    The first argument of the class's constructor is `channels`. All others are keyword-only and have a default. `dims`
    and, for a fusion, `inputs` are passed if the constructor has them.

    Two arguments of this function concern the other keywords of the constructor. `space` maps them to the values that a
    search tries. `ranges` maps them to limits that their annotated type does not express, as in
    `hyperparameters.check_range`. Every value is checked against type and range before an instance is made. All other
    arguments are the attributes of `ModuleSpec` with the same name.

    A head (`kind="head"`) takes a list of channel counts, and, if it needs them, the keywords `num_classes` and
    `strides`, which have no default. It has three methods: `forward(maps, inputs) -> raw`, `loss(raw, targets)` and
    `decode(raw, sizes)`. docs/heads.md says what they take and give.

    A pretext (`kind="pretext"`) derives from `nasbench.ops.pretext.Pretext`. docs/pretexts.md says how to write one.

    Raises:
        PluginError: If the declaration is wrong, or the name belongs to another class.

    Example:
        >>> import torch.nn as nn, nasbench as nb
        >>> @nb.register_module(name="scale_only", properties=("locality",), paper="", dims=(1, 2))
        ... class ScaleOnly(nn.Module):
        ...     def __init__(self, channels: int, *, factor: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.factor = factor
        ...     def forward(self, x):
        ...         return self.factor * x
    """
    frame = sys._getframe(1)  # the caller is the plug-in file, which every message about the module must name
    origin = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    dims = (dims,) if isinstance(dims, int) else tuple(dims)

    def register(cls: C) -> C:
        try:
            searched = {key: tuple(values) for key, values in (space or {}).items()}
            limited = dict(ranges or {})
            keywords = _keywords(cls)
            socket = _GIVEN_SOCKETS.get(kind, _SOCKET)
            spec = ModuleSpec(
                name=name,
                kind=kind,
                properties=tuple(property_name(p) for p in properties),
                cost_order=cost_order,
                paper=paper,
                dims=dims,
                hyperparameters={
                    p.name: Hyperparameter(
                        p.name, p.default, searched.get(p.name, ()), _spell(p.annotation), limited.get(p.name, "")
                    )
                    for p in keywords
                    if p.name not in socket
                },
                socket=frozenset(p.name for p in keywords if p.name in socket),
                home=f"{cls.__module__}:{cls.__qualname__}",
                doc=inspect.getdoc(cls) or "",
                starts_as_identity=starts_as_identity,
                commutative=commutative,
                limits=limits,
                selectable=selectable,
                tasks=tuple(tasks),
                origin=origin,
                registered=cls,
            )
            _check_declaration(spec, cls, list(searched), limited)
        except (PluginError, UnknownNameError) as error:
            raise PluginError(f"{origin}: module {name!r}: {error}") from None
        MODULES.add(name, spec, origin=origin, identity=f"{frame.f_code.co_filename}:{cls.__qualname__}")
        return cls

    return register


def _check_declaration(
    spec: ModuleSpec, cls: object, searched: Sequence[str], ranges: Mapping[str, str | tuple[Any, ...]]
) -> None:
    from torch import nn  # a plug-in file has imported torch already, but a look-up must not import it

    if not _NAME.match(spec.name):
        raise PluginError("a name consists of lower case letters, digits and _, and begins with a letter")
    if spec.name in ("none", "True", "False", "None"):
        raise PluginError(f"{spec.name!r} is a word of the expression language")
    if spec.kind not in typing.get_args(Kind):
        raise PluginError(f"kind is {spec.kind!r}; allowed: {', '.join(typing.get_args(Kind))}")
    if not isinstance(spec.paper, str):
        raise PluginError(f"paper is {spec.paper!r}; it is text, which can be empty")
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise PluginError(f"{cls!r} is not an nn.Module class")
    if not spec.dims or not set(spec.dims) <= {1, 2}:
        raise PluginError(f"dims is {spec.dims}; allowed: (1,), (2,) or (1, 2)")
    _check_head(spec, cls)
    _check_pretext(spec, cls)
    parameters = list(inspect.signature(cls).parameters.values())
    if not parameters or parameters[0].name != "channels":
        raise PluginError(f"the constructor's first argument must be `channels`, but is {_first(parameters)}")
    for p in parameters[1:]:
        given = p.name in _GIVEN_SOCKETS.get(spec.kind, ())  # always passed
        if p.kind is not p.KEYWORD_ONLY or (p.default is p.empty and not given):
            raise PluginError(f"constructor argument {p.name!r} must be keyword-only and have a default")
    for argument, names in (("space", searched), ("ranges", ranges)):
        unknown = set(names) - set(spec.hyperparameters)
        if unknown:
            known = sorted(spec.hyperparameters)
            raise PluginError(f"{argument} names {sorted(unknown)}, but the constructor has {known}")
    for parameter in spec.hyperparameters.values():
        check_range(parameter.range)
        for value in parameter.values:
            try:
                parameter.accept(value)
            except UnsupportedError as error:
                raise PluginError(f"space: {error}") from None


def _check_head(spec: ModuleSpec, cls: type) -> None:
    """Check that a head names the tasks that it serves and has their methods, and that nothing else does."""
    if spec.kind != "head":
        if spec.tasks:
            raise PluginError(f"tasks is {spec.tasks}, but only a head serves a task; this is a {spec.kind}")
        return
    if not spec.tasks or not set(spec.tasks) <= set(HEAD_TASKS):
        raise PluginError(f"tasks is {spec.tasks}; a head names at least one of {', '.join(HEAD_TASKS)}")
    missing = [method for method in ("loss", "decode") if not callable(getattr(cls, method, None))]
    if missing:
        raise PluginError(f"a head has the methods `loss` and `decode`; missing: {', '.join(missing)}")


def _check_pretext(spec: ModuleSpec, cls: type) -> None:
    """Check that a pretext is one, and declares what it needs in words that the training knows."""
    if spec.kind != "pretext":
        return
    from nasbench.ops.pretext import FORMS, READS, Pretext  # imported here, because a look-up must not import torch

    if not issubclass(cls, Pretext):
        raise PluginError("a pretext derives from nasbench.ops.pretext.Pretext")
    if cls.needs not in FORMS:
        raise PluginError(f"needs is {cls.needs!r}; allowed: {', '.join(FORMS)}")
    if not set(cls.reads) <= set(READS):
        raise PluginError(f"reads is {cls.reads}; allowed: {', '.join(READS)}")
    if cls.label_share and cls.label_share not in spec.hyperparameters:
        raise PluginError(
            f"label_share is {cls.label_share!r}, no hyper-parameter; allowed: {', '.join(spec.hyperparameters)}"
        )
    missing = [name for name in ("views", "forward", "loss") if getattr(cls, name) is getattr(Pretext, name)]
    if missing:
        raise PluginError(f"a pretext defines `views`, `forward` and `loss`; missing: {', '.join(missing)}")


def _first(parameters: list[inspect.Parameter]) -> str:
    return repr(parameters[0].name) if parameters else "missing"


def _keywords(cls: object) -> list[inspect.Parameter]:
    if not callable(cls):
        return []
    return [p for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _spell(annotation: object) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
