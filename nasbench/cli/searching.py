"""The search command, and its progress display."""

from __future__ import annotations

import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, app
from nasbench.cli._settings import SettingsCommand, given_settings
from nasbench.cli.results import narrate_end, print_front
from nasbench.text import duration_text, narrate

if TYPE_CHECKING:
    from nasbench.study.search import Event


_WORTH_TELLING_S = 10
"""A shorter remaining time is not shown."""

_LOADING_S, _LOADING_AGAIN_S = 10.0, 30.0
"""Seconds of loading after which a line says so, first and then again."""

_UNITS_TIMED = 2
"""Number of units of a stage after which its remaining time is shown. The first unit can contain the start of workers.
"""

_WIDTH = 80
"""Width of the lines that say what is going to be done, also without a terminal."""


@app.command(cls=SettingsCommand)
def search(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder. If it contains a run, the run is resumed.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the training or of the search.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with settings.")] = None,
    as_json: AsJson = False,
) -> int:
    """Search a space: which plans help, at what cost, and how certain that is. Writes a run folder with a report.

    Example: nasbench search five-properties --backbone test_resnet --task digits --trials 6 --refine 2 --out runs/try

    A few given plans: nasbench search --plan se --plan "stage3=eca >> se" --backbone resnet18 --task folder:PATH
    """
    from nasbench.study import search as study
    from nasbench.study.termination import ending_by_signal

    given = given_settings(context, set_)
    # The progress bar is the inner context, so that the terminal is restored before a signal ends the process.
    with ending_by_signal(), Progress() as progress:
        run = study.search(
            out=out, config=config, on_event=progress.on_event, origin="command line", report=False, **given
        )
        progress.note("building the report")
        from nasbench import report as reports  # imported here, because it takes a second

        page = reports.build(run)
    print_front(run, as_json)
    if run.settings.latency_profile:
        measure = console.command("profile", "--run", run.path, "--front")
        narrate(f"latency is predicted; to measure it on the device: {measure}")
    narrate("beside the report: trials.csv, front.csv, figures/, tables/, models/")
    narrate_end(run, page)
    return 1 if (run.trials()["state"] == "failed").any() else 0


class Progress:
    """Shows the events of a search on stderr: a progress bar on a terminal, and one line for each event."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, _Beginning] = {}
        self._last_s = time.monotonic()  # time of the last line
        self._loading: threading.Thread | None = None
        self._loaded = threading.Event()  # set by the second event

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loaded.set()
        self._bar.stop()

    def _tell_loading(self) -> None:
        """Say from time to time that libraries and data are still being loaded, until `_loaded` is set."""
        from nasbench.study.phases.events import INDENT  # imported here, because `--help` does not need it

        began, wait_s = time.monotonic(), _LOADING_S
        while not self._loaded.wait(wait_s):
            self.note(f"{'':{INDENT}}still loading ({duration_text(time.monotonic() - began)})")
            wait_s = _LOADING_AGAIN_S

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.markup import escape

        self._last_s = time.monotonic()

        # Brackets in a message, such as those of an interval, are not markup.
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Show one event of the search. After the first event, torch and the data are loaded, which can take long."""
        if self._loading is not None:
            self._loaded.set()
        self._show(event)
        if self._loading is None:  # after the first line, so that it comes first
            self._loading = threading.Thread(target=self._tell_loading, daemon=True)
            self._loading.start()

    def _show(self, event: Event) -> None:
        if not event.total:
            from nasbench.study.phases.events import INDENT  # imported here, because `--help` does not need it

            hanging = " " * INDENT
            lines = textwrap.wrap(
                event.message, _WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
            )
            self.note("\n".join(lines))
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bar.add_task(event.stage, total=event.total)
        self._bar.update(self._tasks[event.stage], completed=event.done, total=event.total)
        self.note(f"{event.stage} {event.done}/{event.total}{self._left(event)}  {event.message}")

    def _left(self, event: Event) -> str:
        """Return how long the stage will take, in brackets. "" if this is not known, or if it is only seconds."""
        before = self._began.get(event.stage)
        if before is None or event.done < before.done:
            # the stage began with the last event before it, and its first unit is done
            before = self._began[event.stage] = _Beginning(self._last_s, max(0, event.done - 1), event.done)
        before.done = event.done
        if event.done < before.first + _UNITS_TIMED:
            return ""
        left_s = (time.monotonic() - before.at_s) / (event.done - before.first) * (event.total - event.done)
        return f" ({duration_text(left_s)} left)" if left_s >= _WORTH_TELLING_S else ""


@dataclass
class _Beginning:
    """The beginning of a stage: its time on the monotonic clock, and the numbers of units before it and done so far."""

    at_s: float
    first: int
    done: int
