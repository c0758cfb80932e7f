"""The typer application, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nasbench.cli import console
from nasbench.errors import InputError
from nasbench.text import MAX_SIDE, MAX_STEPS

__all__ = [
    "PLAN_HELP",
    "AsJson",
    "Command",
    "CopyTo",
    "Force",
    "Lookback",
    "Modules",
    "Series",
    "Size",
    "Trust",
    "app",
    "check_names",
    "input_size",
    "load_plugins",
    "load_project",
]

_ORDER = (
    "modules", "show", "fingerprint", "suggest", "check", "slots", "spaces", "measure", "profile", "search", "train",
    "report", "power", "compare", "export", "tabulate", "runs", "init", "doctor",
)  # fmt: skip

_PROJECT = "run.yaml"
"""The file with the settings of a project. `nasbench init` writes it."""


class _InOrder(typer.core.TyperGroup):
    """Lists the commands of `--help` in the order in which a newcomer needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


class Command(typer.core.TyperCommand):
    """A command whose stdout has only what the command itself prints. Prints of plug-ins go to stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with console.only_output_on_stdout():
            return super().invoke(ctx)


class _App(typer.Typer):
    """An application whose commands are of the class `Command` by default."""

    def command(self, *args: Any, **settings: Any) -> Any:
        return super().command(*args, **{"cls": Command, **settings})


app = _App(
    cls=_InOrder,
    name="nasbench",
    help="Which plug-and-play modules help a network, where, at what real cost, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PLAN_HELP = 'SLOT=EXPRESSION pieces separated by ";", a JSON object of slots, or one expression for every stage.'
"""The help text for options that take a plan."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Modules = Annotated[list[str] | None, typer.Option("--modules", metavar="PATH", help="Plug-in file or folder to load.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Execute the Python code in a run that you did not make on this machine.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist already.")]
CopyTo = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Copy the run to this new folder and work on the copy. For a run that is read-only.",
    ),
]
Size = Annotated[int | None, typer.Option("--size", metavar="PX", min=1, max=MAX_SIDE, help="Image side in pixels.")]
Lookback = Annotated[
    int, typer.Option(metavar="L", min=1, max=MAX_STEPS, help="Number of input steps of a forecasting backbone.")
]
Series = Annotated[
    int, typer.Option(metavar="N", min=1, max=MAX_STEPS, help="Number of series of a forecasting backbone.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from nasbench import __version__

        console.print_text(f"nasbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def input_size(backbone: str, size: int | None, lookback: int = 96, series: int = 7) -> tuple[int, ...]:
    """Return the input size that the options give. Without such an option, return the default size of the backbone.

    Args:
        backbone: The name of the backbone.
        size: Image side in pixels. It gives `(3, size, size)`. Not used for a forecasting backbone.
        lookback: Number of input steps of a forecasting backbone. Its input size is `(lookback, series)`.
        series: Number of series of a forecasting backbone.
    """
    from nasbench import backbones

    given = _given_size(backbone, size, lookback, series)
    return given or backbones.default_input_size(backbone) or (3, 224, 224)


def _given_size(backbone: str, size: int | None, lookback: int, series: int) -> tuple[int, ...] | None:
    """Return the input size that the options give. None means the default of the backbone, which timm knows."""
    from nasbench.backbones.names import is_stem

    if is_stem(backbone):
        return (lookback, series)
    return None if size is None else (3, size, size)


def check_names(backbone: str, *plans: str, size: int | None = None, lookback: int = 96, series: int = 7) -> None:
    """Check the names that were given to a command, before torch and timm are loaded.

    Slot names are compared with the slots that an earlier command found and stored. If none are stored, the slots are
    found now.

    Raises:
        UnknownNameError: If there is no such backbone, module or slot. The message suggests the nearest names.
        InputError: If a plan is malformed.
    """
    from nasbench.backbones.names import check_backbone_name, is_file
    from nasbench.backbones.slot_cache import slots_by_name
    from nasbench.library.plan import EVERY_STAGE, Plan

    check_backbone_name(backbone)
    shape = _given_size(backbone, size, lookback, series)
    for plan in map(Plan.of, plans):
        # The slots of a user's own network are not stored, so they are checked later.
        if set(plan) - {EVERY_STAGE} and not is_file(backbone):
            plan.resolve([slot.name for slot in slots_by_name(backbone, shape)])


def load_plugins(paths: list[str] | None) -> None:
    """Load the plug-in files and folders given by `--modules`."""
    from nasbench.library import plugins

    for path in paths or []:
        plugins.load_path(path)


def load_project() -> bool:
    """Load the modules that the run.yaml in the working directory names. Return whether it names any."""
    from nasbench.runs.settings import read_settings

    try:
        settings, _ = read_settings({}, _PROJECT) if Path(_PROJECT).is_file() else (None, {})
    except InputError:  # the command that uses run.yaml reports its faults
        return False
    paths = [] if settings is None else list(settings.modules)
    load_plugins(paths)
    return bool(paths)
