"""Pictures of a report by section. Each is saved as SVG, PNG and PDF, with its numbers as CSV.

Code that needs torch is imported only when a picture needs a model. So a run without models is reported without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from nasbench.errors import RunError
from nasbench.files import write_text
from nasbench.library.plan import BARE
from nasbench.library.pretexts import SUPERVISED
from nasbench.report import scatter
from nasbench.report.curves import curves_data, draw_curves, draw_hypervolume
from nasbench.report.effects_heatmap import draw_effects
from nasbench.report.formatting import plan_words
from nasbench.report.omissions import Omissions
from nasbench.report.picture_index import PictureIndex
from nasbench.report.plotting import Picture, file_name, save_picture
from nasbench.report.progress import hypervolume_curve, reference_of
from nasbench.report.run_effects import run_effects
from nasbench.report.trained_models import TrainedModels
from nasbench.report.winners import best_plan_of, draw_fingerprints, fingerprints_data, winner_of
from nasbench.runs.refinement import has_given_plans
from nasbench.runs.run import Run
from nasbench.text import csv_text

if TYPE_CHECKING:
    from torch import nn

    from nasbench.tasks import SuperResolutionTask

__all__ = ["pictures_of"]


@dataclass(frozen=True)
class _Part:
    """A part of the page with pictures.

    Attributes:
        name: Its name in the index of pictures.
        section: The section of the page.
        what: A noun phrase for messages.
        draw: Draws and saves the pictures. It yields nothing if there is nothing to show.
        needs_weights: Whether it shows nothing without stored weights.
        photographs: Whether its pictures show images of the data.
    """

    name: str
    section: str
    what: str
    draw: Callable[[], Iterable[Picture]]
    needs_weights: bool = False
    photographs: bool = False


def pictures_of(run: Run, models: TrainedModels, omissions: Omissions) -> dict[str, list[Picture]]:
    """Draw and save the pictures of a run, and return them by section of the page.

    If a part cannot be drawn, the pictures of the last report are shown again, and `omissions` says why.

    Raises:
        OSError: If the folder cannot be written.
    """
    parts = (
        _Part("front", "front", "the picture of the front", lambda: _fronts(run)),
        _Part("effects", "where", "the effect of modules", lambda: _effects(run)),
        _Part("hypervolume", "progress", "the hypervolume", lambda: _progress(run)),
        _Part("winners", "winners", "fingerprints of the winner", lambda: _fingerprints(run, models), True),
        _Part("grad-cam", "held out", "Grad-CAM", lambda: _gradcam(run, models), True, True),
        _Part("forecasts", "held out", "forecasts of the test split", lambda: _forecasts(run, models), True),
        _Part("found", "held out", "predictions of the test split", lambda: _found(run, models), True, True),
        _Part("confusion", "held out", "confusion matrices", lambda: _confusion(run, models), True),
        _Part("curves", "training", "learning curves", lambda: _curves(run)),
        _Part("features", "training", "the map of features", lambda: _features(run, models), True),
    )
    index = PictureIndex(run.folder)
    pictures: dict[str, list[Picture]] = {}
    for part in parts:
        drawn = _drawn(part, models, index, omissions)
        pictures.setdefault(part.section, []).extend(replace(each, photographs=part.photographs) for each in drawn)
    index.save()
    return pictures


def _drawn(part: _Part, models: TrainedModels, index: PictureIndex, omissions: Omissions) -> list[Picture]:
    """Return the pictures of a part, or those of the last report if it cannot be drawn."""
    earlier = index.of_part(part.name)
    try:
        if part.needs_weights and not models.numbers and earlier:
            raise RunError("the run folder has no weights any more")
        drawn = list(part.draw())
        index.add(part.name, drawn)
        return drawn
    except OSError:  # a full or read-only disk would make the rest of the report fail too
        raise
    except Exception as error:
        omissions.add(part.what, error, max((entry.made for entry in earlier.values()), default=""))
        return [index.again(name) for name in earlier]


def _saved(run: Run, figure: Figure, table: pd.DataFrame, name: str, alt: str, caption: str) -> Picture:
    """Save a plot with its numbers as CSV, and return it for the page."""
    folder = run.path / "figures"
    picture = save_picture(figure, folder, name, alt=alt, caption=caption)
    write_text(folder / f"{file_name(name)}.csv", csv_text(table))
    return picture


def _fronts(run: Run) -> Iterator[Picture]:
    metric = run.metric or next(iter(run.directions))
    for cost in scatter.costs_of(run):
        data = scatter.scatter_data(run, cost, metric) if cost != metric else None
        if data is not None:
            alt = f"{data.y} against {data.x}, {len(data.points)} plans"
            yield _saved(
                run, scatter.draw_scatter(data), data.points, f"{data.y}-{data.x}", alt, scatter.caption_of(data)
            )


def _effects(run: Run) -> Iterator[Picture]:
    data = run_effects(run).get("modules") if run.metric is not None else None
    if data is None or data["estimate"].notna().sum() < 2:
        return
    caption = (
        f"Estimated change in {run.metric} by module and slot, compared with an empty slot. A star marks a decided "
        "change (HELPS or HURTS), corrected for all rows of all tables of effects."
    )
    yield _saved(run, draw_effects(data), data, "module-effects", "effect of each module in each slot", caption)


def _progress(run: Run) -> Iterator[Picture]:
    data = hypervolume_curve(run)
    if len(data) < 2 or has_given_plans(run.settings):  # nothing was searched
        return
    reference = ", ".join(f"{name} {bound:.4g}" for name, bound in reference_of(run).point.items())
    caption = (
        "Hypervolume by number of distinct plans. It is the share of the box between the ideal point and the "
        "reference point that the plans so far dominate. Each plan counts with one seed, and costs are on a "
        f"logarithmic scale. The reference point was fixed at the start: {reference}."
    )
    yield _saved(run, draw_hypervolume(data), data, "hypervolume", "hypervolume against distinct plans", caption)


def _curves(run: Run) -> Iterator[Picture]:
    data = curves_data(run)
    if not data.empty:
        validated = [what for what in dict.fromkeys(data["what"]) if what != "train_loss"]
        caption = "Training loss of the compared plans by epoch"
        if validated:
            caption += f", and {' and '.join(validated)} of the epochs after which they were validated"
        caption += ". Each line is one seed."
        if run.settings.learn != SUPERVISED:
            losses = "Both losses are those" if "pretext_loss" in validated else "The loss is that"
            caption += f" {losses} of the pretext {run.settings.learn}."
        yield _saved(run, draw_curves(data), data, "learning-curves", "learning curves of the compared plans", caption)


def _features(run: Run, models: TrainedModels) -> Iterator[Picture]:
    """Draw a map of the features of the bare backbone and of the best plan. Nothing for a run with labels."""
    if 0 not in models.numbers or run.settings.learn == SUPERVISED:
        return
    from nasbench.report import feature_map
    from nasbench.training.pretexts import PretextTask

    task = models.task
    assert isinstance(task, PretextTask)
    shown = {"bare": models.load(0, BARE.text)}
    best = best_plan_of(run, models.numbers)
    if best is not None:
        shown[f"trial {best[0]}"] = models.load(*best)
    classes = task.class_names
    data = feature_map.feature_map_data(task, shown, classes, models.device)
    coloured = ", coloured by class" if classes else ""
    caption = (
        f"Features of validation items{coloured}, along the two directions in which those of this model vary most "
        f"(PCA), for {' and '.join(shown)}, with seed {run.settings.seed}. The maps have different axes. Two "
        f"directions show a part of the features, so {'classes' if classes else 'items'} that overlap here can still "
        "be apart."
    )
    yield _saved(run, feature_map.draw_feature_map(data, classes), data, "features", "map of features", caption)


def _fingerprints(run: Run, models: TrainedModels) -> Iterator[Picture]:
    winner = winner_of(run, models.numbers)
    if winner is None:
        return
    number, plan = winner
    file = run.path / "figures" / "winner-fingerprints.csv"
    data = pd.read_csv(file) if file.is_file() else None
    # Measuring a fingerprint takes time. It is measured again only if another trial is now the winner.
    if data is None or set(data["trial"]) != {number}:
        from nasbench.measurement.properties.fingerprint import fingerprint_plan

        fingerprints = fingerprint_plan(models.load(number, plan).cpu(), inputs=1, exact=False)
        if not fingerprints:
            return
        data = fingerprints_data(number, fingerprints)
    caption = (
        f"Trial {number}, {plan_words(plan)}: the five properties of the modules in each slot, measured with "
        "the trained weights and random inputs. Complexity is the exponent of the cost in the number of positions."
    )
    yield _saved(run, draw_fingerprints(data), data, "winner-fingerprints", "fingerprints of the winner", caption)


def _gradcam(run: Run, models: TrainedModels) -> Iterator[Picture]:
    winner = winner_of(run, models.numbers)
    if winner is None or 0 not in models.numbers or run.settings.learn != SUPERVISED:  # the last layer is not trained
        return
    from nasbench.backbones.insertion import slots_of
    from nasbench.report import gradcam
    from nasbench.report.questions import question_of

    asked = question_of(models.task, models.device)
    if asked is None:
        return
    number, plan = winner
    maps, predicted, are_cam = {}, {}, []
    for title, (each, text) in {"bare": (0, BARE.text), f"trial {number}": (number, plan)}.items():
        model = models.load(each, text)
        slots = slots_of(model)
        maps[title], classes = gradcam.gradcam(model, asked.images, slots, asked.of(model))
        are_cam.append(gradcam.is_cam(model, asked.images, slots, maps[title]))
        predicted[title] = ["none" if i is None else asked.names[i] for i in classes]
    images, labels = asked.images, [asked.names[i] for i in asked.classes]
    caption = (
        "Grad-CAM on test images (Selvaraju et al., ICCV 2017): the regions in which the last stage that is read "
        f"supports {asked.about}. The rows are the bare backbone and trial {number}, both with seed "
        f"{run.settings.seed}. A red title is a wrong prediction."
    )
    if all(are_cam):
        caption += (
            " These maps are CAM too (Zhou et al., CVPR 2016), because average pooling and one linear layer end the "
            "models."
        )
    if any(not each.any() for of_model in maps.values() for each in of_model):
        caption += (
            f' Where a panel says "{gradcam.NO_EVIDENCE}", the map is 0 everywhere: no region of this stage raises the '
            "score, or the score does not depend on it because nothing was found."
        )
    figure = gradcam.draw_gradcam(images, labels, maps, predicted)
    yield _saved(run, figure, gradcam.as_table(labels, predicted, maps), "grad-cam", "Grad-CAM maps", caption)


def _found(run: Run, models: TrainedModels) -> Iterator[Picture]:
    """Draw masks, boxes or enlarged details of test images. Nothing for tasks that have none of them."""
    if 0 not in models.numbers or run.settings.head is None:  # told without the data, which may be gone
        return
    from nasbench.report import dense_pictures as dense
    from nasbench.tasks.dense import DenseTask
    from nasbench.tasks.detection import DetectionTask
    from nasbench.tasks.super_resolution import SuperResolutionTask

    task = models.task
    if not isinstance(task, (DenseTask, SuperResolutionTask)):
        return
    shown = {"bare": models.load(0, BARE.text)}
    winner = winner_of(run, models.numbers)
    if winner is not None:
        shown[f"trial {winner[0]}"] = models.load(*winner)
    if isinstance(task, SuperResolutionTask):
        yield _details(run, task, shown, models.device)
        return
    images, rows = dense.found_by(task, shown, models.device)
    caption = f"The first test images: the truth, and what {' and '.join(shown)} found, with seed {run.settings.seed}."
    if isinstance(task, DetectionTask):
        caption += (
            " Numbers are scores. Boxes with a score below 0.3 are not drawn, and of boxes that overlap by more than "
            "half (IoU), whatever their class, only the one with the highest score is. Nothing is written beside more "
            f"than {dense.MOST_NAMED} boxes of an image."
        )
    figure = dense.draw_found(images, rows, task.classes)
    yield _saved(run, figure, dense.as_table(rows, task.classes), "found", "truth and predictions", caption)


def _details(run: Run, task: SuperResolutionTask, shown: dict[str, nn.Module], device: str) -> Picture:
    from nasbench.report import enlarged

    details = enlarged.details_of(task, shown, device)
    compared = "the models differ most" if len(shown) > 1 else "the model differs most from bicubic interpolation"
    caption = (
        f"Details of test images, enlarged {task.scale} times: the places where {compared}, one of each image, with "
        f"seed {run.settings.seed}. Below them is the PSNR of the detail. The places are chosen by the difference, so "
        "they are not typical."
    )
    figure = enlarged.draw_details(details)
    return _saved(run, figure, enlarged.as_table(details), "details", "details beside bicubic and truth", caption)


def _confusion(run: Run, models: TrainedModels) -> Iterator[Picture]:
    """Draw which classes of series are taken for which. Nothing for other kinds of tasks."""
    if 0 not in models.numbers or (run.config["task"] or {}).get("kind") != "series-classification":
        return
    if run.settings.learn != SUPERVISED:  # the last layer is not trained
        return
    from nasbench.report import confusion

    shown = {"bare": models.load(0, BARE.text)}
    winner = winner_of(run, models.numbers)
    if winner is not None:
        shown[f"trial {winner[0]}"] = models.load(*winner)
    task = models.task
    classes = [str(name) for name in getattr(task, "classes", range(task.model_kwargs["num_classes"]))]
    data = confusion.confusion_data(task, shown, classes, models.device)
    caption = (
        f"Number of test items by true and predicted class, for {' and '.join(shown)}, with seed {run.settings.seed}."
    )
    yield _saved(run, confusion.draw_confusion(data, classes), data, "confusion", "confusion matrices", caption)


def _forecasts(run: Run, models: TrainedModels) -> Iterable[Picture]:
    if not models.numbers or run.settings.learn != SUPERVISED:  # the last layer is not trained
        return []
    from nasbench.report.forecasts import forecast_figures

    return forecast_figures(run, models)
