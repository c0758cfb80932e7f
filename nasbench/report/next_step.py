"""The command that fits after a search: what would decide more, or what to do with the winner."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nasbench.library.plan import BARE
from nasbench.report.formatting import is_missing
from nasbench.report.headline import best_of, nearest_of
from nasbench.runs.command_line import command_words
from nasbench.runs.power import longest_horizon
from nasbench.runs.refinement import equal_seeds, further_trainings, most_seeds
from nasbench.runs.run import Run
from nasbench.runs.settings import SearchSettings
from nasbench.runs.trainings import trainings_of

__all__ = ["next_step"]

_MOST_SEEDS = 30
"""If a plan needs more seeds than this, more seeds are not proposed."""

_LONGER = 4
"""The winner is trained for this many times the epochs of the search."""


def next_step(run: Run, folder: Path) -> tuple[list[str], str]:
    """Return the words of a command after "nasbench", and in a few words what it does.

    Args:
        run: A run with at least one evaluation.
        folder: The run folder as the user types it.
    """
    trials, finalists, path = run.trials(), run.finalists(), str(folder)
    again = ["search", "--out", path, *(["--storage", run.settings.storage] if run.settings.storage else [])]
    states = set(trials.loc[trials["plan"] != BARE.text, "state"])
    if not states and not run.settings.plans:  # the bare backbone alone
        return [*again, "--trials", str(SearchSettings().trials)], "tries plans"
    if states == {"failed"}:
        return [*again, "--retry-failed"], "evaluates the failed plans again, after their cause is mended"
    if run.metric is None:
        return ["export", path, "--format", "csv"], "prints all plans with their costs"
    if "verdict" not in finalists or not (finalists.loc[finalists["plan"] != BARE.text, "seeds"] > 1).any():
        more = ["--seeds", "5"] if run.settings.seeds == 1 or run.settings.plans else ["--refine", "10"]
        return [*again, *more], "trains plans with further seeds, which gives verdicts"
    better = finalists[finalists["verdict"] == "BETTER"]
    if not better.empty:
        return _with_winner(run, path, best_of(better))
    if (nearest := nearest_of(finalists)) is not None:
        return _to_decide(run, path, again, nearest)
    if (finalists["verdict"] == "NOT DECIDED").any():
        return _with_interval(run, path)
    if run.settings.plans:
        return ["suggest", path], "names modules with the properties that the network lacks"
    return [*again, "--trials", str(2 * run.settings.trials)], "tries more plans"


def _with_interval(run: Run, path: str) -> tuple[list[str], str]:
    """Return a search whose differences have intervals. If only more items help, ask for the power."""
    horizon = longest_horizon(run.power().items, run.block)
    if run.block == 1 or horizon >= run.block:
        return ["power", path], "shows what the validation items allow"
    settings = run.settings.model_copy(update={"horizon": horizon})
    words = command_words(settings, run.config["task"].get("recipe_changes", {}))
    return words[1:], "has enough validation windows for an interval"


def _with_winner(run: Run, path: str, best: pd.Series) -> tuple[list[str], str]:
    if not run.config["task"]:
        return ["export", path, "--format", "csv"], "prints the table of all trials"
    epochs = _LONGER * max(evaluation.fidelity for evaluation in run.evaluations())
    words = ["train", path, "--trial", str(best["number"]), "--epochs", str(epochs)]
    return words, "trains the best plan and the bare backbone longer"


def _to_decide(run: Run, path: str, again: list[str], nearest: pd.Series) -> tuple[list[str], str]:
    """Return the command that decides the nearest plan, if there are seeds that do. Otherwise ask for the power."""
    more = nearest["more_seeds"]
    if is_missing(more) or nearest["seeds"] + more > _MOST_SEEDS:
        effect = f"{abs(nearest['difference']):.1g}"
        words = ["power", path, *(["--effect", effect] if float(effect) else [])]
        return words, "shows what would decide such a difference"
    seeds = int(nearest["seeds"] + more)
    options = ["--seeds", str(seeds)] if seeds > most_seeds(run.settings) or run.settings.plans else []
    plans = len(trainings_of(run).plans)
    if equal_seeds(run.settings, plans) is not None:
        # a given number of further trainings is never exceeded, so it must be enough for all plans
        given = run.settings.refine is not None and not run.settings.plans
        options += ["--refine", str((seeds - 1) * (plans + 1))] if given else []
    else:
        # the plan and the bare backbone each get the further seeds
        options += ["--refine", str(further_trainings(run.settings) + 2 * int(more))]
    return [*again, *options], "would decide the nearest plan"
