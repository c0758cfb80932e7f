"""What a search says before it trains: data, host, plans, device, recipe, and which differences it can detect."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nasbench.evidence.noise import binomial_noise
from nasbench.evidence.power import detectable_difference
from nasbench.evidence.race import BARE_SEEDS
from nasbench.library.plan import BARE
from nasbench.runs.power import why_no_interval
from nasbench.runs.refinement import (
    asks_for_seeds,
    further_trainings,
    most_seeds,
    planned_controls,
    planned_further,
    reachable_seeds,
)
from nasbench.runs.run import Run
from nasbench.runs.schema import CONTROLS
from nasbench.runs.trainings import trainings_of
from nasbench.study.phases.events import item
from nasbench.study.phases.foresight import foresight
from nasbench.study.problem import Problem
from nasbench.tasks import Task
from nasbench.text import clean

__all__ = ["briefing", "read_lines", "shown_path"]

_SHOWN_SLOTS = 6
"""Largest number of slots that are listed by name."""

_LIKELY_SHARE = 0.9
"""The accuracy for which the noise is guessed before the first training."""


def read_lines(task: Task | None) -> Iterable[str]:
    """Yield what was read: the number of items and classes, facts about the files, and what was left out or filled."""
    if task is None:
        return
    splits = ", ".join(f"{count:,} {split}" for split, count in task.splits.items())
    classes = task.model_kwargs.get("num_classes")
    yield item("data", f"{task.name}: {splits} items" + (f", {classes:,} classes" if classes else ""))
    for name, fact in task.read.items():
        yield item("", f"{name}: {clean(fact)}")
    for note in task.notes:
        yield item("note", clean(note).removeprefix(f"{task.name}: "))


def briefing(problem: Problem, run: Run, capacity: int) -> Iterable[str]:
    """Yield what is going to be done, in a few lines.

    Args:
        problem: The problem of the search.
        run: The run, whose earlier trainings are taken into account.
        capacity: Number of evaluations that can run at the same time.
    """
    yield item("host", _host(problem))
    yield item("plans", _plans(problem, len(run.evaluations()) + len(run.journal.evaluations(CONTROLS))))
    yield item("device", _device(problem, capacity))
    if problem.task is not None:
        yield item("recipe", _recipe(problem))
    yield item("power", _power(problem, run))
    yield item("folder", str(shown_path(run.path)))


def _host(problem: Problem) -> str:
    slots = [slot.slot for slot in problem.space.slots]
    if len(slots) > _SHOWN_SLOTS:
        slots = [*slots[: _SHOWN_SLOTS - 2], "...", f"{slots[-1]} ({len(slots)} slots)"]
    size = "" if problem.task is None else f", input {'x'.join(map(str, problem.task.input_size))}"
    return f"{problem.settings.backbone}{size}; modules go into {', '.join(slots)}"


def _plans(problem: Problem, stored: int) -> str:
    """Return which plans are evaluated, in how many trainings, of which some can be stored already."""
    settings, space, plans = problem.settings, problem.space, problem.plans
    further = planned_further(settings, plans) if problem.is_refined else 0
    word = "training" if problem.task is not None else "evaluation"
    counted = _counted(1 + plans + further, word)
    if settings.plans:
        seeds = most_seeds(settings) if further else 1
        text = f"{plans} given and the bare backbone, {seeds} {'seed' if seeds == 1 else 'seeds'} each: {counted}"
    else:
        possible = space.count + (BARE not in space)
        every = "all" if plans + 1 >= possible else f"{plans + 1} of"
        text = f"{every} {possible:,} of the space {space.space.name} ({settings.sampler})"
        text += f", then up to {_counted(further, word)} with further seeds" if further else f": {counted}"
    if settings.controls and further and problem.evaluator.plan_costs is not None:
        controls = planned_controls(settings, plans)
        text += f", then {f'{controls} ' if controls else ''}controls (plain blocks of equal cost)"
    return text + (f"; {stored} stored already" if stored else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _device(problem: Problem, capacity: int) -> str:
    settings = problem.settings
    if settings.engine == "ray":
        return f"a Ray cluster, {capacity} worker(s)"
    workers = f", {capacity} workers" if capacity > 1 else ""
    if problem.task is None:
        return f"none, no model is trained{workers}"
    import torch  # imported here, because a search that calls a function needs no torch

    from nasbench.measurement.latency.scenario import device_name

    device = problem.evaluator.device
    threads = torch.get_num_threads()
    many = "" if device != "cpu" or workers else f", {threads} thread{'' if threads == 1 else 's'}"
    return f"{device} ({device_name(device)}){many}{workers}"


def _recipe(problem: Problem) -> str:
    assert problem.task is not None
    settings = problem.settings
    recipe = problem.task.recipe.with_settings(settings.training)
    epochs = f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
    parts = [epochs, f"batch {recipe.batch_size}", recipe.optimizer]
    parts.append(f"learning rate {recipe.learning_rate:g} ({recipe.schedule})")
    parts += [f"augmentation {recipe.augmentation}"] * (recipe.augmentation != "none")
    parts += ["pretrained weights"] * settings.pretrained + ["weights of --checkpoint"] * bool(settings.checkpoint)
    return ", ".join([*parts, *["the backbone is frozen"] * bool(settings.freeze)])


def _power(problem: Problem, run: Run) -> str:
    """Return which differences the search can detect: known from earlier trainings, guessed, or known later."""
    settings = problem.settings
    if run.metric is None:
        return "every objective is a cost, and costs are exact"
    if not problem.plans and not asks_for_seeds(settings) and all(one.is_bare for one in run.evaluations()):
        return "only the bare backbone is evaluated, so nothing is compared; a larger --trials tries plans"
    if not problem.is_refined:
        more = "; --seeds 3 gives verdicts" if problem.evaluator.takes_seed else ""
        return f"one evaluation of each plan, so there will be no verdicts{more}"
    seeds = reachable_seeds(settings, problem.plans)
    if known := foresight(trainings_of(run), run.metric, settings, problem.plans):
        return known
    first = min(BARE_SEEDS, seeds if settings.plans else 1 + further_trainings(settings))
    later = f"it is measured first, with {first} seeds of the bare backbone"
    items = 0 if problem.task is None else problem.task.splits["val"]
    if items and (reason := why_no_interval(items, run.block)):
        return f"nothing can be decided: {reason}"
    if not items or run.metric != "accuracy":
        return f"not known yet; {later}"
    noise = binomial_noise(_LIKELY_SHARE, items, max(1, planned_further(settings, problem.plans)))
    least = detectable_difference(seeds, noise)
    return (
        f"differences of about {least:.2g} in {run.metric} (a guess for {items:,} validation items, {seeds} seeds and "
        f"an accuracy near {_LIKELY_SHARE:g}); {later}"
    )


def shown_path(path: Path) -> Path:
    """Return a path as a user types it: relative to the working directory if the path is inside of it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
