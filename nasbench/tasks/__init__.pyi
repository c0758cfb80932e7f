from ._base import SPLITS, Task, apply
from .creation import create_task
from .forecasting import ForecastingTask, naive_baselines, naive_forecasts
from .forms import FORMS
from .images import ImageTask

__all__ = [
    "FORMS",
    "SPLITS",
    "ForecastingTask",
    "ImageTask",
    "Task",
    "apply",
    "create_task",
    "naive_baselines",
    "naive_forecasts",
]
