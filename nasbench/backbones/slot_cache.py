"""The slots of a backbone by name, cached between processes.

Finding slots needs timm and a run of the network, and this takes seconds. Two operations need the network only for its
slots: a search with `evaluate=`, in which a user's function scores the plans, and a check of the slot names in a plan.
So the slots are stored in the user's cache folder, by name, input size and versions.
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

from nasbench.backbones.names import backbone_names, is_file, is_timm
from nasbench.files import write_text

__all__ = ["RecordedSlot", "slots_by_name"]


class RecordedSlot(BaseModel):
    """A slot as it is stored in the cache, with all attributes that a space needs.

    Attributes:
        name: Name of the slot.
        channels: Number of channels of its feature map.
        size: Spatial size of its feature map.
        layout: The backbone's layout of the map.
        rows_are_series: Whether each row of the map is one series along time.
        levels: Number of channels of each level at the slot `neck`. Empty at other slots.
        necks: Necks of plans with which the slot reaches the output. None if it always does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    channels: int
    size: tuple[int, ...]
    layout: str
    rows_are_series: bool = False
    levels: tuple[int, ...] = ()
    necks: tuple[str, ...] | None = None

    @property
    def dims(self) -> int:
        """Number of spatial dimensions of the feature map."""
        return len(self.size)


_SLOTS = TypeAdapter(list[RecordedSlot])


def slots_by_name(name: str, input_size: Sequence[int] | None) -> list[RecordedSlot]:
    """Return the slots of a backbone. They come from the cache if it has them.

    Args:
        name: A timm architecture, a built-in forecasting backbone, or `FILE.py:function`. A user's function is called
            each time.
        input_size: Size of one input, without the batch dimension. None means the backbone's default.

    Raises:
        UnknownNameError: If no backbone has this name.
        BackboneError: If the backbone does not accept the input size.
    """
    # Two things are not cached: a user's file, which can change, and an unknown name, for which `slots` raises an
    # error.
    file = None if is_file(name) or not (name in backbone_names() or is_timm(name)) else _cache_file(name, input_size)
    if file is not None and file.is_file():
        with suppress(OSError, ValueError):  # a damaged file is written again below
            return _SLOTS.validate_json(file.read_bytes())
    from nasbench.backbones.discovery import slots  # imported here, because it imports torch and timm

    recorded = [RecordedSlot.model_validate(slot, from_attributes=True) for slot in slots(name, input_size=input_size)]
    if file is not None:
        with suppress(OSError):  # if the cache folder is not writable, the slots are found again each time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, _SLOTS.dump_json(recorded).decode())
    return recorded


def _cache_file(name: str, input_size: Sequence[int] | None) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Another version of a network or of this code can have other slots.
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    code = [_source_hash(file) for file in sorted(Path(__file__).parent.glob("**/*.py"))]
    key = hashlib.sha256(json.dumps([name, input_size and list(input_size), versions, code]).encode()).hexdigest()[:24]
    return root / "nasbench" / "slots" / f"{key}.json"


def _source_hash(file: Path) -> str:
    """Return the hash of a source file in this folder."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
