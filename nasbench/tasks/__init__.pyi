from ._base import SPLITS, Batch, Meter, Task, apply, epoch_generator, item_count, map_tensors, part_of, shuffled
from .creation import create_task
from .detection import DetectionTask
from .forecasting import ForecastingTask, naive_baselines, naive_forecasts, naive_names, naive_of
from .forms import FORMS
from .images import ImageTask
from .segmentation import SegmentationTask
from .series_classification import SeriesClassificationTask
from .super_resolution import SuperResolutionTask

__all__ = [
    "FORMS",
    "SPLITS",
    "Batch",
    "DetectionTask",
    "ForecastingTask",
    "ImageTask",
    "Meter",
    "SegmentationTask",
    "SeriesClassificationTask",
    "SuperResolutionTask",
    "Task",
    "apply",
    "create_task",
    "epoch_generator",
    "item_count",
    "map_tensors",
    "naive_baselines",
    "naive_forecasts",
    "naive_names",
    "naive_of",
    "part_of",
    "shuffled",
]
