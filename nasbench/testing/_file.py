"""Check the content of a user's file: registered modules and heads, a backbone that it builds, its tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from nasbench.backbones.factory import DEFAULT_SERIES
from nasbench.errors import InputError, NothingMatched, UnknownNameError
from nasbench.library.modules import APART, module_specs, plugins
from nasbench.library.registry import ModuleSpec
from nasbench.tasks import Task, create_task
from nasbench.tasks.forms import USER_TASK
from nasbench.testing._backbone import check_backbone
from nasbench.testing._run import CheckResult, check_module
from nasbench.testing._task import check_task

__all__ = ["check_file"]

_KINDS = (
    "A module or a neck is given by the name with which @nasbench.register_module registers it, a backbone by a "
    "function that returns an nn.Module, and a task by a subclass of nasbench.tasks.Task"
)

_GIVEN = frozenset({"input_size", "num_classes", "horizon", "covariates", "padded"})
"""Arguments that a function which builds a backbone can get."""


def check_file(text: str, *, size: int | None = None, task: str | None = None) -> list[CheckResult]:
    """Run the contract tests on a file.

    Args:
        text: `FILE.py` checks every module that the file registers, its function `build` and its tasks. `FILE.py:NAME`
            checks one of them.
        size: Image side in pixels at which a backbone is checked. The default is 64, or that of the task.
        task: The task that a backbone is for, as text. Its data is read. Without it, a function with an argument
            `horizon` or `padded` builds a backbone for series, and every other function one that classifies images.
            `horizon=None` beside `num_classes` counts as no argument.

    Returns:
        The results: modules first, then backbones, then tasks.

    Raises:
        PluginError: If the file fails to load.
        UnknownNameError: If the file has nothing called NAME.
        InputError: If NAME is neither a module, a neck, a backbone nor a task.
        NothingMatched: If the file has nothing that can be checked.
    """
    path, name = plugins.python_file(text)
    before = {spec.name for spec in _all_specs()}
    module = plugins.load_python_file(path)
    # A file that was loaded before registers no new name. But each spec says from which file it comes.
    specs = [spec for spec in _all_specs() if spec.name not in before or spec.origin.startswith(f"{path}:")]
    tasks = [
        each
        for each, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    hosts = ["build"] if inspect.isfunction(getattr(module, "build", None)) else []
    if name:
        known = [*(spec.name for spec in specs), *tasks, *hosts]
        # A backbone can be built by a function of any name.
        if name not in known and _can_build(getattr(module, name, None)):
            hosts = [name]
        elif name not in known and hasattr(module, name):
            raise InputError(f"{path}: {name} is neither a module, a neck, a backbone nor a task. {_KINDS}")
        elif name not in known:
            known += [
                each
                for each, value in vars(module).items()
                if inspect.isfunction(value) and value.__module__ == module.__name__ and each not in known
            ]
            raise UnknownNameError(f"module, neck, backbone or task in {path}", name, known, _KINDS)
        specs = [spec for spec in specs if spec.name == name]
        tasks, hosts = [each for each in tasks if each == name], [each for each in hosts if each == name]
    results = [result for spec in specs for result in check_module(spec)]
    for host in hosts:
        what = _what_for(getattr(module, host), size) if task is None else {"task": create_task(task, size=size)}
        results += check_backbone(f"{path}:{host}", **what)
    for each in tasks:
        results += check_task(create_task(f"{path}:{each}"))
    if not results and inspect.isclass(getattr(module, USER_TASK, None)):
        raise InputError(f"{path}: {USER_TASK} must be a subclass of nasbench.tasks.Task")
    if not results:
        raise NothingMatched(
            f"{path} registers no module (@nasbench.register_module), has no function build() and no Task: "
            "there is nothing to check"
        )
    return results


def _all_specs() -> list[ModuleSpec]:
    return [spec for kind in (None, *APART) for spec in module_specs(kind=kind)]


def _what_for(build: Callable[..., Any], size: int | None) -> dict[str, Any]:
    """Return arguments of `check_backbone` for what a function builds, as the names of its arguments tell."""
    known = inspect.signature(build).parameters
    if "padded" in known:
        return {"input_size": DEFAULT_SERIES, "padded": True}
    # One that is left out by default belongs to a function that can classify too.
    if "horizon" in known and not ("num_classes" in known and known["horizon"].default is None):
        return {"input_size": DEFAULT_SERIES, "horizon": 24}
    return {"input_size": (3, size or 64, size or 64)}


def _can_build(value: Any) -> bool:
    """Whether a value can build a backbone: a function, or a class of models whose needed arguments are all given."""
    if not inspect.isclass(value):
        return callable(value)
    if not issubclass(value, nn.Module):
        return False
    needed = (p for p in inspect.signature(value).parameters.values() if p.default is p.empty)
    return all(p.name in _GIVEN or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed)
