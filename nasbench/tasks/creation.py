"""Make a task from the text that a person types."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.errors import InputError, NasbenchError, PluginError, message_of
from nasbench.library.plugins import load_python_file
from nasbench.library.source_names import not_defined
from nasbench.tasks import _image_sources as sources
from nasbench.tasks._base import Task
from nasbench.tasks.forms import USER_TASK, kind_of
from nasbench.tasks.images import ImageTask, image_size
from nasbench.tasks.places import annotated_images, class_folder, csv_file, tar_files, torchvision_name, ts_files
from nasbench.tasks.recipe import Recipe

__all__ = ["create_task", "unused_options"]

_OF_IMAGES = frozenset({"size"})
_OF_DENSE = _OF_IMAGES | {"head", "neck"}
_OF_SR = _OF_IMAGES | {"head", "scale"}
_OF_WINDOWS = frozenset({"lookback", "horizon", "covariates", "series", "target"})
_OF_FILES = _OF_WINDOWS | {"fill", "dates"}

if TYPE_CHECKING:
    from nasbench.tasks.annotated import AnnotatedImages
    from nasbench.tasks.detection import DetectionTask
    from nasbench.tasks.forecasting import ForecastingTask
    from nasbench.tasks.segmentation import SegmentationTask
    from nasbench.tasks.series_classification import SeriesClassificationTask
    from nasbench.tasks.super_resolution import SuperResolutionTask


_PHOTOS_CROP_PX = 24  # side of a small crop of photos-sr

_SCENES = Recipe(epochs=15, batch_size=16, learning_rate=3e-3, weight_decay=0.01)


def create_task(
    text: str,
    *,
    size: int | None = None,
    default_size: int | None = None,
    lookback: int | None = None,
    horizon: int | None = None,
    fill: str | None = None,
    covariates: bool = False,
    dates: str | None = None,
    series: Sequence[str] = (),
    target: str | None = None,
    head: str | None = None,
    ignore: int | None = None,
    scale: int | None = None,
    groups: str | None = None,
    labels: bool = True,
    seed: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Task:
    """Make a task. Its data is read, checked and split here, once.

    Args:
        text: One of `nasbench.tasks.FORMS`.
        size: Image side in pixels. In dense tasks, the longer side. The default is the side of the images in the data,
            but at least 64 and at most `default_size`. In super-resolution, the side of the large crops in training.
        default_size: The backbone's default image side, in pixels.
        lookback: Number of input rows of a forecast. The default is 96 (`co2`: 104).
        horizon: Number of rows that a model forecasts. The default is 96 (`co2`: 26).
        fill: "linear" or "forward", for series with missing values. `co2` is always filled linearly.
        covariates: Whether a forecasting model also gets the hour, weekday, day of month and day of year of every step.
        dates: Order of day and month in a file of series, "dayfirst" or "monthfirst". The default is the order with
            which the rows are evenly spaced.
        series: Names of the series to read. Empty means all.
        target: Name of the series that is scored. The default is all.
        head: Head of a dense task, as an expression. The default is `fcn` for segmentation,
            `fcos(convs=2)` for detection, and `pixel_shuffle` for super-resolution.
        ignore: Value in masks of pixels without a label. The default is 255.
        scale: Factor of super-resolution, 2, 3 or 4. The default is 2.
        groups: A CSV file of the trials and patients of labelled series, as `nasbench.tasks.groups` describes it.
        labels: Whether labels are needed. If not, as for a pretext, images of `folder:` and `tar:` need no class
            folders, and the items of `series:` can all be of one class.
        seed: Seed of a random split.
        mean: Mean of each channel of pixels in [0, 1], as the backbone's pretrained weights expect it. The default is
            the mean of ImageNet.
        std: Standard deviation of each channel of pixels in [0, 1]. The default is the standard deviation of ImageNet.

    Raises:
        UnknownNameError: If the text is not a task.
        DataError: If the data of the task is missing or cannot be used.
        InputError: If an option is not allowed.

    Example:
        >>> create_task("digits").splits
        {'train': 360, 'val': 718, 'test': 719}
    """
    image_options: dict[str, Any] = {"size": size, "default_size": default_size, "seed": seed}
    image_options |= {k: v for k, v in {"mean": mean, "std": std}.items() if v is not None}
    # Only arguments that the user gave are passed on, so that each task keeps its own defaults.
    window: dict[str, Any] = {k: v for k, v in {"lookback": lookback, "horizon": horizon}.items() if v is not None}
    window |= {"covariates": True} if covariates else {}
    window |= {"target": target} if target is not None else {}
    reading: dict[str, Any] = {"dates": dates, "columns": tuple(series), "fill": fill}
    if not kind_of(text):
        ending: dict[str, Any] = {"head": head, "ignore": ignore}
        ending |= {"scale": scale} if scale is not None else {}
        ending |= {"groups": groups} if groups is not None else {}
        return _user_task(
            text, {**image_options, **window, **ending, "fill": fill, "dates": dates, "series": tuple(series)}
        )
    form, colon, place = text.partition(":")
    form = form if not colon else form + ":"
    makers: dict[str, Callable[[], Task]] = {
        "digits": lambda: _digits(text, image_options),
        "folder:": lambda: _images(text, sources.folder(class_folder(place), labels=labels), image_options),
        "tar:": lambda: _images(text, sources.tar(*tar_files(place), labels=labels), image_options),
        "torchvision:": lambda: _images(text, sources.torchvision_set(torchvision_name(place)), image_options),
        "timm:": lambda: _timm(text, place, image_options),
        "co2": lambda: _co2(text, window, series),
        "csv:": lambda: _csv(text, csv_file(place), window, reading),
        "ett:": lambda: _ett(text, csv_file(place), window, reading),
        "digits-rows": lambda: _digit_rows(text, seed),
        "series:": lambda: _labelled_series(text, ts_files(place), fill, groups, seed, labels=labels),
        "scenes-segment": lambda: _segmentation(text, None, ignore, image_options, head),
        "segment:": lambda: _segmentation(text, annotated_images(place), ignore, image_options, head),
        "scenes-detect": lambda: _detection(text, None, image_options, head),
        "detect:": lambda: _detection(text, annotated_images(place), image_options, head),
        "photos-sr": lambda: _super_resolution(text, None, size, scale, head, seed),
        "sr:": lambda: _super_resolution(text, annotated_images(place), size, scale, head, seed),
    }
    return makers[form]()


def unused_options(text: str, given: Iterable[str]) -> list[str]:
    """Return those of the given options of its data or its head that a task does not use. The data is not read.

    Raises:
        UnknownNameError: If the text is not a task.
        PluginError: If the file of a user's own task fails to load.
    """
    kind = kind_of(text)
    if not kind:
        # The constructor gets no neck: it is a part of the host, if the task has a head.
        used = frozenset(inspect.signature(_user_maker(text)).parameters) | {"neck"}
    elif kind == "forecasting":
        used = _OF_WINDOWS if text == "co2" else _OF_FILES
    elif kind in ("segmentation", "detection"):
        used = _OF_DENSE | ({"ignore"} if text.startswith("segment:") else set())
    elif kind == "super-resolution":
        used = _OF_SR
    elif kind == "series-classification":
        used = frozenset({"fill", "groups"} if text.startswith("series:") else ())
    else:
        used = _OF_IMAGES
    return [name for name in given if name not in used]


def _images(text: str, source: sources.ImageSource, options: dict[str, Any], **fixed: Any) -> ImageTask:
    options = dict(options)
    size, default_size = options.pop("size"), options.pop("default_size")
    side = image_size(source, default_size) if size is None else size
    return ImageTask(text, source, size=side, **options, **fixed)


def _timm(text: str, place: str, options: dict[str, Any]) -> ImageTask:
    from nasbench.tasks._timm_sources import timm_set  # importing timm's readers takes time

    return _images(text, timm_set(place), options)


def _segmentation(
    text: str, path: Path | None, ignore: int | None, options: dict[str, Any], head: str | None
) -> SegmentationTask:
    from nasbench.ops.segmentation import VOID
    from nasbench.tasks import mask_source  # what only dense tasks need is not loaded for the others
    from nasbench.tasks.segmentation import SegmentationTask

    void = VOID if ignore is None else ignore
    source = mask_source.scene_masks() if path is None else mask_source.read_masks(path, void=void)
    recipe = _SCENES if path is None else None
    return SegmentationTask(text, source, head=head or "fcn", recipe=recipe, **_dense(source, options))


def _detection(text: str, path: Path | None, options: dict[str, Any], head: str | None) -> DetectionTask:
    from nasbench.tasks import box_source
    from nasbench.tasks.detection import DetectionTask

    source = box_source.scene_boxes() if path is None else box_source.read_boxes(path)
    recipe = _SCENES if path is None else None
    return DetectionTask(text, source, head=head or "fcos(convs=2)", recipe=recipe, **_dense(source, options))


def _super_resolution(
    text: str, path: Path | None, size: int | None, scale: int | None, head: str | None, seed: int
) -> SuperResolutionTask:
    from nasbench.tasks import photographs
    from nasbench.tasks.super_resolution import SuperResolutionTask

    given: dict[str, Any] = {"scale": 2 if scale is None else scale, "size": size, "seed": seed}
    if path is None:
        given["size"] = _PHOTOS_CROP_PX * given["scale"] if size is None else size
        given["recipe"] = Recipe(epochs=6, batch_size=8, learning_rate=5e-4, weight_decay=0.0, clip_grad=0.1)
    source = photographs.embedded_photographs() if path is None else photographs.read_photographs(path)
    return SuperResolutionTask(text, source, head=head or "pixel_shuffle", **given)


def _dense(source: AnnotatedImages, options: dict[str, Any]) -> dict[str, Any]:
    from nasbench.tasks.dense import longest_side

    options = dict(options)
    size, default_size = options.pop("size"), options.pop("default_size")
    return {**options, "size": longest_side(source, default_size) if size is None else size}


def _digits(text: str, options: dict[str, Any]) -> ImageTask:
    """Return the digits task with 360 training images.

    With 60 % of the images for training, as without `held_out`, every plan reaches an accuracy of 0.99. With 360
    training images, plans can differ.
    """
    recipe = Recipe(epochs=5, batch_size=32, learning_rate=3e-3)
    return _images(text, sources.digits(), options, held_out={"test": 719, "val": 718}, recipe=recipe)


def _digit_rows(text: str, seed: int) -> SeriesClassificationTask:
    from nasbench.tasks.series_classification import SeriesClassificationTask, digit_rows

    recipe = Recipe(epochs=8, batch_size=32, learning_rate=3e-3)
    return SeriesClassificationTask(text, digit_rows(), seed=seed, recipe=recipe)


def _labelled_series(
    text: str, paths: list[Path], fill: str | None, groups: str | None, seed: int, *, labels: bool
) -> SeriesClassificationTask:
    from nasbench.tasks.groups import read_groups
    from nasbench.tasks.series_classification import SeriesClassificationTask, read_items

    items = read_items(paths, fill, labels=labels)
    found = None if groups is None else read_groups(Path(groups), len(items.labels))
    return SeriesClassificationTask(text, items, groups=found, fill=fill, seed=seed)


def _co2(text: str, window: dict[str, Any], columns: Sequence[str]) -> ForecastingTask:
    """Return the CO2 task, which forecasts half a year from two years.

    The input then covers two seasonal cycles, and a training takes seconds.
    """
    from nasbench.tasks import _series as series  # imports pandas, which image tasks do not need
    from nasbench.tasks.forecasting import ForecastingTask
    from nasbench.tasks.series_reader import choose

    frame = choose(series.co2().frame, columns)
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=3e-3)
    return ForecastingTask(
        text,
        frame,
        series.ratio_spans(len(frame)),
        fill="linear",
        recipe=recipe,
        **{"lookback": 104, "horizon": 26, **window},
    )


def _csv(text: str, path: Path, window: dict[str, Any], reading: dict[str, Any]) -> ForecastingTask:
    from nasbench.tasks import _series as series  # imports pandas, which image tasks do not need

    return _read(text, path, window, reading, lambda frame: series.ratio_spans(len(frame)))


def _ett(text: str, path: Path, window: dict[str, Any], reading: dict[str, Any]) -> ForecastingTask:
    from nasbench.tasks import _series as series  # imports pandas, which image tasks do not need

    return _read(text, path, window, reading, lambda frame: series.ett_spans(frame, path))


def _read(
    text: str, path: Path, window: dict[str, Any], reading: dict[str, Any], spans_of: Callable[[Any], Any]
) -> ForecastingTask:
    """Read a file of series and return its task. `spans_of` returns the spans for the frame that was read."""
    from nasbench.tasks.forecasting import ForecastingTask
    from nasbench.tasks.series_reader import read_series

    def used(frame: Any) -> int:
        return max(end for _, end in spans_of(frame).values())

    series = read_series(path, used=used, **reading)
    options = {"fill": reading["fill"], "notes": series.notes, "read": series.read, **window}
    return ForecastingTask(text, series.frame, spans_of(series.frame), **options)


def _user_maker(text: str) -> Callable[..., Any]:
    """Load the file of a user's own task, and return the class or function that makes the task."""
    # The name is split off at the last colon, because a path can contain a colon too.
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", USER_TASK)
    module = load_python_file(file)
    maker = getattr(module, name, None)
    if not callable(maker):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise not_defined("task", name, file, known)
    return maker


def _user_task(text: str, options: dict[str, Any]) -> Task:
    maker = _user_maker(text)
    accepted = inspect.signature(maker).parameters
    try:
        with redirect_stdout(sys.stderr):  # what a task prints must not be part of a command's JSON
            task = maker(**{k: v for k, v in options.items() if k in accepted})
    except NasbenchError:  # its message was written for the user
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{text} cannot be made: {type(error).__name__}: {message_of(error)}") from error
    if not isinstance(task, Task):
        raise InputError(f"{text} made a {type(task).__name__}; it must be a nasbench.tasks.Task")
    task.name = text
    return task
