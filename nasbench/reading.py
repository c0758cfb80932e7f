"""Reading files that anybody may have written: YAML and JSON as plain data, bounded, with clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nasbench.errors import InputError

__all__ = ["read_json", "read_yaml"]

MAX_BYTES = 1_000_000
"""Of a file that people write; no settings file or space is that long."""

MAX_JSON_BYTES = 200_000_000
"""Of a file that a program wrote."""


class _PlainLoader(yaml.SafeLoader):
    """Plain data alone, and no aliases: a few of them can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)


def read_yaml(
    path: str | Path, what: str, kind: type[InputError] = InputError, shown: str | Path | None = None
) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; {} for an empty one.

    Args:
        path: The file.
        what: What it is, in the singular, for messages ("settings", "space").
        kind: The error raised.
        shown: The path as the user wrote it, for messages.

    Raises:
        InputError: (or `kind`) If it cannot be read, is too long, is no YAML, or holds no mapping with text keys.
    """
    text = _text(Path(path), what, MAX_BYTES, kind, shown)
    path = path if shown is None else shown
    try:
        given = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise kind(f"{what} {path} is no YAML: {_first(error)}") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise kind(f"{what} {path} must hold a mapping of names to values, not {type(given).__name__}")
    odd = [key for key in given if not isinstance(key, str)]
    if odd:
        raise kind(f"{what} {path}: a name is text, got {str(odd[0])[:60]!r}")
    return given


def read_json(path: str | Path, what: str, kind: type[InputError] = InputError) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: (or `kind`) If it cannot be read, is too long, or is no JSON.
    """
    text = _text(Path(path), what, MAX_JSON_BYTES, kind)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise kind(f"{what} {path} is no JSON: {_first(error)}") from None


def _text(path: Path, what: str, most: int, kind: type[InputError], shown: str | Path | None = None) -> str:
    name = path if shown is None else shown
    try:
        size = path.stat().st_size
        if size > most:
            raise kind(f"{what} {name} has {size:,} bytes; at most {most:,} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise kind(f"cannot read {what} {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise kind(f"{what} {name} is no text in UTF-8") from None


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
