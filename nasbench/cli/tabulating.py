"""The command that evaluates every plan of a space. The result is your own benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, Force, app
from nasbench.cli._settings import SettingsCommand, given_settings
from nasbench.cli.searching import Progress
from nasbench.text import narrate


class _OfEveryPlan(SettingsCommand):
    """Takes only the settings that still have a meaning when every plan is evaluated."""

    names = (
        "space", "backbone", "task", "seed", "seeds", "size", "lookback", "horizon", "fill", "dates", "series",
        "target", "head", "neck", "ignore", "scale", "groups", "learn", "objectives", "device",
        "modules", "workers",
    )  # fmt: skip
    meanings: ClassVar[dict[str, str]] = {
        "space": "a space of at most 100,000 plans: its name or a YAML file",
        "seed": "seed of the splits and of the order in which plans are evaluated, and the first training seed",
        "seeds": "number of seeds for each plan; 1 by default",
    }


@app.command(cls=_OfEveryPlan)
def tabulate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="The file of the table.")] = Path("table.parquet"),
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A training setting.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> int:
    """Evaluate every plan of a space and write one Parquet file. `search --task table:FILE` searches in this file.

    If the command is interrupted, the same command resumes it. The run folder is beside the table.

    Example: nasbench tabulate small.yaml --backbone test_resnet --task digits --set epochs=1 --out small.parquet
    """
    from nasbench.study.tabulation import run_folder
    from nasbench.study.tabulation import tabulate as engine
    from nasbench.study.termination import ending_by_signal

    given = given_settings(context, set_)
    # The same command resumes a tabulation, whose run folder is beside the table.
    console.check_file(out, force=force or run_folder(out).is_dir())
    with ending_by_signal(), Progress() as progress:
        table = engine(out=out, on_event=progress.on_event, origin="command line", **given)
    states = table.frame["state"].value_counts().to_dict()
    row = {
        "file": str(out),
        "run": str(run_folder(out)),
        "backbone": table.info.backbone,
        "task": table.info.task,
        "plans": int(table.frame["plan_hash"].nunique()),
        "seeds": list(table.info.seeds),
        "rows": len(table.frame),
        **{state: int(states.get(state, 0)) for state in ("complete", "rejected", "failed")},
        "metrics": table.info.metrics,
        "costs": list(table.info.costs),
    }
    if as_json:
        console.print_json("table", row)
    else:
        console.print_text("\n".join(f"{key:10s} {_text(value)}" for key, value in row.items()))
    narrate(f"search in it: nasbench search --task table:{out} --trials 50")
    return 1 if row["failed"] else 0


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, dict)) else str(value)
