"""What is left out of a run because its journal or a file of its folder is damaged, in sentences for the user."""

from __future__ import annotations

from nasbench.runs.trainings import RecordedRun

__all__ = ["damage_of", "missing_of"]

_MOST_NAMED = 5
"""Number of damaged records, and of damaged files, that are named."""


def missing_of(run: RecordedRun) -> tuple[str, ...]:
    """Return one line for each file that the search wrote and that is not there any more, with what a report loses."""
    folder, task = run.folder, run.config["task"]
    missing = []
    if not folder.environment.is_file():
        missing.append(("the versions, machine and seeds", folder.environment))
    # version 0.1.0 wrote no data.json, and recorded no plug-ins
    if task is not None and run.config.get("plugins") is not None and not folder.data.is_file():
        missing.append(("what was read of the data", folder.data))
    has_items = task is not None and task.get("has_items", True)
    trained = has_items and any(one.is_complete for one in run.evaluations())
    if trained and not any((folder.path / "items").glob("*.npy")):
        missing.append(("the values of single validation items", folder.path / "items"))
    # In a shared study, another machine may have measured the latency.
    measured = run.journal.latency and run.config["settings"].get("storage") is None
    if measured and not folder.latency_files("profile"):
        missing.append(("the raw samples of latency", folder.path / "latency"))
    return tuple(
        f"Left out: {what}, because {place} is missing; restore it from a copy of the run." for what, place in missing
    )


def damage_of(run: RecordedRun) -> tuple[str, ...]:
    """Return one line for each ignored setting, one for the damaged records of the journal, one for each damaged file.

    Only what was read so far is known to be damaged. Without damage, there is no line.
    """
    lines = [f"In {run.folder.config}, {note}." for note in run.ignored[:_MOST_NAMED]]
    if (more := len(run.ignored) - _MOST_NAMED) > 0:
        lines.append(f"{more:,} more {'setting is' if more == 1 else 'settings are'} ignored.")
    if skipped := run.journal.skipped:
        count, more = len(skipped), len(skipped) - _MOST_NAMED
        what = "1 record is damaged and is" if count == 1 else f"{count:,} records are damaged and are"
        named = "; ".join(str(one) for one in skipped[:_MOST_NAMED])
        lines.append(f"{what} left out: {named}{f'; and {more:,} more' if more > 0 else ''}.")
    damaged = list(run.folder.damaged.values())
    lines += [
        f"Left out: {what}, because {error}; restore the file from a copy of the run, or delete it."
        for what, error in damaged[:_MOST_NAMED]
    ]
    if (more := len(damaged) - _MOST_NAMED) > 0:
        lines.append(f"{more:,} more {'file is' if more == 1 else 'files are'} damaged and left out.")
    return tuple(lines)
