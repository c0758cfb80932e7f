"""Settings of a search on the command line: read options and `--set`, and write the command that reproduces a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.errors import InputError, UnknownNameError
from nasbench.runs.settings import GONE, NOT_WITH_PLANS, CommandLine, SearchSettings

__all__ = ["command_line", "command_words", "merged"]


def command_line(name: str) -> CommandLine:
    """Return the description of how a setting is typed on the command line."""
    metadata = SearchSettings.model_fields[name].metadata
    return next((each for each in metadata if isinstance(each, CommandLine)), CommandLine())


def merged(options: Mapping[str, Any], pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings that are given by options and by `--set`. `--set` can also set keys of the training recipe.

    Args:
        options: Values of the command's options as typed, by name of the setting. None means that the option was not
            given.
        pairs: Values of `--set`, each `KEY=VALUE`.

    Raises:
        UnknownNameError: If a setting does not exist.
        InputError: If a pair has no "=", if a text cannot be parsed, or if a setting is given by an option and by
            `--set`.
    """
    from nasbench.tasks.recipe import Recipe  # imported here, because `--help` must be quick and does not need it

    given = {name: _parsed(name, value) for name, value in options.items() if value is not None}
    training = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        key = key.strip().removeprefix("training.")
        if not equals:
            raise InputError(f"--set needs KEY=VALUE, such as --set epochs=5; got {pair!r}")
        if key in Recipe.model_fields:
            training[key] = value.strip()
        elif key not in SearchSettings.model_fields and key not in GONE:
            known = [*Recipe.model_fields, *SearchSettings.model_fields]
            raise UnknownNameError("setting", key, known, "docs/settings.md lists all settings")
        elif options.get(key) is not None:
            raise InputError(f"{key} is given by an option and by --set {pair}; give it once")
        else:
            given[key] = value.strip()
    return given | ({"training": training} if training else {})


def _parsed(name: str, value: Any) -> Any:
    how = command_line(name)
    if "" in ([each.strip() for each in value] if isinstance(value, list) else [str(value).strip()]):
        raise InputError(f"{how.option} is empty; give it a value, or leave it out")
    parse = how.parse
    return value if parse is None else parse(value)


def command_words(settings: SearchSettings, recipe_changes: Mapping[str, Any]) -> list[str]:
    """Return the words of the command that reproduces a search. Settings with their default values are left out.

    Args:
        settings: The settings of the search.
        recipe_changes: Settings of the recipe that differ from the task's default recipe.
    """
    space = settings.space if isinstance(settings.space, str) else "SPACE.yaml"
    words = ["nasbench", "search", *([] if settings.plans else [space])]
    for name, about in SearchSettings.model_fields.items():
        if settings.plans and name in NOT_WITH_PLANS:
            continue
        value, how = getattr(settings, name), command_line(name)
        if how.reproduce == "always" or (how.reproduce == "changed" and value != about.default):
            words += _words(name, how, value)
    return words + [word for key, value in recipe_changes.items() for word in ("--set", f"{key}={value}")]


def _words(name: str, how: CommandLine, value: Any) -> list[str]:
    """Return the words that set one setting."""
    if not how.option:
        return ["--set", f"{name}={','.join(value) if isinstance(value, tuple) else value}"]
    if how.repeated:
        return [word for item in value for word in (how.option, item)]
    if isinstance(value, bool):
        return [how.option if value else how.off]
    return [how.option, str(value)]
