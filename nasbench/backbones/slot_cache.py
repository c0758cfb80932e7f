"""The slots of a backbone by name, cached between processes.

Finding slots takes timm and a run of the network, seconds in all. A search whose plans are evaluated by a function
needs the network for nothing else. So the slots are stored in the user's cache folder, by name, input size and
versions.
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
    """What a space needs to know about a slot.

    Attributes:
        name: Name of the slot.
        channels: Channels of its map.
        size: Spatial size of its map.
        layout: How the host lays its map out.
        rows_are_series: Whether each row of its map is one series along time.
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
    """Return the slots of a backbone, from the cache if it has them.

    Args:
        name: A timm architecture, a stem, or `FILE.py:function`. A user's function is run each time.
        input_size: Size of one input, without the batch.

    Raises:
        UnknownNameError: If no backbone has this name.
        BackboneError: If it refuses the input size.
    """
    # Not cached: a user's file, which may change, and an unknown name, for which `slots` raises.
    file = None if is_file(name) or not (is_stem(name) or is_timm(name)) else _cache_file(name, input_size)
    if file is not None and file.is_file():
        with suppress(OSError, ValueError, TypeError, KeyError):  # a damaged file is written again below
            return [RememberedSlot(**{**row, "size": tuple(row["size"])}) for row in json.loads(file.read_text())]
    from nasbench.backbones.discovery import slots  # late: it imports torch and timm

    fields = ("name", "channels", "layout", "rows_are_series")
    found = [
        RememberedSlot(**{field: getattr(slot, field) for field in fields}, size=tuple(slot.size))
        for slot in slots(name, input_size=input_size)
    ]
    if file is not None:
        with suppress(OSError):  # without a writable home the slots are found each time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps([asdict(slot) for slot in found]))
    return found


def _cache_file(name: str, input_size: Sequence[int]) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Another version of a network or of this code may have other slots.
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    code = [_source_hash(file) for file in sorted(Path(__file__).parent.glob("**/*.py"))]
    key = hashlib.sha256(json.dumps([name, list(input_size), versions, code]).encode()).hexdigest()[:24]
    return root / "nasbench" / "slots" / f"{key}.json"


def _source_hash(file: Path) -> str:
    """Return the hash of a source file of this folder."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
