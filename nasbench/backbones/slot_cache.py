"""The slots of a backbone by name, remembered between processes.

Finding them takes timm and a run of the network, seconds in all. Where a function evaluates plans, nothing else needs
the network. So what was found is kept in the user's cache folder, by name, input size and versions.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nasbench.backbones.names import is_file, is_stem, is_timm
from nasbench.files import write_text

__all__ = ["RememberedSlot", "slots_by_name"]


@dataclass(frozen=True)
class RememberedSlot:
    """What a space needs to know of a slot.

    Attributes:
        name: Its name.
        channels: Channels of its map.
        size: Spatial size of its map.
        layout: How the host lays it out.
        rows_are_series: Whether the map is series by time.
    """

    name: str
    channels: int
    size: tuple[int, ...]
    layout: str
    rows_are_series: bool = False

    @property
    def dims(self) -> int:
        """Spatial dimensions of its map."""
        return len(self.size)


def slots_by_name(name: str, input_size: Sequence[int]) -> list[RememberedSlot]:
    """Return the slots of a backbone.

    Args:
        name: A timm architecture, a stem, or `FILE.py:function`, which is run each time.
        input_size: Of one input, without the batch.

    Raises:
        UnknownNameError: If there is no such backbone.
        BackboneError: If it refuses the input size.
    """
    file = None if is_file(name) or not (is_stem(name) or is_timm(name)) else _cache_file(name, input_size)
    if file is not None and file.is_file():
        with suppress(OSError, ValueError, TypeError, KeyError):  # a damaged file is written anew
            return [RememberedSlot(**{**row, "size": tuple(row["size"])}) for row in json.loads(file.read_text())]
    from nasbench.backbones.discovery import slots

    fields = ("name", "channels", "layout", "rows_are_series")
    found = [
        RememberedSlot(**{field: getattr(slot, field) for field in fields}, size=tuple(slot.size))
        for slot in slots(name, input_size=input_size)
    ]
    if file is not None:
        with suppress(OSError):  # a home that cannot be written costs time, no more
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps([asdict(slot) for slot in found]))
    return found


def _cache_file(name: str, input_size: Sequence[int]) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    code = [_source_hash(file) for file in sorted(Path(__file__).parent.glob("**/*.py"))]
    key = hashlib.sha256(json.dumps([name, list(input_size), versions, code]).encode()).hexdigest()[:24]
    return root / "nasbench" / "slots" / f"{key}.json"


def _source_hash(file: Path) -> str:
    """Return the hash of a file of this folder: slots that another version of it found may be others."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
