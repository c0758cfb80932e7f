"""What the scripts that write a record share: a command that writes the file, or tells whether it is stale."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["keep"]


def keep(description: str | None, file: Path, record: Callable[[], Any]) -> None:
    """Write a record as JSON; with `--check` only compare, and exit with 1 if the file is stale.

    Args:
        description: Of the command.
        file: Where the record lies.
        record: Makes it.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the record is stale")
    given = parser.parse_args()
    text = json.dumps(record(), indent=1, ensure_ascii=False) + "\n"
    if not given.check:
        file.write_text(text, encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{file} is stale: {parser.prog} writes it anew")
