"""Options made from `SearchSettings`, in which each setting of a search is described once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
import typer.main

from nasbench.cli._app import Command

if TYPE_CHECKING:
    from nasbench.runs.settings import CommandLine

__all__ = ["SettingsCommand", "given_settings"]

_OPTIONS = "nasbench: options of settings"
"""The key under which typer's context stores the values of these options."""

_METAVARS: Mapping[Any, str] = {int: "<int>", int | None: "<int>"}
"""The placeholder in the help text for values of these types."""


class SettingsCommand(Command):
    """A command that takes settings as options, before the options of its own signature.

    The options are made when the command is used and not before. Making them imports pydantic, which would slow down
    `nasbench --help`.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """The settings that the command takes, in this order. By default every setting that has an option."""

    meanings: ClassVar[Mapping[str, str]] = {}
    """Help texts for the settings that mean something else in this command than in a search."""

    @cached_property
    def _taking_settings(self) -> Any:
        """A command that has only the options of settings, and returns their values."""
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(_function_of(list(_parameters(self.names, self.meanings))))
        return typer.main.get_command(app)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options made from settings, the options of the signature, and `--help`."""
        return [*self._taking_settings.params, *super().get_params(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Its function then reads the settings with `given_settings`."""
        values = {param.name: ctx.params.pop(param.name) for param in self._taking_settings.params}
        ctx.meta[_OPTIONS] = self._taking_settings.callback(**values)
        return super().invoke(ctx)


def given_settings(context: typer.Context, pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings given by the options of a command and by its `--set` pairs.

    Raises:
        UnknownNameError: If there is no such setting.
        InputError: If a value is wrong, or if a setting is given twice.
    """
    from nasbench.runs.command_line import merged

    return merged(context.meta[_OPTIONS], pairs)


def _function_of(parameters: Sequence[inspect.Parameter]) -> Callable[..., dict[str, Any]]:
    """Return a function with these parameters that returns its arguments. Typer makes options from its signature."""

    def values_of(**values: Any) -> dict[str, Any]:
        return values

    values_of.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return values_of


def _parameters(names: Sequence[str], meanings: Mapping[str, str]) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each setting that has an option."""
    from nasbench.runs.command_line import command_line
    from nasbench.runs.settings import SearchSettings, meaning

    for name in names or SearchSettings.model_fields:
        about, how = SearchSettings.model_fields[name], command_line(name)
        if how.option:
            phrase = meanings.get(name) or _with_default(meaning(about), about.default)
            yield _parameter(name, about.annotation, how, _sentence(phrase, how.repeated))


def _parameter(name: str, annotation: Any, how: CommandLine, text: str) -> inspect.Parameter:
    """Return the setting `name` as a parameter for typer. Its value is None if the option was not given."""
    # Every other value stays text, so that `SearchSettings` alone parses and checks it.
    kind: Any = list[str] if how.repeated else bool if annotation is bool else str
    metavar = how.metavar or _METAVARS.get(annotation)
    spelling = f"{how.option}/{how.off}" if how.off else how.option
    taken: Any = (
        typer.Option(spelling, metavar=metavar, help=text)
        if how.option.startswith("-")
        else typer.Argument(metavar=metavar, help=text)
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, taken]
    )


def _with_default(phrase: str, default: Any) -> str:
    """Return the phrase that says what a setting means. If the default is a positive count, add the default."""
    return f"{phrase}; {default} by default" if type(default) is int and default else phrase


def _sentence(phrase: str, repeated: bool) -> str:
    """Return a phrase as a sentence for a help text."""
    is_literal = "://" in phrase.split()[0]  # a reader copies a URL, so its first letter must not change
    first = phrase[0] if is_literal else phrase[0].upper()
    return f"{first}{phrase[1:]}{'; can be repeated' if repeated else ''}."
