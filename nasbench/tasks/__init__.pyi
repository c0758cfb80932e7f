from ._base import SPLITS, Meter, Task, apply
from .creation import create_task
from .forecasting import ForecastingTask, naive_baselines, naive_forecasts, naive_names, naive_of
from .forms import FORMS
from .images import ImageTask

__all__ = [
    "FORMS",
    "SPLITS",
    "ForecastingTask",
    "ImageTask",
    "Meter",
    "Task",
    "apply",
    "create_task",
    "naive_baselines",
    "naive_forecasts",
    "naive_names",
    "naive_of",
]
