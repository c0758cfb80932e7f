"""What the search read: items of each split, classes or series, and what was left out or filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nasbench.report.formatting import listed
from nasbench.runs.run import Run

__all__ = ["data_summary"]

_ELSEWHERE = ("task", "kind", "splits", "spans", "classes", "series", "data_sha256", "sha256_covers")
"""What a task says about its data and the summary says in words of its own, or which is only for programs."""

_MOST_NAMED = 12
"""Number of classes or series that are named."""


def data_summary(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the data of a run as (name, value). Empty if a function evaluated the plans.

    What data.json says is left out if the file is missing or damaged.
    """
    return tuple(_facts(run)) if run.config["task"] else ()


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    told, read = run.config["task"], run.data
    yield "task", f"{run.settings.task} ({told['kind']})"
    yield "items", ", ".join(f"{count:,} {split}" for split, count in told["splits"].items())
    yield "input", "x".join(map(str, told["input_size"]))
    if read is not None:
        for kind in ("classes", "series"):
            names = read.preprocessing.get(kind)
            if (kind in read.described or kind in read.preprocessing) and not _is_read(kind, names, read.read):
                yield kind, _named(read.described.get(kind), names)
        yield from _spans(read.described.get("spans"))
        others = [(key, value) for key, value in read.described.items() if key not in _ELSEWHERE and value is not None]
        yield "settings", "; ".join(f"{key.replace('_', ' ')} {listed(value)}" for key, value in others)
        yield from read.read.items()
        if digest := read.described.get("data_sha256"):
            yield "SHA-256", f"{digest} of the {read.described.get('sha256_covers', 'data')}"
    notes = told.get("notes", ())
    if notes:
        yield "remarks", " · ".join(notes)


def _is_read(kind: str, names: Any, read: Mapping[str, str]) -> bool:
    """Return whether what was read from the files already has the classes or series, which must not be there twice."""
    named = isinstance(names, list) and len(names) > 1 and any(listed(names) in text for text in read.values())
    return kind in read or named


def _named(count: Any, names: Any) -> str:
    """Return a number with the first of the names, such as "2: cat, dog"."""
    if not isinstance(names, list):
        return listed(count)
    if not names:
        return "none"
    more = len(names) - _MOST_NAMED
    return f"{len(names)}: {listed(names[:_MOST_NAMED])}{f' and {more:,} more' if more > 0 else ''}"


def _spans(spans: Any) -> Iterable[tuple[str, str]]:
    if isinstance(spans, Mapping):
        told = {name: " to ".join(map(str, ends)) if isinstance(ends, list) else ends for name, ends in spans.items()}
        yield "time steps", listed(told)
