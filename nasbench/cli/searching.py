"""The search, with its progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli._app import AsJson, Modules, Size, app
from nasbench.cli._merging import merged
from nasbench.cli.results import print_front
from nasbench.text import duration_s, narrate

if TYPE_CHECKING:
    from nasbench.study.search import Event


@app.command()
def search(
    space: Annotated[str | None, typer.Argument(help="A ready-made space, or a YAML file.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A timm name, a stem, or FILE.py:build.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="digits, co2, folder:PATH, tar:TRAIN,TEST, csv:PATH, ett:PATH, table:FILE, FILE.py:Task."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Distinct plans to evaluate; 24 by default.")] = None,
    time: Annotated[str | None, typer.Option(metavar="30m", help="Stop starting trials after this long.")] = None,
    objective: Annotated[list[str] | None, typer.Option(help="A metric or cost; may be repeated.")] = None,
    constraint: Annotated[list[str] | None, typer.Option(help='Such as "params<=1.1x"; may be repeated.')] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, gp, tpe, nsga2, random, grid or local.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, weights, order and sampler.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds for each finalist; 3 by default.")] = None,
    controls: Annotated[
        bool | None,
        typer.Option("--controls/--no-controls", help="Train a plain block of equal cost beside each finalist."),
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(metavar="ETA", help="Train briefly first, and one plan in ETA for longer (3); 0 for all in full."),
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="naswot, synflow or zico, of each untrained model; may be repeated.")
    ] = None,
    size: Size = None,
    lookback: Annotated[int | None, typer.Option(help="Input steps of a forecast.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps to forecast.")] = None,
    fill: Annotated[str | None, typer.Option(help="Fill gaps of a series: linear or forward.")] = None,
    checkpoint: Annotated[str | None, typer.Option(metavar="FILE", help="Weights of the bare backbone.")] = None,
    pretrained: Annotated[bool | None, typer.Option("--pretrained", help="Start from timm's weights.")] = None,
    freeze: Annotated[
        str | None, typer.Option(help='"backbone": train what was inserted, and the head, alone.')
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    latency_profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Predict latency for the device this profile is of.")
    ] = None,
    modules: Modules = None,
    workers: Annotated[int | None, typer.Option(help="Evaluations at once; several GPUs are taken in turn.")] = None,
    engine: Annotated[str | None, typer.Option(help="local (processes here) or ray (a Ray cluster).")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql://...: share the study with other machines.")
    ] = None,
    reuse: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Bring in another run's evaluations where they fit.")
    ] = None,
    trial_timeout: Annotated[
        str | None, typer.Option(metavar="10m", help="Kill an evaluation that takes longer; it has failed.")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="Weights kept: of the front or of all.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run folder; resumes the run there.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the training or the search.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with settings.")] = None,
    as_json: AsJson = False,
) -> int:
    """Search a space: which plans are worth having, at what cost, how surely. Leaves a run folder with a report.

    Example: nasbench search five-properties --backbone test_resnet --task digits --trials 6 --seeds 1 --out runs/try
    """
    from nasbench import report as reports
    from nasbench.study import search as study

    options: dict[str, Any] = dict(
        space=space, objectives=objective,
        backbone=backbone, task=task, trials=trials, time_s=duration_s(time) if time else None,
        constraints=constraint, sampler=sampler, seed=seed, seeds=seeds, controls=controls, halving=halving,
        proxies=proxy, size=size, lookback=lookback,
        horizon=horizon, fill=fill, checkpoint=checkpoint, pretrained=pretrained, freeze=freeze, device=device,
        latency_profile=str(latency_profile) if latency_profile else None,
        workers=workers, engine=engine, storage=storage, reuse=str(reuse) if reuse else None,
        trial_timeout_s=duration_s(trial_timeout) if trial_timeout else None,
        modules=modules, keep=keep,
    )  # fmt: skip
    given = merged(options, set_)
    with Progress() as progress:
        run = study.search(out=out, config=config, on_event=progress.on_event, origin="command line", **given)
        progress.note("building the report")
        page = reports.build(run)
    print_front(run, as_json)
    if run.settings.latency_profile:
        narrate(f"latency is predicted; on the device itself: nasbench profile --run {run.path} --front")
    narrate(f"report: {page}; next: nasbench report {run.path}, or the same search with more --trials")
    return 1 if (run.trials()["state"] == "failed").any() else 0


class Progress:
    """Shows the events of a search: a bar on a terminal, a line each elsewhere, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.markup import escape

        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Show one event of the search."""
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bar.add_task(event.stage, total=event.total)
        self._bar.update(self._tasks[event.stage], completed=event.done, total=event.total)
        self.note(f"{event.stage} {event.done}/{event.total}  {event.message}")
