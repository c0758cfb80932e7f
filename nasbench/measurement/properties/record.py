"""The measured properties of the library, on record, and which of the five a fingerprint has.

Taking every fingerprint takes minutes, so `scripts/update_properties` does it once and writes
`modules/fingerprints.json`, which ships beside the modules. What a paper claims and the measurement does not show is in
`modules/disagreements.yaml`, with its reason.
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
"""From where a figure counts as the property (for complexity: up to where), fixed once from hand-known cases.

On 16x16: locality of a 3x3 kernel is 1, of a 7x7 one 0.19, of a uniform map 0.03. Globality of a 7x7 kernel is 0.31, of
attention in windows of 7 0.4 or so, of a pooled gate 1. Sparsity of a 3x3 kernel dilated by 2 is 0.65, of any dense one
0. Multi-scale of a dense random kernel or of attention at initialisation is at most 0.05. The exponent of anything
linear is about 1, of an FFT 1.1, of attention 2.
"""


SECTIONS = ("modules", "series")
"""Of the record: every module on a map, or on a series if it serves nothing else; and on a series what serves both."""


class Figures(Protocol):
    """What has the five figures: a `Fingerprint`, or a `Measured`."""

    @property
    def locality(self) -> float | None:
        """Share of the off-self influence within distance 1."""

    @property
    def globality(self) -> float | None:
        """Mean distance of influence over a uniform map's."""

    @property
    def sparsity(self) -> float | None:
        """Share of negligible positions in the reach."""

    @property
    def multiscale(self) -> float | None:
        """How evenly the octave rings are used."""

    @property
    def complexity(self) -> float | None:
        """Exponent of the cost in the number of positions."""


@dataclass(frozen=True)
class Measured:
    """The figures of a fingerprint without its maps; attributes as those of `Fingerprint`."""

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
    def of(cls, found: Fingerprint) -> Measured:
        """Keep the figures of a fingerprint, rounded to 4 decimals."""
        kept: dict[str, Any] = {name: getattr(found, name) for name in cls.__dataclass_fields__}
        kept |= {name: round(value, 4) for name, value in kept.items() if isinstance(value, float)}
        kept["error"] = {name: round(value, 4) for name, value in found.error.items()}
        return cls(**kept)


def has(figures: Figures, property: str) -> bool:
    """Whether a figure says that a module has one of the five properties; a figure that is None says no."""
    value = getattr(figures, property)
    if value is None:
        return False
    limit = THRESHOLDS[property]
    return value <= limit if property == "complexity" else value >= limit


def measured(figures: Figures) -> tuple[str, ...]:
    """Return the properties that a fingerprint has, of all five."""
    return tuple(name for name in PROPERTIES if has(figures, name))


def lacking(figures: Figures) -> tuple[str, ...]:
    """Return the spatial properties (all but complexity) that a fingerprint has not."""
    return tuple(name for name in PROPERTIES[:4] if not has(figures, name))


def fingerprints_file() -> Path:
    """Return where the record is, in a checkout or in a wheel."""
    return builtin.content_folder("modules") / "fingerprints.json"


def recorded(name: str, dims: int | None = None) -> Measured | None:
    """Return what is on record of the module called `name` with its defaults; None of a user's module.

    Args:
        name: The module.
        dims: Spatial dimensions of the map it was measured on; by default 2 where it serves them.
    """
    for section in SECTIONS:
        row = _record(section).get(name)
        if row is not None and dims in (None, len(row.size)):
            return row
    return None


@cache
def disagreements() -> dict[str, dict[str, str]]:
    """Return why a declared property is not measured: reason by module and property."""
    file = builtin.content_folder("modules") / "disagreements.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def read(file: Path, section: str = "modules") -> dict[str, Measured]:
    """Return the figures in a section of `file` by module name; none where there is no file yet."""
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8")).get(section, {})
    return {
        name: Measured(**{**row, "size": tuple(row["size"]), "notes": tuple(row["notes"])})
        for name, row in rows.items()
    }


def write(file: Path, **sections: Mapping[str, Measured]) -> None:
    """Write figures by module name so that `read` reads them back, each section sorted by name."""
    found = {
        section: {name: asdict(row) for name, row in sorted(sections[section].items())}
        for section in SECTIONS
        if section in sections
    }
    document = {"generated_by": "scripts/update_properties", **found}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def _record(section: str) -> dict[str, Measured]:
    return read(fingerprints_file(), section)
