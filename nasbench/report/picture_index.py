"""The pictures of the last report: their captions and dates, so that a later report can show them again.

The folder `figures` has a file `index.json` with one entry for each picture of the page, by the name of its files.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nasbench.errors import RunError
from nasbench.files import read_json, write_text
from nasbench.report.plotting import Picture
from nasbench.runs.folder import RunFolder
from nasbench.runs.schema import damaged

__all__ = ["IndexedPicture", "PictureIndex", "today"]

_FILE = "index.json"
_LARGEST = 50_000_000  # bytes. A larger file is not a picture that a report wrote


class IndexedPicture(BaseModel):
    """A picture of an earlier report.

    Attributes:
        part: The part of the page to which it belongs.
        alt: Text for readers who cannot see it.
        caption: The text below it.
        wide: Whether it takes the full width of the page.
        made: The day on which it was made, as in 2026-01-31.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    part: str = Field(max_length=200)
    alt: str = Field(max_length=100_000)
    caption: str = Field(max_length=100_000)
    wide: bool = False
    made: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


_ENTRIES = TypeAdapter(dict[str, IndexedPicture])

_BEFORE_THE_INDEX = {
    "winners": ("winner-fingerprints",),
    "grad-cam": ("grad-cam",),
    "forecasts": ("forecast-windows", "forecast-error-by-step", "forecast-error-by-series"),
}
"""Names of the pictures that version 0.1.0 drew from models, by part."""


class PictureIndex:
    """The pictures of a run's last report.

    Args:
        run: The files of the run. Its folder `figures` need not exist yet.
    """

    def __init__(self, run: RunFolder) -> None:
        self.folder = run.figures
        self._entries = self._read(run)
        self._shown: dict[str, IndexedPicture] = {}

    def of_part(self, part: str) -> dict[str, IndexedPicture]:
        """Return the pictures of a part whose files are still there, by name."""
        return {
            name: entry
            for name, entry in self._entries.items()
            if entry.part == part and (file := self._svg(name)).is_file() and file.stat().st_size <= _LARGEST
        }

    def again(self, name: str) -> Picture:
        """Return an earlier picture, with its date in the caption. It stays in the index."""
        entry = self._shown[name] = self._entries[name]
        data = base64.b64encode(self._svg(name).read_bytes()).decode("ascii")
        return Picture(data, entry.alt, f"{entry.caption} (Made on {entry.made}.)".strip(), entry.wide, name)

    def add(self, part: str, pictures: Iterable[Picture]) -> None:
        """Add pictures that were made now."""
        for each in pictures:
            entry = IndexedPicture(part=part, alt=each.alt, caption=each.caption, wide=each.wide, made=today())
            self._shown[each.name] = entry

    def save(self) -> None:
        """Write the index of the pictures that the page shows.

        Raises:
            OSError: If it cannot be written.
        """
        if self._shown:
            told = {name: entry.model_dump() for name, entry in self._shown.items()}
            write_text(self.folder / _FILE, json.dumps(told, indent=2, ensure_ascii=False) + "\n")

    def _svg(self, name: str) -> Path:
        return self.folder / f"{name}.svg"

    def _read(self, run: RunFolder) -> Mapping[str, IndexedPicture]:
        file = self.folder / _FILE
        if file.is_file():
            entries = run.part(file, "pictures of the last report that were not made again", lambda: _entries(file))
            # A name is a part of a path, so it must not lead out of the folder.
            return {name: entry for name, entry in (entries or {}).items() if Path(name).name == name}
        names = {name: part for part, names in _BEFORE_THE_INDEX.items() for name in names}
        return {
            name: IndexedPicture(part=part, alt=name, caption="", made=_day(self._svg(name).stat().st_mtime))
            for name, part in names.items()
            if self._svg(name).is_file()
        }


def _entries(file: Path) -> dict[str, IndexedPicture]:
    given = read_json(file, "index of pictures", RunError)
    try:
        return _ENTRIES.validate_python(given)
    except ValidationError as error:
        raise damaged(file, error) from None


def today() -> str:
    """Return today's date in UTC, as in 2026-01-31."""
    return _day(datetime.now(UTC).timestamp())


def _day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
