"""What config.yaml of a run folder may hold, checked on opening: a folder may come from anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nasbench.errors import InputError, RunError
from nasbench.reading import read_yaml
from nasbench.settings import SearchSettings

__all__ = ["RunConfig", "config_text", "read_config"]

_Text = Annotated[str, Field(max_length=100_000)]


class _Part(BaseModel):
    """Strict types; keys of later versions are let through."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class SpaceInfo(_Part):
    """The space as resolved: its name, distinct plans, slots, and (slot, variant, reason) of what was left out."""

    name: _Text
    plans: int = Field(ge=0)
    slots: list[_Text]
    excluded: list[Annotated[list[_Text], Field(min_length=3, max_length=3)]]


class TaskInfo(_Part):
    """The task: its data, and where the recipe differs from the task's own."""

    kind: Literal["classification", "forecasting"]
    metric: _Text
    splits: dict[str, int]
    input_size: list[int] = Field(min_length=2, max_length=3)
    notes: list[_Text] = []
    recipe_changes: dict[str, Any] = {}


class RunConfig(_Part):
    """The whole file.

    Attributes:
        schema_version: Of the file.
        created: When the run was made.
        settings: As resolved; fields of `SearchSettings`.
        origins: Where each setting came from.
        objectives: Name to direction.
        identity: What makes two runs the same.
        space: The space.
        task: The task; None where a function evaluates.
    """

    schema_version: int
    created: _Text = ""
    settings: dict[str, Any]
    origins: dict[str, _Text] = {}
    objectives: Annotated[dict[_Text, Literal["maximize", "minimize"]], Field(min_length=1)]
    identity: dict[str, Any]
    space: SpaceInfo
    task: TaskInfo | None


def read_config(file: Path) -> dict[str, Any]:
    """Return what a run's config.yaml holds.

    Raises:
        RunError: If it cannot be read, or is damaged; names the first place.
    """
    try:
        given = read_yaml(file, "run configuration")
        RunConfig.model_validate(given)
        SearchSettings.model_validate(given["settings"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        raise RunError(f"{file} is damaged: {place}: {first['msg']}") from None
    except InputError as error:
        raise RunError(f"{file} is damaged: {error}") from None
    return given


class _Dumper(yaml.SafeDumper):
    """Writes every value out: a reader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def config_text(config: dict[str, Any]) -> str:
    """Return the text of config.yaml."""
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
