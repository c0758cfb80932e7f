"""The data of a run: create the task of a search, record what data it read, and create the task of a recorded run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench.backbones import default_input_size
from nasbench.backbones.names import is_timm
from nasbench.errors import DataError, InputError, RunError
from nasbench.files import write_text
from nasbench.library.pretexts import SUPERVISED
from nasbench.runs.folder import RunFolder
from nasbench.runs.schema import DataRead, read_data
from nasbench.runs.settings import SearchSettings, differences
from nasbench.tasks import Task, create_task
from nasbench.training.pretexts import PretextTask

__all__ = ["make_task", "save_data", "task_of_run"]

SCHEMA_VERSION = 1

_PATHS = ("folder", "tar", "csv", "ett", "segment", "detect", "sr", "series")
"""Kinds of tasks that are followed by a colon and paths, such as `csv:PATH`."""

WITHOUT_DATA = "report, compare, export, power, runs and suggest do not need the data"

WITHOUT_MODELS = "the task has an `attach` of its own, so the models of the run cannot be built without its data"


def make_task(settings: SearchSettings, text: str | None = None) -> Task:
    """Read the data of a search and return its task.

    Args:
        settings: The settings, in which the backbone and the task are resolved.
        text: The task as text, such as "digits". By default the task of the settings.

    Raises:
        InputError: If the task does not exist, or if its data is missing or cannot be used.
    """
    task = create_task(
        str(settings.task) if text is None else text,
        size=settings.size,
        lookback=settings.lookback,
        horizon=settings.horizon,
        fill=settings.fill,
        covariates=settings.covariates,
        dates=settings.dates,
        series=settings.series,
        target=settings.target,
        head=settings.head,
        ignore=settings.ignore,
        scale=settings.scale,
        groups=settings.groups,
        labels=settings.learn == SUPERVISED,
        seed=settings.seed,
        **_host_images(settings, str(settings.backbone)),
    )
    if settings.learn == SUPERVISED:
        return task
    if settings.covariates:
        raise InputError(f"learn={settings.learn}: a pretext learns from series alone; leave out covariates")
    return PretextTask(task, settings.learn)


def _host_images(settings: SearchSettings, backbone: str) -> dict[str, Any]:
    """Return the image side of the backbone and the normalisation of its pretrained weights, as options of the task."""
    if not is_timm(backbone):
        return {}
    import timm

    config = timm.get_pretrained_cfg(backbone)
    size = default_input_size(backbone)
    options: dict[str, Any] = {"default_size": size[-1]} if size else {}
    if config is not None and (settings.pretrained or settings.checkpoint):
        options |= {"mean": config.mean, "std": config.std}
    return options


def save_data(folder: RunFolder, task: Task) -> None:
    """Write data.json.

    Raises:
        OSError: If the run folder cannot be written.
    """
    told = DataRead(
        schema_version=SCHEMA_VERSION,
        task=task.name,
        found=_absolute(task.name),
        described=task.describe(),
        splits=dict(task.splits),
        input_size=list(task.input_size),
        notes=list(task.notes),
        preprocessing=task.preprocessing(),
        read=dict(task.read),
    )
    write_text(folder.data, json.dumps(told.model_dump(), indent=2, ensure_ascii=False) + "\n")


def _absolute(text: str) -> str:
    """Return the text of a task, with its paths made absolute."""
    form, _, place = text.partition(":")
    if place.lower().startswith("wds/") and form == "timm":
        return f"timm:wds/{Path(place[4:]).resolve()}"
    if form not in _PATHS:
        return text
    return f"{form}:{','.join(str(Path(part).expanduser().resolve()) for part in place.split(','))}"


def task_of_run(folder: RunFolder, config: Mapping[str, Any], settings: SearchSettings) -> Task:
    """Read the data of a run again and return its task.

    Args:
        folder: The run folder.
        config: The contents of config.yaml.
        settings: The settings of the run as `Sources.load` returns them, so that the run's own code is loaded.

    Raises:
        RunError: If a function or a table evaluated the plans, if the data does not exist any more, or if it is not the
            data of the run. The message says what does not work without the data, or which commands do not need them.
    """
    if config["task"] is None:
        raise RunError(f"run {folder.name} was evaluated by a function or from a table, so it has no data")
    name = str(config["settings"]["task"])
    hint = WITHOUT_MODELS if config["task"].get("attaches_itself") else WITHOUT_DATA
    # The recorded path is absolute, so it is valid in any working directory. A user's own task is copied into the run.
    read = read_data(folder)
    text = name if read is None else read.found
    text = text if settings.task == name else str(settings.task)
    try:
        task = make_task(settings, text)
    except (DataError, InputError, OSError) as error:
        raise RunError(f"the data of run {folder.name} ({name}) cannot be read: {error}; {hint}") from None
    task.name = name
    there, here = config["identity"]["data"], task.describe()
    # Only keys of both are compared, because another version of nasbench can describe the data with other keys.
    both = [key for key in here if key in there]
    if differing := differences({key: there[key] for key in both}, {key: here[key] for key in both}):
        raise RunError(
            f"the data at {text} is not the data of run {folder.name}; {hint}. What differs:\n  "
            + "\n  ".join(differing)
        )
    return task
