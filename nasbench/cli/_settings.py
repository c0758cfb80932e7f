"""Options made from the settings of a search: each is described once, in `SearchSettings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
import typer.core
import typer.main

if TYPE_CHECKING:
    from nasbench.runs.settings import CommandLine

__all__ = ["SettingsCommand", "given_settings"]

_OPTIONS = "nasbench.settings"
"""Where a context holds the values of these options."""

_KINDS: Mapping[Any, type] = {int: int, int | None: int, bool: bool}
"""What the option parser reads for a type of setting. The settings check everything else, which it takes as text."""


class SettingsCommand(typer.core.TyperCommand):
    """A command that takes settings as options, before those of its own signature.

    They are made when the command is used: `nasbench --help` needs none, and the settings need pydantic.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """The settings it takes, in this order; by default every one that has an option."""

    meanings: ClassVar[Mapping[str, str]] = {}
    """Help of a setting that means something else here."""

    @cached_property
    def _taking_settings(self) -> Any:
        """A command of these options alone, which returns their values."""
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(_function_of(list(_parameters(self.names, self.meanings))))
        return typer.main.get_command(app)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the settings, the options of the signature and `--help`."""
        return [*self._taking_settings.params, *super().get_params(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its function finds the settings by `given_settings`."""
        values = {param.name: ctx.params.pop(param.name) for param in self._taking_settings.params}
        ctx.meta[_OPTIONS] = self._taking_settings.callback(**values)
        return super().invoke(ctx)


def given_settings(context: typer.Context, pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings that a command was given, by its options and by `--set` pairs.

    Raises:
        UnknownNameError: If there is no such setting.
        InputError: If a value is wrong, or given twice.
    """
    from nasbench.runs.command_line import merged

    return merged(context.meta[_OPTIONS], pairs)


def _function_of(parameters: Sequence[inspect.Parameter]) -> Callable[..., dict[str, Any]]:
    """Return a function with this signature, from which typer makes options, that returns its arguments."""

    def told(**values: Any) -> dict[str, Any]:
        return values

    told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return told


def _parameters(names: Sequence[str], meanings: Mapping[str, str]) -> Iterator[inspect.Parameter]:
    """Yield the parameter of each setting that has an option."""
    from nasbench.runs.command_line import command_line
    from nasbench.runs.settings import SearchSettings, meaning

    for name in names or SearchSettings.model_fields:
        about, how = SearchSettings.model_fields[name], command_line(name)
        if how.option:
            phrase = meanings.get(name) or _with_default(meaning(about), about.default)
            yield _parameter(name, about.annotation, how, _sentence(phrase, how.repeated))


def _parameter(name: str, annotation: Any, how: CommandLine, text: str) -> inspect.Parameter:
    """Return a parameter as one would write it for typer; None means not given."""
    kind: Any = list[str] if how.repeated else _KINDS.get(annotation, str)
    spelling = f"{how.option}/{how.off}" if how.off else how.option
    taken: Any = (
        typer.Option(spelling, metavar=how.metavar, help=text)
        if how.option.startswith("-")
        else typer.Argument(metavar=how.metavar, help=text)
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, taken]
    )


def _with_default(phrase: str, default: Any) -> str:
    """Return what a setting means with its default, where that is a count."""
    return f"{phrase}; {default} by default" if type(default) is int and default else phrase


def _sentence(phrase: str, repeated: bool) -> str:
    """Return a phrase as the sentence of a help text."""
    return f"{phrase[0].upper()}{phrase[1:]}{'; may be repeated' if repeated else ''}."
