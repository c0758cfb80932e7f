"""The slots of a backbone by name, cached between processes.

Finding slots takes timm and a run of the network, seconds in all. A search whose plans are evaluated by a function
needs the network for nothing else, and neither does a check of the slots that a plan names. So the slots are stored in
the user's cache folder, by name, input size and versions.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from nasbench.backbones.names import is_file, is_stem, is_timm
from nasbench.files import write_text

__all__ = ["RecordedSlot", "slots_by_name"]


class RecordedSlot(BaseModel):
    """A slot as it is recorded, with all that a space needs to know about it.

    Attributes:
        name: Name of the slot.
        channels: Channels of its feature map.
        size: Spatial size of its feature map.
        layout: How the backbone lays its map out.
        rows_are_series: Whether each row of its map is one series along time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    channels: int
    size: tuple[int, ...]
    layout: str
    rows_are_series: bool = False

    @property
    def dims(self) -> int:
        """Spatial dimensions of its map."""
        return len(self.size)


_SLOTS = TypeAdapter(list[RecordedSlot])


def slots_by_name(name: str, input_size: Sequence[int] | None) -> list[RecordedSlot]:
    """Return the slots of a backbone, from the cache if it has them.

    Args:
        name: A timm architecture, a stem, or `FILE.py:function`. A user's function is run each time.
        input_size: Size of one input, without the batch. None is the default size of the backbone.

    Raises:
        UnknownNameError: If no backbone has this name.
        BackboneError: If it refuses the input size.
    """
    # Not cached: a user's file, which may change, and an unknown name, for which `slots` raises.
    file = None if is_file(name) or not (is_stem(name) or is_timm(name)) else _cache_file(name, input_size)
    if file is not None and file.is_file():
        with suppress(OSError, ValueError):  # a damaged file is written again below
            return _SLOTS.validate_json(file.read_bytes())
    from nasbench.backbones.discovery import slots  # late: it imports torch and timm

    recorded = [RecordedSlot.model_validate(slot, from_attributes=True) for slot in slots(name, input_size=input_size)]
    if file is not None:
        with suppress(OSError):  # without a writable home the slots are searched for each time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, _SLOTS.dump_json(recorded).decode())
    return recorded


def _cache_file(name: str, input_size: Sequence[int] | None) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Another version of a network or of this code may have other slots.
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    code = [_source_hash(file) for file in sorted(Path(__file__).parent.glob("**/*.py"))]
    key = hashlib.sha256(json.dumps([name, input_size and list(input_size), versions, code]).encode()).hexdigest()[:24]
    return root / "nasbench" / "slots" / f"{key}.json"


def _source_hash(file: Path) -> str:
    """Return the hash of a source file of this folder."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
