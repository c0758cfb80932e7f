"""The winner in the user's hands: export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasbench import console
from nasbench.cli._app import app
from nasbench.errors import InputError


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    trial: Annotated[int | None, typer.Option(metavar="N", help="Write this trial's model.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Folder of the model, or file of the table.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too, checked with onnxruntime.")] = False,
    format: Annotated[str | None, typer.Option(help="Write the trials table: csv, json, md or latex.")] = None,
) -> None:
    """Write a trial's model as code, weights, card and example (no nasbench needed to use it), or the trials table.

    Example: nasbench export runs/try --trial 0 --out exported
    """
    from nasbench import export as exporting
    from nasbench import runs as folders

    if (trial is None) == (format is None):
        raise InputError("say what to export: --trial N --out DIR for a model, or --format csv|json|md|latex")
    found = folders.load_run(run)
    if format is not None:
        if onnx:
            raise InputError("--onnx is for a model; with --format give no --onnx")
        text = exporting.trials_text(found, format)
        if out is None:
            console.print_text(text.rstrip("\n"))
        else:
            folders.write_text(out, text)
            console.narrate(f"table: {out}")
        return
    assert trial is not None
    if out is None:
        raise InputError("--trial needs --out DIR, the folder to write")
    folder = exporting.export_trial(found, trial, out, onnx=onnx)
    console.narrate(f"model: {folder}; next: cd {folder} && python example.py")
