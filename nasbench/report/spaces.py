"""Descriptions of spaces: slots, choices and number of plans in a backbone.

The description of a ready-made space in its example backbone is recorded in `search_spaces/overview.json`. The record
contains a hash of its sources. The record is ignored if the hash has changed, or if a module is registered that does
not ship with nasbench. `scripts/update_spaces` writes the record, and a test checks that it is up to date.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nasbench.builtin import content_folder
from nasbench.library.modules import module_specs
from nasbench.library.plugins import builtin_files
from nasbench.spaces import ResolvedSpace, Space, load_space, ready_made

__all__ = ["RECORD", "describe_space", "record_of_spaces", "recorded_space", "usual_backbone"]

RECORD = "overview.json"


def usual_backbone(space: Space) -> str:
    """Return the backbone in which the plans of a space are counted by default."""
    return space.example_backbone or "resnet18"


def describe_space(space: Space, backbone: str, input_size: Sequence[int]) -> dict[str, Any]:
    """Return the plan count, slots, compositions and variants of a space in a backbone, as JSON-serialisable data.

    Raises:
        UnknownNameError: If there is no such backbone.
        SpaceError: If the space does not fit the backbone.
    """
    from nasbench import backbones
    from nasbench.backbones.dense import create_dense, slots_with_necks

    if space.example_neck:
        host = create_dense(backbone, space.example_neck, input_size=input_size, head=space.example_head or None)
        resolved = space.resolve(slots_with_necks(host, input_size, space.necks()))
    else:
        resolved = space.resolve(backbones.slots(backbone, input_size=input_size))
    return {
        "name": space.name,
        "description": space.description,
        "backbone": backbone,
        "plans": resolved.count,
        "slots": [slot.slot for slot in resolved.slots],
        "compositions": _together(resolved, "compositions"),
        "variants": [variant.canonical() for variant in _together(resolved, "variants")],
        "choices": [
            {
                "slot": slot.slot,
                "compositions": list(slot.compositions),
                "variants": [variant.canonical() for variant in slot.variants],
            }
            for slot in resolved.slots
        ],
        "same": [list(group) for group in resolved.same],
        "narrowed_by": space.narrowing(),
        "excluded": [list(row) for row in resolved.excluded],
    }


def recorded_space(name: str) -> dict[str, Any] | None:
    """Return the recorded description of a ready-made space in its example backbone. None if there is no record."""
    modules = content_folder("modules")
    if name not in ready_made() or any(not Path(spec.origin).is_relative_to(modules) for spec in module_specs()):
        return None
    return _record().get(name)


def record_of_spaces() -> dict[str, Any]:
    """Describe every ready-made space in its example backbone, and return the record as JSON-serialisable data."""
    from nasbench import backbones

    spaces = {}
    for name in ready_made():
        space = load_space(content_folder("search_spaces") / f"{name}.yaml")
        host = usual_backbone(space)
        spaces[name] = describe_space(space, host, backbones.default_input_size(host) or (3, 224, 224))
    return {"generated_by": "scripts/update_spaces", "hash": _sources(), "spaces": spaces}


@cache
def _record() -> dict[str, dict[str, Any]]:
    file = content_folder("search_spaces") / RECORD
    if not file.is_file():
        return {}
    document = json.loads(file.read_text(encoding="utf-8"))
    return dict(document["spaces"]) if document["hash"] == _sources() else {}


def _sources() -> str:
    """Return the hash of the sources of the record: the spaces, the files of modules, the version of timm."""
    files = [*sorted(content_folder("search_spaces").glob("*.yaml")), *builtin_files()]
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    # The slots of a timm backbone, and with them the number of plans, can depend on the version of timm.
    return hashlib.sha256(content + importlib.metadata.version("timm").encode()).hexdigest()[:16]


def _together(resolved: ResolvedSpace, field: str) -> list[Any]:
    return list(dict.fromkeys(value for slot in resolved.slots for value in getattr(slot, field)))
