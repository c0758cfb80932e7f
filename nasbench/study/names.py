"""Checks the names and files in the settings of a search before anything heavy is imported. Imports no torch."""

from __future__ import annotations

from nasbench.backbones.names import check_backbone_name, check_checkpoint
from nasbench.errors import UnknownNameError
from nasbench.library import plugins
from nasbench.library.plan import Plan
from nasbench.library.source_names import check_defined
from nasbench.measurement.latency.device_profile import load_device_profile
from nasbench.measurement.latency.devices import check_device_name
from nasbench.objectives import COSTS, PROXY_NAMES, parse_constraint
from nasbench.runs.settings import SearchSettings
from nasbench.spaces import load_space
from nasbench.tasks.forms import METRICS, TABLE, USER_TASK, is_user_task, kind_of
from nasbench.tasks.places import find_data
from nasbench.tasks.recipe import Recipe

__all__ = ["check_names"]


def check_names(settings: SearchSettings, *, trains: bool = True) -> None:
    """Check the names in the settings, from the backbone to the recipe of the training, and the files named.

    Names that only a user's own files define (a table, metrics of a function) are checked later.

    Args:
        settings: The settings, as read.
        trains: Whether plans are trained. False if a function evaluates them.

    Raises:
        UnknownNameError: If a name does not exist. Suggests the nearest ones.
        InputError: If a task names no data, a value of a training setting is not allowed, a constraint is malformed,
            or a device profile cannot be read.
        DataError: If the data of the task is not there.
        BackboneError: If there is no file of weights at `checkpoint`.
        PluginError: If a file of the user's is not there.
        RunError: If there is no run at `reuse`.
    """
    for path in settings.modules:  # first: a space may name modules of these plug-ins
        plugins.load_path(path)
    if settings.space is not None:
        load_space(settings.space)
    for plan in settings.plans:
        Plan.of(plan)
    if settings.storage is not None:
        from nasbench.runs.storage import check_storage_url  # late: it imports Optuna

        check_storage_url(settings.storage)
    if settings.reuse is not None:
        from nasbench.runs.run import load_run  # late: it imports Optuna

        load_run(settings.reuse)
    check_device_name(settings.device)
    task = settings.task or ""
    if is_user_task(task):
        check_defined(task, "task", USER_TASK)  # its recipe may have settings of its own
    else:
        Recipe().with_settings(settings.training)
    if task.startswith(TABLE):  # a table knows the names of its own
        find_data(task)
        return
    if settings.backbone is not None:
        check_backbone_name(settings.backbone)
    if trains:
        _check_names_of_training(settings)
        _check_files_of_training(settings)


def _check_files_of_training(settings: SearchSettings) -> None:
    if settings.task is not None:
        find_data(settings.task)
    if settings.checkpoint is not None:
        check_checkpoint(settings.checkpoint)
    if settings.latency_profile is not None:
        load_device_profile(settings.latency_profile)


def _check_names_of_training(settings: SearchSettings) -> None:
    kind = "classification" if settings.task is None else kind_of(settings.task)
    for name in settings.proxies:
        if name not in PROXY_NAMES:
            raise UnknownNameError("zero-cost proxy", name, PROXY_NAMES)
    for constraint in settings.constraints:
        parse_constraint(constraint, [*COSTS, *settings.proxies])
    known = [*METRICS.get(kind, ()), *COSTS]
    if settings.task is None:  # the backbone decides the task later, so every task's metrics are allowed here
        known = [*(name for metrics in METRICS.values() for name in metrics), *COSTS]
    for name, direction in settings.objectives.items():
        # a name with its direction may be a metric of the user's own
        if kind and not direction and name not in known:
            raise UnknownNameError("objective", name, known, "a metric of your own: objectives={name: 'maximize'}")
