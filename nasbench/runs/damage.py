"""What is left out of a run because its journal or a file of its folder is damaged, in sentences for the user."""

from __future__ import annotations

from nasbench.runs.trainings import RecordedRun

__all__ = ["damage_of"]

_MOST_NAMED = 5
"""Number of damaged records, and of damaged files, that are named."""


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
