"""The recorded costs of each built-in module, and whether torch can compile and export it, also to ONNX.

Building and tracing a module takes seconds. `scripts/update_gallery` therefore does it once and writes the results to
`modules/status.json`, which ships with the modules. Reading them needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from nasbench import builtin

__all__ = ["ModuleStatus", "read_status", "recorded_status", "recorded_torch", "status_file", "write_status"]

# The number of characters of torch's message that are stored. The rest is advice to torch's own developers.
_LONGEST = 300


@dataclass(frozen=True)
class ModuleStatus:
    """The record of one module with its default hyper-parameters.

    Attributes:
        params: Number of parameters at the default channels and map size of `nasbench.report.catalogue`, or None if
            they were not counted.
        macs: Multiply-adds at these channels and this size, for one item.
        exact: Whether `macs` is exact. If not, it is a lower bound.
        compile: Whether `torch.compile(fullgraph=True)` supports the module: "yes", "no: " with the reason, or "" if
            it was not tried.
        export: Whether `torch.export` supports the module, in the same form.
        onnx: Whether its ONNX export gives the same results at batches of 1, 2 and 5, in the same form.
    """

    params: int | None = None
    macs: int | None = None
    exact: bool = True
    compile: str = ""
    export: str = ""
    onnx: str = ""


def recorded_status(name: str) -> ModuleStatus:
    """Return the recorded status of the module called `name`. For a user's module it is empty."""
    return _record().get(name, ModuleStatus())


def recorded_torch() -> str:
    """Return the version of torch with which the recorded modules were compiled and exported."""
    return str(json.loads(status_file().read_text(encoding="utf-8"))["torch"])


def status_file() -> Path:
    """Return the path of the record, in a checkout or in a wheel."""
    return builtin.content_folder("modules") / "status.json"


def read_status(file: Path) -> dict[str, ModuleStatus]:
    """Return the statuses in `file` by module name. Without a file there are none."""
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["modules"]
    return {name: ModuleStatus(**row) for name, row in rows.items()}


def write_status(file: Path, statuses: Mapping[str, ModuleStatus], *, torch_version: str) -> None:
    """Write statuses, sorted by name and with long messages shortened, so that `read_status` reads them back.

    Args:
        file: The file to write.
        statuses: Status by module name.
        torch_version: The version of torch that compiled and exported the modules.
    """
    rows = {name: _shortened(asdict(status)) for name, status in sorted(statuses.items())}
    document = {"generated_by": "scripts/update_gallery", "torch": torch_version, "modules": rows}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def _record() -> dict[str, ModuleStatus]:
    return read_status(status_file())


def _shortened(row: dict[str, object]) -> dict[str, object]:
    return {key: _short(value) if isinstance(value, str) else value for key, value in row.items()}


def _short(message: str) -> str:
    """Return a message without line numbers, cut to `_LONGEST` characters.

    With line numbers, every edit of a module's file would change the record.
    """
    message = re.sub(r"(\.py):\d+", r"\1", message)
    return message if len(message) <= _LONGEST else message[: _LONGEST - 1].rstrip() + "…"
