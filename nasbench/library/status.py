"""What has been found out about each built-in module: its costs, and whether torch's tracers take it.

Building and tracing a module takes seconds, so it is done once, by `scripts/update_gallery`, and written to
`modules/status.json`, which ships beside the modules. Reading it needs no torch.
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

_LONGEST = 300  # characters of torch's message that are kept; what follows is advice to its own developers


@dataclass(frozen=True)
class ModuleStatus:
    """What is known of one module with its default hyper-parameters.

    Attributes:
        params: Parameters at the default size of `nasbench.report.catalogue`; None where nobody counted.
        macs: Multiply-adds there, for one item.
        exact: Whether `macs` is exact, and no lower bound.
        compile: Whether `torch.compile(fullgraph=True)` takes it: "yes", "no: " and why, or "" where nobody tried.
        export: Whether `torch.export` takes it, in the same words.
    """

    params: int | None = None
    macs: int | None = None
    exact: bool = True
    compile: str = ""
    export: str = ""


def recorded_status(name: str) -> ModuleStatus:
    """Return what is on record of the module called `name`; an empty status for a user's module."""
    return _record().get(name, ModuleStatus())


def recorded_torch() -> str:
    """Return the version of the torch that compiled and exported what is on record."""
    return str(json.loads(status_file().read_text(encoding="utf-8"))["torch"])


def status_file() -> Path:
    """Return where the record is, in a checkout or in a wheel."""
    return builtin.content_folder("modules") / "status.json"


def read_status(file: Path) -> dict[str, ModuleStatus]:
    """Return the statuses in `file` by module name; none where there is no file yet."""
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["modules"]
    return {name: ModuleStatus(**row) for name, row in rows.items()}


def write_status(file: Path, statuses: Mapping[str, ModuleStatus], *, torch_version: str) -> None:
    """Write statuses so that `read_status` reads them back, with messages shortened, sorted by name.

    Args:
        file: The file to write.
        statuses: Status by module name.
        torch_version: The torch that compiled and exported.
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
    """Cut a long message, and the line numbers in it, which every edit of the module would change."""
    message = re.sub(r"(\.py):\d+", r"\1", message)
    return message if len(message) <= _LONGEST else message[: _LONGEST - 1].rstrip() + "…"
