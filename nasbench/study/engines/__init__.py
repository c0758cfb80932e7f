"""Engines decide where and how evaluations run. The search proposes and records, an engine evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench.study.engines._base import Answer, Engine, Lost
from nasbench.study.engines.inline import Inline

if TYPE_CHECKING:
    from nasbench.runs.settings import SearchSettings
    from nasbench.study.evaluators.base import Evaluator

__all__ = ["Answer", "Engine", "Inline", "Lost", "make_engine", "worker_devices"]


def make_engine(settings: SearchSettings, evaluator: Evaluator, *, apart: bool = False) -> Engine:
    """Return the engine that the settings request. Its workers start with the first request.

    Args:
        settings: The settings of the search.
        evaluator: Evaluates the plans of the search.
        apart: Whether to evaluate in another process even with a single worker.

    Raises:
        InputError: If the engine's package is missing, or a function cannot be sent to workers.
    """
    from nasbench.study.engines.processes import Processes
    from nasbench.study.engines.workplace import Workplace

    workplace = Workplace(
        settings.model_dump(mode="json"), evaluator if evaluator.is_portable else None, evaluator.device
    )
    if settings.engine == "ray":
        from nasbench.study.engines.on_ray import make_ray_engine

        return make_ray_engine(workplace, settings)
    # a timeout kills a process, so it needs a process other than this one
    if settings.workers == 1 and settings.trial_timeout_s is None and not apart:
        return Inline(evaluator)
    places = [workplace.on(name) for name in worker_devices(settings.device, evaluator.device, settings.workers)]
    return Processes(places, timeout_s=settings.trial_timeout_s)


def worker_devices(asked: str, device: str, workers: int) -> list[str]:
    """Return the device of each worker. GPUs are assigned in turn, unless the setting names one.

    Args:
        asked: The value of the setting: "auto", "cpu", "cuda" or "cuda:1".
        device: The device that the setting resolves to in this process, for example "cuda:0".
        workers: Number of workers.
    """
    if asked not in ("auto", "cuda") or not device.startswith("cuda"):
        return [device] * workers
    import torch

    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(workers)]
