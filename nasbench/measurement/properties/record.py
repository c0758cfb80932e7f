"""Recorded fingerprints of the library's modules, and the thresholds that say which properties a fingerprint has.

To measure all fingerprints takes minutes. `scripts/update_properties` does it once and writes
`modules/fingerprints.json`, which ships with the modules. If a paper claims a property that the measurement does not
show, the reason is in `modules/disagreements.yaml`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from nasbench import builtin
from nasbench.library.registry import PROPERTIES

if TYPE_CHECKING:
    from nasbench.measurement.properties.fingerprint import Fingerprint

__all__ = [
    "SECTIONS",
    "THRESHOLDS",
    "Measured",
    "disagreements",
    "fingerprints_file",
    "has",
    "lacking",
    "measured",
    "read",
    "recorded",
    "write",
]

THRESHOLDS = {"locality": 0.1, "globality": 0.5, "sparsity": 0.25, "multiscale": 0.1, "complexity": 1.25}
"""Smallest value at which a module has the property. For complexity, it is the largest such value.

The thresholds were fixed once, from cases that are known by hand.

On 16x16 positions:

- Locality is 1 for a 3x3 kernel, 0.19 for a 7x7 kernel, and 0.03 for a uniform map.
- Globality is 0.31 for a 7x7 kernel, about 0.4 for attention in windows of 7, and 1 for a pooled gate.
- Sparsity is 0.65 for a 3x3 kernel dilated by 2, and 0 for any dense kernel.
- Multi-scale is at most 0.05 for a dense random kernel, and for attention at initialisation.
- Complexity is about 1 for anything linear, 1.1 for an FFT, and 2 for attention.
"""


SECTIONS = ("modules", "series")
"""Sections of the record. "modules" has every module, measured on a map, or on a series if it supports only series.
"series" has the modules that support both, measured on a series."""


class Figures(Protocol):
    """The five property values of a module. A `Fingerprint` has them, and so has a `Measured`."""

    @property
    def locality(self) -> float | None:
        """Share of the off-self influence within distance 1."""

    @property
    def globality(self) -> float | None:
        """Mean distance of the off-self influence, divided by the mean distance of a uniform influence."""

    @property
    def sparsity(self) -> float | None:
        """Share of the other positions in the reach that are negligible."""

    @property
    def multiscale(self) -> float | None:
        """How evenly the influence is spread over the octave rings of the reach."""

    @property
    def complexity(self) -> float | None:
        """Exponent with which the cost grows with the number of positions."""


@dataclass(frozen=True)
class Measured:
    """The numbers of a fingerprint, without its maps. The attributes mean the same as in `Fingerprint`."""

    size: tuple[int, ...]
    channels: int
    locality: float | None = None
    globality: float | None = None
    sparsity: float | None = None
    multiscale: float | None = None
    complexity: float | None = None
    self_influence: float | None = None
    params: int = 0
    macs_per_position: float = 0.0
    exact: bool = True
    error: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> Measured:
        """Return the numbers of a fingerprint, rounded to 4 decimals."""
        kept: dict[str, Any] = {name: getattr(fingerprint, name) for name in cls.__dataclass_fields__}
        kept |= {name: round(value, 4) for name, value in kept.items() if isinstance(value, float)}
        kept["error"] = {name: round(value, 4) for name, value in fingerprint.error.items()}
        return cls(**kept)


def has(figures: Figures, property: str) -> bool:
    """Return whether a module has one of the five properties, according to its value. If this is None, it does not."""
    value = getattr(figures, property)
    if value is None:
        return False
    limit = THRESHOLDS[property]
    return value <= limit if property == "complexity" else value >= limit


def measured(figures: Figures) -> tuple[str, ...]:
    """Return which of the five properties a fingerprint has."""
    return tuple(name for name in PROPERTIES if has(figures, name))


def lacking(figures: Figures) -> tuple[str, ...]:
    """Return the spatial properties (all but complexity) that a fingerprint does not have."""
    return tuple(name for name in PROPERTIES[:4] if not has(figures, name))


def fingerprints_file() -> Path:
    """Return the path of the record, in a checkout or in an installed wheel."""
    return builtin.content_folder("modules") / "fingerprints.json"


def recorded(name: str, dims: int | None = None) -> Measured | None:
    """Return the recorded numbers of a built-in module with its defaults, or None if there are none (a user's module).

    Args:
        name: Name of the module.
        dims: Number of spatial dimensions of the map on which the module was measured. None means 2 if the module
            supports it, and otherwise 1.
    """
    for section in SECTIONS:
        row = _record(section).get(name)
        if row is not None and dims in (None, len(row.size)):
            return row
    return None


@cache
def disagreements() -> dict[str, dict[str, str]]:
    """Return the reasons why declared properties do not show in the measurement, by module and property."""
    file = builtin.content_folder("modules") / "disagreements.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def read(file: Path, section: str = "modules") -> dict[str, Measured]:
    """Return the records in a section of `file`, by module name. The result is empty if the file does not exist yet."""
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8")).get(section, {})
    return {
        name: Measured(**{**row, "size": tuple(row["size"]), "notes": tuple(row["notes"])})
        for name, row in rows.items()
    }


def write(file: Path, **sections: Mapping[str, Measured]) -> None:
    """Write records in the form that `read` reads. Each section is sorted by module name."""
    tables = {
        section: {name: asdict(row) for name, row in sorted(sections[section].items())}
        for section in SECTIONS
        if section in sections
    }
    document = {"generated_by": "scripts/update_properties", **tables}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def _record(section: str) -> dict[str, Measured]:
    return read(fingerprints_file(), section)
