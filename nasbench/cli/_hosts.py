"""The host that a command on backbones is about: a backbone alone, or a dense host with the head of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli._app import check_names, input_size
from nasbench.errors import InputError
from nasbench.text import narrate

if TYPE_CHECKING:
    from torch import nn

    from nasbench.backbones import Slot
    from nasbench.runs.models import ModelBuilder

__all__ = ["Fill", "Head", "Host", "Neck", "Scale", "Set", "Task", "host_of_options"]

Task = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="Task of segmentation, detection or super-resolution, for its host with a head, or of series to classify.",
    ),
]
Neck = Annotated[str | None, typer.Option(metavar="NECK", help="Neck of the host. It needs --task.")]
Head = Annotated[str | None, typer.Option(metavar="HEAD", help="Head of the model. It needs --task.")]
Scale = Annotated[int | None, typer.Option(help="Factor of super-resolution. It needs --task.")]
Fill = Annotated[str | None, typer.Option(help="Fill missing values of series: linear or forward. It needs --task.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data of --task, such as ignore=11. Repeatable."),
]

_DENSE = ("segmentation", "detection", "super-resolution")
_WITH_A_HOST = (*_DENSE, "series-classification")
"""The kinds of tasks whose models are not those that the options of a command describe."""
_KINDS = "segmentation, detection or super-resolution"


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes:
        backbone: Name of the backbone.
        input_size: Size of one input, without the batch dimension.
        builder: Builds the models of a task. None if no task is given.
        fixed_neck: The neck that --neck gave. None if plans can fill the slot `neck`.
    """

    backbone: str
    input_size: tuple[int, ...]
    builder: ModelBuilder | None = None
    fixed_neck: str | None = None

    @property
    def title(self) -> str:
        """The backbone, with neck and head if there are any."""
        return ", ".join([self.backbone, *(f"{name} {value}" for name, value in self.ending.items())])

    @property
    def ending(self) -> dict[str, str | None]:
        """The neck and the head by these names. Empty if the backbone is the whole model."""
        if self.builder is None or self.builder.head is None:
            return {}
        return {"neck": self.builder.neck, "head": self.builder.head}

    def bare(self) -> str | nn.Module:
        """Return what a plan is inserted into: the backbone, or the dense host without its head."""
        return self.backbone if self.builder is None else self.builder.host()

    def attach(self, host: nn.Module) -> nn.Module:
        """Return the model of a host with a plan."""
        return host if self.builder is None else self.builder.attach(host)

    def slots(self) -> list[Slot]:
        """Return the slots that plans can fill."""
        from nasbench import backbones
        from nasbench.library.plan import NECK

        found = backbones.slots(self.bare(), input_size=self.input_size)
        return [slot for slot in found if slot.name != NECK or self.fixed_neck is None]

    def model(self, plan: str | None, *, identity_init: bool = True) -> nn.Module:
        """Build the model of a plan."""
        from nasbench.backbones.insertion import insert

        host = insert(self.bare(), plan, input_size=self.input_size, identity_init=identity_init)
        return self.attach(host)


def host_of_options(
    backbone: str,
    task: str | None,
    of_task: Mapping[str, Any],
    pairs: Sequence[str] | None = None,
    *,
    plans: Sequence[str] = (),
    size: int | None = None,
    lookback: int = 96,
    series: int = 7,
) -> Host:
    """Return the host that options give. Without a task it is the backbone alone.

    The data of a task is read, because the number of classes and the size of the images depend on it.

    Args:
        backbone: Name of the backbone.
        task: The task as text.
        of_task: Values of the options that need a task, by name of the setting. None means not given.
        pairs: Values of `--set`, each `KEY=VALUE`, for settings of the data of the task.
        plans: Plans that are inserted into the host later, for a check of their names.
        size: Image side in pixels.
        lookback: Number of input steps of a forecasting backbone. Not used with a task.
        series: Number of series of a forecasting backbone. Not used with a task.

    Raises:
        UnknownNameError: If there is no such backbone, module, slot, task, neck, head or setting.
        InputError: If a plan is malformed, if an option needs a task, if a setting is none of the data, if the task has
            no host of its own or does not use a setting, or if the backbone is not for it.
        DataError: If the data of the task cannot be read.
    """
    if task is None:
        given = [f"--{name}" for name, value in {**of_task, "set": pairs or None}.items() if value is not None]
        if given:
            raise InputError(f"{' and '.join(given)}: only together with --task, a task of {_KINDS}")
        check_names(backbone, *plans, size=size, lookback=lookback, series=series)
        return Host(backbone, input_size(backbone, size, lookback, series))
    _check_kind(task, _kind(task) or _WITH_A_HOST[0])
    from nasbench.runs.command_line import merged
    from nasbench.runs.settings import read_settings
    from nasbench.study.names import check_names as check_settings
    from nasbench.study.problem import OF_DATA, check_pair, check_used

    options = {"size": size, **of_task}
    read = merged(options, pairs)
    if others := [name for name in read if name not in OF_DATA]:
        raise InputError(
            f"--set {others[0]}: nothing is trained or searched here; the settings that can be set are those of the "
            f"data: {', '.join(OF_DATA)}"
        )
    settings, _ = read_settings({"backbone": backbone, "task": task, **read}, None, "command line")
    check_settings(settings)
    check_used(settings)
    from nasbench.backbones.dense import DenseHost
    from nasbench.library.plan import Plan, check_neck_is_free
    from nasbench.runs.data import make_task
    from nasbench.runs.models import ModelBuilder, with_ending

    made = make_task(settings)
    _check_kind(task, made.kind)
    check_pair(backbone, made)
    settings = with_ending(settings, made)
    if settings.neck is not None:
        check_neck_is_free(map(Plan.of, plans), settings.neck)
    host = Host(backbone, made.input_size, ModelBuilder.of(settings, made), settings.neck)
    bare = host.bare()
    if isinstance(bare, DenseHost) and (idle := bare.idle_note(host.input_size)):
        narrate(f"note: {idle}")
    return host


def _kind(task: str) -> str:
    from nasbench.tasks.forms import TABLE, kind_of

    return "tabulated" if task.startswith(TABLE) else kind_of(task)


def _check_kind(task: str, kind: str) -> None:
    if kind not in _WITH_A_HOST:
        raise InputError(
            f"--task {task}: only a task of {_KINDS} puts a neck and a head on a backbone, and only a task of series "
            f"to classify changes its size and its end; leave --task out for a {kind} task"
        )
