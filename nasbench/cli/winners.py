"""Commands on one plan of a run: export its model, train it with a full budget."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, CopyTo, Force, Trust, app
from nasbench.cli.results import narrate_damage
from nasbench.errors import InputError
from nasbench.text import narrate


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    trial: Annotated[int | None, typer.Option(metavar="N", min=0, help="Export the model of this trial.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The folder for the model, or the file for the table.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx and check it with onnxruntime.")] = False,
    format: Annotated[str | None, typer.Option(help="Export the trials table as csv, json, md or latex.")] = None,
    force: Force = False,
    trust: Trust = False,
) -> None:
    """Export the model of a trial, or the table of all trials.

    The folder of a model contains its code, weights, model card and an example. The code works without nasbench.

    Example: nasbench export runs/try --trial 0 --out exported
    """
    if (trial is None) == (format is None):
        raise InputError("say what to export: --trial N --out DIR for a model, or --format csv|json|md|latex")
    from nasbench.runs.run import load_run

    if format is not None:
        from nasbench.report.export.table import check_format, trials_text

        if onnx:
            raise InputError("--onnx exports a model and cannot be combined with --format")
        check_format(format)
        console.check_file(out, force=force)
        opened = load_run(run, trust=trust)
        text = trials_text(opened, format)
        narrate_damage(opened)
        if out is None:
            console.print_text(text.rstrip("\n"))
        else:
            console.write_file(out, text)
            narrate(f"table: {out}")
        return
    assert trial is not None
    if out is None:
        raise InputError("--trial needs --out DIR, the folder to write")
    console.check_folder(out, force=force)
    opened = load_run(run, trust=trust)
    opened.plan_of(trial)  # a wrong number is an error before torch is imported
    narrate(f"loading torch; then the model of trial {trial} is written, and compared with that of the run")
    from nasbench.report.export.folder import export_trial  # imported here, because it imports torch

    folder = export_trial(opened, trial, out, onnx=onnx, force=force)
    narrate_damage(opened)
    narrate(f"model: {folder}; next: cd {shlex.quote(str(folder))} && python example.py")


@app.command()
def train(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    trial: Annotated[int, typer.Option(metavar="N", min=0, help="The trial whose plan is trained.")],
    epochs: Annotated[
        int, typer.Option(metavar="E", min=1, max=1_000_000, help="Number of epochs of the full budget.")
    ],
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Number of seeds for each model. By default the seeds with which the run trained the plan.",
        ),
    ] = None,
    out: CopyTo = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Train a plan and the bare backbone with a full budget, under the protocol of the run.

    Weights and results are written into the run folder. With --out they are written into a copy of it.

    Example: nasbench train runs/try --trial 1 --epochs 2 --seeds 1
    """
    from nasbench.runs.run import load_run

    opened = load_run(run, trust=trust)
    opened.plan_of(trial)  # a wrong number is an error before torch is imported
    if out is not None:
        opened = opened.copy_to(out)
    narrate(f"loading torch and the data; then trial {trial} and the bare backbone are trained for {epochs} epochs")
    from nasbench.study.full_training import train_fully

    first = opened.settings.seed

    def tell(title: str, line: dict[str, float]) -> None:
        values = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k not in ("epoch", "learning_rate", "wall_s"))
        narrate(f"{title}  epoch {line['epoch']:.0f}/{epochs}  {values}")

    chosen = None if seeds is None else range(first, first + seeds)
    done = train_fully(opened, trial, epochs=epochs, seeds=chosen, on_epoch=tell)
    gap, low, high = done.difference.difference, done.difference.low, done.difference.high
    if as_json:
        rows = done.table.to_dict(orient="records")
        interval = {"difference": gap, "low": low, "high": high}
        console.print_json("training", {"run": str(opened.path), "metric": done.metric, "rows": rows, **interval})
    else:
        columns = [name for name in done.table.columns if name not in ("plan", "wall_s")]
        console.print_table(columns, done.table[columns].itertuples(index=False), f"{epochs} epochs")
        sure = f"95 % {low:+.4g} to {high:+.4g}" if done.difference.has_interval else "one seed: no interval"
        console.print_text(f"{done.metric}: trial {trial} against bare {gap:+.4g}, positive is better ({sure})")
    narrate(f"weights: {console.shown(done.folder)}")
    narrate(f"next: {console.command('export', opened.path, '--trial', str(trial), '--out', 'winner')}")
