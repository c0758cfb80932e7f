"""Trains a plan of a run and the bare backbone for more epochs, under the same conditions as in the run.

Data, splits, recipe, seeds and initial weights are those of the run. Only the number of epochs E differs. Results are
stored in `full/epochs-E/` of the run folder, in one file for each plan and seed. After an interruption, the same call
trains only what is missing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import save_model

from nasbench.errors import EvaluationError, InputError, RunError
from nasbench.evidence.noise import pooled_noise
from nasbench.evidence.pairs import PairedDifference, compare_pair
from nasbench.evidence.trainings import Trainings
from nasbench.files import write_fault, write_text
from nasbench.library.plan import Plan
from nasbench.library.surroundings import surroundings_kept
from nasbench.measurement.latency.devices import usable_device
from nasbench.runs.models import ModelBuilder
from nasbench.runs.run import Run
from nasbench.runs.trainings import trainings_of
from nasbench.tasks import Task
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import train

__all__ = ["FullTraining", "train_fully"]


@dataclass(frozen=True)
class FullTraining:
    """The results of a plan and of the bare backbone after these trainings.

    Attributes:
        folder: Folder of the weights (`NAME-seed-S.safetensors`) and results.
        table: One row for each model and seed. Columns: model ("bare" or "trial N"), plan, seed, epochs, the metrics,
            wall_s.
        metric: The metric by which the plan and the bare backbone are compared.
        difference: The difference of the plan from the bare backbone, over validation items and seeds. Positive is
            better (see `PairedDifference`). The noise is pooled over these trainings and the trainings of the run. With
            one seed there is no interval.
    """

    folder: Path
    table: pd.DataFrame
    metric: str
    difference: PairedDifference


@surroundings_kept()  # the function seeds random generators, and the states of the caller's generators must not change
def train_fully(
    run: Run,
    number: int,
    *,
    epochs: int,
    seeds: Sequence[int] | None = None,
    on_epoch: Callable[[str, dict[str, float]], object] | None = None,
) -> FullTraining:
    """Train the plan of a trial and the bare backbone for `epochs` epochs.

    Args:
        run: The run.
        number: Number of the trial.
        epochs: Number of passes over the training split. The learning-rate schedule is stretched to this length.
        seeds: Seeds with which to train. By default the seeds with which the run trained the plan.
        on_epoch: Called after each epoch with the name of the training ("trial 7, seed 0") and the epoch's metrics.

    Raises:
        InputError: If there is no such trial.
        RunError: If the run trained no models, if its data does not exist any more, if the run folder cannot be
            written, or if a training fails. Also if the run has Python code of its own and is not trusted.
    """
    plan, builder = run.plan_of(number), run.builder()
    if epochs < 1:
        raise InputError(f"--epochs {epochs}: it must be at least 1")
    task = run.task()
    recipe = task.recipe.with_settings({**run.settings.training, "epochs": epochs})
    device = str(usable_device(run.settings.device))
    training = _Training(builder, task, recipe, device, run.folder.full_training(epochs))
    wanted = _seeds_of(run, plan) if seeds is None else list(seeds)
    models = {"bare": Plan({}), **({} if plan.is_bare else {f"trial {number}": plan})}
    rows, items = [], {}
    for name, model_plan in models.items():
        for seed in wanted:
            row, items[name, seed] = _one(training, model_plan, name, seed, on_epoch)
            rows.append(row)
    metric = task.metric
    scores = {(row["model"], row["seed"]): row[metric] for row in rows}
    bare, *others = (
        Trainings.of(
            [scores[name, seed] for seed in wanted],
            [items[name, seed] for seed in wanted],
            direction=task.metrics[metric],
            block=run.block,
        )
        for name in models
    )
    # A few trainings of two plans are too few to estimate the noise. So the noise of the run's trainings is used too.
    known = [trainings_of(run).noise] if run.metric == metric else []
    difference = (
        compare_pair(others[0], bare, pooled_noise([others[0], bare], earlier=known))
        if others
        else PairedDifference.of_itself(len(wanted))
    )
    return FullTraining(training.folder, pd.DataFrame(rows), metric, difference)


def _seeds_of(run: Run, plan: Plan) -> list[int]:
    """Return the seeds with which the run trained a plan successfully. If there are none, return the first seed."""
    seeds = {one.seed for one in run.evaluations() if one.plan_hash == plan.hash and one.is_complete}
    return sorted(seeds) or [run.settings.seed]


@dataclass(frozen=True)
class _Training:
    """The arguments that are the same for all trainings."""

    builder: ModelBuilder
    task: Task
    recipe: Recipe
    device: str
    folder: Path


def _one(
    training: _Training,
    plan: Plan,
    name: str,
    seed: int,
    on_epoch: Callable[[str, dict[str, float]], object] | None,
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Return the result of one plan and seed. If it is not stored, train the plan now."""
    folder = training.folder
    file = folder / f"{plan.hash}-seed-{seed}.json"
    items_file = file.with_suffix(".npy")
    if file.is_file() and (items_file.is_file() or not training.task.has_items):
        items = np.load(items_file, allow_pickle=False) if training.task.has_items else None
        return {"model": name, **json.loads(file.read_text(encoding="utf-8"))}, items
    with _writing(folder):  # tried before the training, whose result would be lost
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    model = training.builder.build(plan, seed)
    title = f"{name}, seed {seed}"
    report_epoch = None if on_epoch is None else (lambda line: on_epoch(title, line))
    try:
        result = train(model, training.task, training.recipe, seed=seed, device=training.device, on_epoch=report_epoch)
    except EvaluationError as error:
        raise RunError(f"{title}: {error.kind}: {error.reason}; the trainings finished before are stored") from None
    row = {"plan": plan.text, "seed": seed, "epochs": result.epochs, **result.metrics, "wall_s": result.wall_s}
    with _writing(folder):
        save_model(model.cpu(), str(folder / f"{plan.hash}-seed-{seed}.safetensors"))
        if result.per_item is not None:
            np.save(items_file, result.per_item, allow_pickle=False)
        # This file is written last. An interrupted training does not have it, so it is repeated.
        write_text(file, json.dumps(row) + "\n")
    return {"model": name, **row}, result.per_item


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        copy = "a training is stored in its run folder, and with `nasbench train RUN ... --out DIR` in a copy of it"
        raise RunError(f"cannot write {folder}: {write_fault(error, copy)}") from None
