"""Checks the names and files in the settings of a search before slow imports such as torch. Imports no torch."""

from __future__ import annotations

from nasbench.backbones.names import check_backbone_name, check_checkpoint
from nasbench.errors import InputError, UnknownNameError
from nasbench.library import plugins
from nasbench.library.plan import Plan
from nasbench.library.pretexts import SUPERVISED, check_learn
from nasbench.library.source_names import check_defined
from nasbench.measurement.latency.device_profile import load_device_profile
from nasbench.measurement.latency.devices import check_device_name
from nasbench.objectives import COSTS, PROXY_NAMES, trained_constraint
from nasbench.runs.settings import SearchSettings, check_training
from nasbench.spaces import load_space
from nasbench.study.loggers import check_loggers
from nasbench.tasks.forms import METRICS, PRETEXT_METRICS, TABLE, USER_TASK, is_user_task, kind_of
from nasbench.tasks.places import find_data

__all__ = ["check_names"]


def check_names(settings: SearchSettings, *, trains: bool = True) -> None:
    """Check all names in the settings, from the backbone to the training recipe, and all files in them.

    Some names are defined by a table or by the user's function. These are checked later.

    Args:
        settings: The settings as they were read, without resolved defaults.
        trains: Whether plans are trained. False if a function evaluates them.

    Raises:
        UnknownNameError: If a name does not exist. Suggests the nearest names.
        InputError: If weights are given twice, if the text of a task is malformed, if the value of a training setting
            is not allowed, if a constraint is malformed, if a device profile cannot be read, or if the package of a
            logger is missing.
        DataError: If the data of the task does not exist.
        BackboneError: If the weights file `checkpoint` does not exist.
        PluginError: If a file of the user does not exist.
        RunError: If the folder `reuse` contains no run.
    """
    task = settings.task or ""
    if settings.pretrained and settings.checkpoint is not None:
        raise InputError(
            f"checkpoint={settings.checkpoint} and pretrained: both give the weights with which training starts; leave "
            "one of them out"
        )
    for path in settings.modules:  # loaded first, because a space can contain modules of these plug-ins
        plugins.load_path(path)
    if is_user_task(task):
        check_defined(task, "task", USER_TASK)
        if settings.space is not None or settings.plans:  # they can name what the file of the task registers
            plugins.load_path(plugins.python_file(task)[0])
    if settings.space is not None:
        load_space(settings.space)
    for plan in settings.plans:
        Plan.of(plan)
    # `none` is what a person writes who wants the bare backbone alone, for its noise.
    if settings.plans and {plan.replace(" ", "") for plan in settings.plans} == {"{}"}:
        raise InputError(
            "the given plan {} has no module, and the bare backbone is always compared: there is nothing to compare; "
            "give a plan with a module, such as se, or none for the bare backbone alone"
        )
    check_learn(settings.learn)
    if settings.storage is not None:
        from nasbench.runs.database import check_database_url  # imported here, because it imports Optuna

        check_database_url(settings.storage)
    if settings.reuse is not None:
        from nasbench.runs.run import load_run  # imported here, because it imports Optuna

        load_run(settings.reuse)
    check_loggers(settings.log)
    check_device_name(settings.device)
    if not is_user_task(task):  # the recipe of a user's task can have other settings
        check_training(settings.training)
    if task.startswith(TABLE):  # all other names are defined by the table
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
        trained_constraint(constraint, settings.proxies)
    known = [*METRICS.get(kind, ()), *COSTS]
    # without a task, one that fits the backbone is chosen later, so the metrics of every task are allowed here
    if settings.task is None:
        known = [*(name for metrics in METRICS.values() for name in metrics), *COSTS]
    if settings.learn != SUPERVISED:
        known = [*PRETEXT_METRICS, *COSTS]
    for name, direction in settings.objectives.items():
        # a name that is given with a direction can be the user's own metric
        if kind and not direction and name not in known:
            raise UnknownNameError("objective", name, known, "a metric of your own: objectives={name: 'maximize'}")
