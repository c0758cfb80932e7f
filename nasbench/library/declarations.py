"""The recorded declarations of the built-in modules. A look-up that uses them imports neither module files nor torch.

The record is `modules/declarations.json`. It contains the hash of each plug-in file. If a file was edited after the
record was written, the file is imported, and its part of the record is ignored. So a look-up always agrees with the
files. `scripts/update_declarations` writes the record, and a test checks that it is up to date.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.library.hyperparameters import Hyperparameter
from nasbench.library.registry import ModuleSpec

__all__ = ["FILE", "Declarations", "read_declarations", "record_of"]

FILE = "declarations.json"
"""The name of the record's file."""

# The attributes of `ModuleSpec` that JSON stores as they are, and those that it stores as lists.
_PLAIN = (
    "name",
    "kind",
    "cost_order",
    "paper",
    "home",
    "doc",
    "starts_as_identity",
    "commutative",
    "limits",
    "selectable",
)
_TUPLES = ("properties", "dims", "tasks")
_OF_TIMM = re.compile(rb"^(?:import|from) timm\b", re.MULTILINE)


@dataclass(frozen=True)
class Declarations:
    """The recorded declarations of plug-in files.

    Attributes:
        hashes: The hash of each file. The keys of this and the next two mappings are the paths of the files, relative
            to the folder of plug-ins.
        modules: For each file, the specs of the modules that it registers.
        refused: For each file, the module names that it does not provide, each with the reason.
    """

    hashes: Mapping[str, str]
    modules: Mapping[str, tuple[ModuleSpec, ...]]
    refused: Mapping[str, Mapping[str, str]]

    def holds(self, root: Path, file: Path) -> bool:
        """Return whether the record of a file is up to date."""
        return self.hashes.get(_key(root, file)) == _hash(file)

    def of(self, root: Path, file: Path) -> tuple[ModuleSpec, ...]:
        """Return the specs of the modules that a file registers. A file without a record has none."""
        return self.modules.get(_key(root, file), ())

    def refused_by(self, root: Path, file: Path) -> Mapping[str, str]:
        """Return the module names that a file does not provide, each with the reason."""
        return self.refused.get(_key(root, file), {})


def read_declarations(root: Path) -> Declarations:
    """Read the record in a folder of plug-in files. If the folder has no record, the result is empty."""
    file = root / FILE
    if not file.is_file():
        return Declarations({}, {}, {})
    document = json.loads(file.read_text(encoding="utf-8"))
    modules = {key: tuple(_spec(row, root / key) for row in rows) for key, rows in document["modules"].items()}
    return Declarations(document["hashes"], modules, document["refused"])


def record_of(root: Path, specs: Iterable[ModuleSpec], refused: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the record of plug-in files, as data that `json` can write.

    Args:
        root: The folder of the files.
        specs: The specs of the modules that the files register.
        refused: For each file, the module names that it does not provide, each with the reason.
    """
    modules: dict[str, list[dict[str, Any]]] = {}
    for spec in specs:
        modules.setdefault(_key(root, Path(spec.origin.rpartition(":")[0])), []).append(_row(spec))
    files = sorted({*modules, *refused})
    return {
        "generated_by": "scripts/update_declarations",
        "hashes": {key: _hash(root / key) for key in files},
        "modules": {key: sorted(modules[key], key=lambda row: row["name"]) for key in files if key in modules},
        "refused": {key: dict(sorted(refused[key].items())) for key in files if key in refused},
    }


def _key(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def _hash(file: Path) -> str:
    content = file.read_bytes()
    # What a file that imports timm declares depends on the installed version of timm.
    if _OF_TIMM.search(content):
        content += importlib.metadata.version("timm").encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _row(spec: ModuleSpec) -> dict[str, Any]:
    plain = {name: getattr(spec, name) for name in _PLAIN} | {name: list(getattr(spec, name)) for name in _TUPLES}
    # Defaults and values are stored as Python literals, because JSON would turn tuples into lists.
    hyper = [
        [h.name, repr(h.default), repr(h.values), h.annotation, repr(h.range)] for h in spec.hyperparameters.values()
    ]
    line = int(spec.origin.rpartition(":")[2])
    return {**plain, "hyperparameters": hyper, "socket": sorted(spec.socket), "line": line}


def _spec(row: Mapping[str, Any], file: Path) -> ModuleSpec:
    hyper = {
        name: Hyperparameter(
            name, ast.literal_eval(default), ast.literal_eval(values), annotation, ast.literal_eval(allowed)
        )
        for name, default, values, annotation, allowed in row["hyperparameters"]
    }
    declared: dict[str, Any] = {name: row[name] for name in _PLAIN} | {name: tuple(row[name]) for name in _TUPLES}
    return ModuleSpec(
        **declared,
        hyperparameters=hyper,
        socket=frozenset(row["socket"]),
        origin=f"{file}:{row['line']}",
    )
