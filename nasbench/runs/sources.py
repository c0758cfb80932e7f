"""The Python files of a run: the user's plug-ins, and the user's own backbone and task.

A search copies each of these files that it has loaded to `plugins/` in the run folder, and records the hash of the file
in config.yaml. Everything that reads the run loads the copies, and never the original files. The copies are loaded only
if this machine's user made the run and nothing was changed since then, or if the user trusts the run (`--trust`,
`load_run(path, trust=True)`).

The declarations of the modules are recorded too. With them, plans can be read and compared without executing any code
of the run.

If a plug-in imports another file of its own folder, that file is not copied. Each plug-in is loaded as a single file,
so such an import works only in some working directories. `uncopied_imports` names these files, and a search warns about
them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasbench.backbones.names import is_file
from nasbench.builtin import content_folder
from nasbench.errors import PluginError, RunError
from nasbench.files import write_bytes
from nasbench.library import plugins
from nasbench.library.hyperparameters import Hyperparameter
from nasbench.library.modules import APART, module_specs
from nasbench.library.registry import MODULES, ModuleSpec
from nasbench.runs.folder import RunFolder
from nasbench.runs.schema import DeclaredModule, PluginFile, Plugins
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trust import is_trusted
from nasbench.tasks.forms import is_user_task

__all__ = ["Sources", "copy_sources", "uncopied_imports"]


@dataclass(frozen=True)
class _Named:
    """Python code that a setting names: the setting, the path, and the name in the file ("" for plug-ins)."""

    role: str
    path: str
    name: str = ""

    def __str__(self) -> str:
        words = {"modules": "plug-in", "backbone": "backbone", "task": "task"}
        return f"{words[self.role]} {self.path}{':' if self.name else ''}{self.name}"


def _named(settings: SearchSettings) -> list[_Named]:
    """Return the Python code that the settings name."""
    named = [_Named("modules", path) for path in settings.modules]
    if settings.backbone is not None and is_file(settings.backbone):
        path, _, name = settings.backbone.rpartition(":")
        named.append(_Named("backbone", path, name))
    if settings.task is not None and is_user_task(settings.task):
        path, _, name = settings.task.rpartition(":") if ".py:" in settings.task else (settings.task, "", "")
        named.append(_Named("task", path, name))
    return named


# -- writing -----------------------------------------------------------------------------------------------------------


def copy_sources(folder: RunFolder, settings: SearchSettings, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy the Python files that a search has loaded to the run folder, and return the part `plugins` of config.yaml.

    Args:
        folder: The run folder.
        settings: The settings of the search. Their plug-ins must be loaded already.
        earlier: The part `plugins` of the config.yaml of a run that is resumed. Its files are kept. None for a new run.
            None also for a run that this machine's user did not make, because its files would become trusted.

    Raises:
        OSError: If the run folder cannot be written.
    """
    before = Plugins.model_validate(earlier or {})
    copied = {each.file: each for each in before.files}
    # The files of each path go to a folder of their own, with a number, because two paths can end in the same name.
    numbers: dict[tuple[str, str], str] = {
        (each.role, each.given): each.file.partition("/")[0] for each in before.files
    }
    for named in _named(settings):
        key = (named.role, named.path)
        number = numbers.setdefault(key, str(len(set(numbers.values()))))
        given = Path(named.path).expanduser().resolve()
        base = given if given.is_dir() else given.parent
        for file, loaded in plugins.loaded_files(named.path).items():
            # The name of the plug-in's folder is kept in the path, because it is the family of its modules.
            parts = [re.sub(r"[^\w.-]|^\.+", "_", part) for part in (base.name or "_", *file.relative_to(base).parts)]
            within = "/".join([number, *parts])
            target = folder.plugins / within
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, loaded.source)
            told = {"file": within, "sha256": loaded.sha256, "role": named.role, "given": named.path}
            copied[within] = PluginFile.model_validate(told)
    declared = {each.name: each for each in (*before.modules, *_declarations())}
    part = Plugins(files=list(copied.values()), modules=list(declared.values()))
    return part.model_dump(mode="json", exclude_defaults=True)


def uncopied_imports(settings: SearchSettings) -> list[str]:
    """Return one sentence for each loaded file that imports other files of its folder. These files are not copied."""
    loaded = {path: file for named in _named(settings) for path, file in plugins.loaded_files(named.path).items()}
    return [
        f"{path} imports {', '.join(file.neighbours)} from its own folder, and imported files are not copied into the "
        "run; without them, the models of the run cannot be built again"
        for path, file in loaded.items()
        if file.neighbours
    ]


def _declarations() -> Iterable[DeclaredModule]:
    """Yield the declarations of the registered modules that do not ship with nasbench."""
    shipped = content_folder("modules")
    for spec in (spec for kind in (None, *APART) for spec in module_specs(kind=kind)):
        if not Path(spec.origin.rpartition(":")[0]).is_relative_to(shipped):
            yield DeclaredModule(
                name=spec.name,
                kind=spec.kind,
                properties=list(spec.properties),
                cost_order=spec.cost_order,
                dims=list(spec.dims),
                socket=sorted(spec.socket),
                hyperparameters=list(spec.hyperparameters),
                starts_as_identity=spec.starts_as_identity,
                commutative=spec.commutative,
                tasks=list(spec.tasks),
            )


# -- reading -----------------------------------------------------------------------------------------------------------


class Sources:
    """The Python files of a run that is read. Creating this object declares the modules of the run.

    Args:
        folder: The run folder.
        config: The contents of config.yaml.
        settings: The settings in config.yaml.
        trust: Whether the user trusts the run.
    """

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], settings: SearchSettings, trust: bool) -> None:
        self.folder, self.trust = folder, trust
        self._config, self._settings = config, settings
        self._recorded = None if config.get("plugins") is None else Plugins.model_validate(config["plugins"])
        for module in self._recorded.modules if self._recorded else ():
            MODULES.declare(module.name, _spec(module, folder.name))
        if self._recorded is None and settings.modules:
            # Without the declarations of the modules, the plans of the run cannot be read at all.
            if trust:
                self._load_originals()
            else:
                plugins.skip(
                    str(folder.path),
                    f"version 0.1.0 did not record its modules, and {', '.join(settings.modules)} is Python code that "
                    "is loaded only with --trust (in Python: load_run(path, trust=True))",
                )

    @property
    def fault(self) -> str:
        """Why the code of the run is not executed, which code this is, and how to continue. "" if it may be executed.

        Also "" for a run without code of its own.
        """
        named = _named(self._settings)
        if self.trust or not (named or self._files):
            return ""
        reason = self._doubt
        if not reason:
            return ""
        files = ", ".join(str(self.folder.plugins / each.file) for each in self._files)
        would = f"{', '.join(map(str, named))}{f' (copied to {files})' if files else ''}"
        return (
            f"run {self.folder.name} has Python code of its own, which was not run, because {reason}: {would}. Read "
            "the code; if you trust it, give --trust (in Python: load_run(path, trust=True))"
        )

    def load(self) -> SearchSettings:
        """Load the run's plug-ins, and return its settings, in which the backbone and the task are the copied files.

        Raises:
            RunError: If the run is not trusted, or if a copy is missing.
            PluginError: If a file cannot be loaded.
        """
        if self.fault:
            raise RunError(self.fault)
        if self._recorded is None:
            return self._load_originals()
        for each in self._files:
            if not self._path(each).is_file():
                raise RunError(f"run {self.folder.name} has no {self._path(each)}, a copy of the code that it needs")
        for each in self._files:
            # The file of a task can register the head and modules of the models too.
            registers = self._settings.head is not None or bool(self._recorded.modules)
            if each.role == "modules" or (each.role == "task" and registers):
                self._load(self._path(each))
        changed = {}
        for named in _named(self._settings):
            if named.role != "modules":
                copy = next((e for e in self._files if (e.role, e.given) == (named.role, named.path)), None)
                if copy is None:
                    raise RunError(f"run {self.folder.name} has no copy of its {named}")
                changed[named.role] = f"{self._path(copy).resolve()}{':' if named.name else ''}{named.name}"
        return self._settings.model_copy(update=changed)

    @property
    def _files(self) -> list[PluginFile]:
        return self._recorded.files if self._recorded else []

    @property
    def _doubt(self) -> str:
        """Why it is not certain that this machine's user made the run as it is now. "" if it is certain."""
        for each in self._files:
            path = self._path(each)
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != each.sha256:
                return f"{path} was changed after the search"
        if self._recorded is None:
            return "version 0.1.0 made it, which did not record who made a run"
        if not self.folder.trust.is_file():
            return f"it was not made by you on this machine (it has no {self.folder.trust.name})"
        if not is_trusted(self.folder, self._config):
            return "it was not made by you on this machine, or its config.yaml was changed"
        return ""

    def _path(self, file: PluginFile) -> Path:
        """Return the path of a copy.

        Raises:
            RunError: If it leads out of the run folder.
        """
        path = self.folder.plugins / file.file
        if not path.resolve().is_relative_to(self.folder.path.resolve()):
            raise RunError(f"{path} leads out of the run folder, so it is not read")
        return path

    def _load(self, path: Path) -> None:
        try:
            plugins.load_python_file(path)
        except PluginError as error:
            if "is registered twice" in str(error):
                raise PluginError(
                    f"{error}. Run {self.folder.name} has its own version of this module; open the run in a Python "
                    "process that has not loaded the other one"
                ) from None
            raise

    def _load_originals(self) -> SearchSettings:
        """Load the original files that the settings name. A run of version 0.1.0 has no copies of them."""
        try:
            for path in self._settings.modules:
                plugins.load_path(path)
        except PluginError as error:
            raise PluginError(
                f"run {self.folder.name} was made by version 0.1.0, which did not copy plug-ins: {error}; run the "
                "command in the folder where the search was started"
            ) from None
        return self._settings


def _spec(declared: DeclaredModule, run: str) -> ModuleSpec:
    """Return the spec of a module of a run. With it, plans can be read without loading the module's code."""
    # Recorded texts of plans contain no default values. So no value in them may count as the default and be dropped.
    unknown = object()
    return ModuleSpec(
        name=declared.name,
        kind=declared.kind,
        properties=tuple(declared.properties),
        cost_order=declared.cost_order,
        paper="",
        dims=tuple(declared.dims),
        hyperparameters=MappingProxyType({name: Hyperparameter(name, unknown) for name in declared.hyperparameters}),
        socket=frozenset(declared.socket),
        home="",
        starts_as_identity=declared.starts_as_identity,
        commutative=declared.commutative,
        tasks=tuple(declared.tasks),
        origin=f"its code belongs to run {run} and is not loaded",
    )
