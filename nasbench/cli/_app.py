"""The command itself, the options that several commands share, and what they stand for."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from nasbench.cli import console
from nasbench.errors import InputError

__all__ = ["AsJson", "Modules", "Size", "app", "check_names", "input_size", "load_plugins"]

_ORDER = (
    "modules", "show", "fingerprint", "suggest", "check", "slots", "spaces", "measure", "profile", "search", "train",
    "report", "compare", "export", "tabulate", "runs", "init", "doctor",
)  # fmt: skip


class _InOrder(typer.core.TyperGroup):
    """Lists the commands of `--help` as a newcomer meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    name="nasbench",
    help="Which plug-and-play modules help a network, where, at what real cost, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Modules = Annotated[list[str] | None, typer.Option("--modules", metavar="PATH", help="Plug-in file or folder to load.")]
Size = Annotated[int | None, typer.Option("--size", metavar="PX", help="Image side in pixels.")]


def _version(wanted: bool) -> None:
    if wanted:
        from nasbench import __version__

        console.print_text(f"nasbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def input_size(backbone: str, size: int | None, lookback: int = 96, series: int = 7) -> tuple[int, ...]:
    """Return the input size that options stand for; the backbone's own where they say nothing."""
    from nasbench import backbones

    if backbones.is_stem(backbone):
        return (lookback, series)
    if size is not None:
        if size < 1:
            raise InputError(f"--size {size}: an image has at least 1 pixel")
        return (3, size, size)
    return backbones.default_input_size(backbone) or (3, 224, 224)


def check_names(backbone: str, *plans: str) -> None:
    """Check the names that a command was given, before it loads torch and timm.

    Raises:
        UnknownNameError: If there is no such backbone or module; the nearest names are offered.
        InputError: If a plan is malformed.
    """
    from nasbench.backbones.names import check_backbone_name
    from nasbench.library.plan import Plan

    check_backbone_name(backbone)
    for plan in plans:
        Plan.of(plan)


def load_plugins(paths: list[str] | None) -> None:
    """Load what `--modules` names."""
    from nasbench.library import plugins

    for path in paths or []:
        plugins.load_path(path)
