"""What a search is told by options and by `--set` pairs, as one mapping of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.errors import InputError, UnknownNameError

__all__ = ["merged"]


def merged(options: Mapping[str, Any], pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings that were given; `--set` reaches those of the search and those of its training recipe.

    Args:
        options: Values of the command's options by the name of the setting; None where one was not given.
        pairs: Texts `KEY=VALUE`.

    Raises:
        UnknownNameError: If there is no such setting.
        InputError: If a pair has no "=", or a setting is given by an option and by `--set`.
    """
    from nasbench.runs.settings import SearchSettings
    from nasbench.tasks.recipe import Recipe

    given = {name: value for name, value in options.items() if value is not None}
    training = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        key = key.strip().removeprefix("training.")
        if not equals:
            raise InputError(f"--set takes KEY=VALUE, as in --set epochs=5; got {pair!r}")
        if key in Recipe.model_fields:
            training[key] = value.strip()
        elif key not in SearchSettings.model_fields:
            raise UnknownNameError("setting", key, [*Recipe.model_fields, *SearchSettings.model_fields])
        elif options.get(key) is not None:
            raise InputError(f"{key} is given by an option and by --set {pair}; give it once")
        else:
            given[key] = value.strip()
    return given | ({"training": training} if training else {})
