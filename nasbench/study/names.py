"""The names that a search is given, checked before anything heavy is loaded. Imports no torch."""

from __future__ import annotations

from nasbench.backbones.names import check_backbone_name
from nasbench.errors import UnknownNameError
from nasbench.library import plugins
from nasbench.objectives import COSTS, PROXY_NAMES
from nasbench.runs.settings import SearchSettings
from nasbench.spaces import load_space
from nasbench.tasks.forms import METRICS, kind_of
from nasbench.tasks.recipe import Recipe

__all__ = ["TABLE", "check_names"]

TABLE = "table:"
"""What a task begins with that is a tabulated space."""


def check_names(settings: SearchSettings, *, trains: bool = True) -> None:
    """Check backbone, task, space, objectives, proxies and training settings by name.

    What only the user's own files know (`FILE.py`, a table, metrics of a function) is left to those.

    Args:
        settings: As read.
        trains: Whether plans are trained, and not asked of a function.

    Raises:
        UnknownNameError: If a name does not exist; the nearest ones are offered.
        InputError: If a task names no data.
    """
    for path in settings.modules:
        plugins.load_path(path)
    if settings.space is not None:
        load_space(settings.space)
    for name in settings.training:
        if name not in Recipe.model_fields:
            raise UnknownNameError("training setting", name, Recipe.model_fields)
    if settings.task is not None and settings.task.startswith(TABLE):
        return
    if settings.backbone is not None:
        check_backbone_name(settings.backbone)
    if not trains:
        return
    kind = "classification" if settings.task is None else kind_of(settings.task)
    for name in settings.proxies:
        if name not in PROXY_NAMES:
            raise UnknownNameError("zero-cost proxy", name, PROXY_NAMES)
    known = [*METRICS.get(kind, ()), *COSTS]
    if settings.task is None:  # it follows from the backbone: any metric may be meant
        known = [*(name for metrics in METRICS.values() for name in metrics), *COSTS]
    for name, direction in settings.objectives.items():
        if kind and not direction and name not in known:
            raise UnknownNameError("objective", name, known, "a metric of your own: objectives={name: 'maximize'}")
