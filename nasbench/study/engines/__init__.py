"""Engines run the evaluations of a search, in its own process, in worker processes or on a Ray cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nasbench.study.engines._base import Answer, Engine, Lost
from nasbench.study.engines.inline import Inline
from nasbench.text import mask_passwords

if TYPE_CHECKING:
    from nasbench.runs.settings import SearchSettings
    from nasbench.study.evaluators.base import Evaluator

__all__ = ["Answer", "Engine", "Inline", "Lost", "make_engine", "worker_devices"]


def make_engine(settings: SearchSettings, evaluator: Evaluator, *, apart: bool = False) -> Engine:
    """Return the engine that the settings request. Its workers are started by the first request.

    Args:
        settings: The settings of the search.
        evaluator: Evaluates the plans of the search.
        apart: Whether to evaluate in another process even if there is only one worker.

    Raises:
        InputError: If the package that the engine needs is not installed, or if the user's function cannot be sent to
            workers.
    """
    from nasbench.study.engines.processes import Processes
    from nasbench.study.engines.workplace import Workplace

    workplace = Workplace(
        settings.model_dump(mode="json"),
        evaluator if evaluator.is_portable else None,
        evaluator.device,
        arguments=[mask_passwords(argument) for argument in sys.argv[1:]],
    )
    if settings.engine == "ray":
        from nasbench.study.engines.on_ray import make_ray_engine

        return make_ray_engine(workplace, settings)
    # if the time limit is exceeded, a process is killed, so it must not be this process
    if settings.workers == 1 and settings.trial_timeout_s is None and not apart:
        return Inline(evaluator)
    places = [workplace.on(name) for name in worker_devices(settings.device, evaluator.device, settings.workers)]
    return Processes(places, timeout_s=settings.trial_timeout_s)


def worker_devices(asked: str, device: str, workers: int) -> list[str]:
    """Return the device of each worker. The GPUs are assigned to workers in turn, unless the setting names one GPU.

    Args:
        asked: The value of the setting: "auto", "cpu", "cuda" or "cuda:1".
        device: The device that the setting resolves to in this process, for example "cuda:0".
        workers: Number of workers.
    """
    if asked not in ("auto", "cuda") or not device.startswith("cuda"):
        return [device] * workers
    import torch

    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(workers)]
