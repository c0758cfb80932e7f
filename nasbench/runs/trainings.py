"""All trainings of a run, grouped by plan, in the form that the statistics need.

The race, the tables of a report, the power of a run and the comparison with controls all use this file to read a run.
So they use the same trainings and the same noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasbench.evidence.comparison import contents_of
from nasbench.evidence.noise import Noise, pooled_noise
from nasbench.evidence.standing import Standing, kept_noise, standing
from nasbench.evidence.trainings import Trainings
from nasbench.library.plan import Plan
from nasbench.runs.evaluation import Evaluation, at_full_budget
from nasbench.runs.folder import RunFolder
from nasbench.runs.journal import RunJournal
from nasbench.runs.schema import CONTROLS

__all__ = ["PlanTrainings", "RecordedRun", "RunTrainings", "trainings_of"]

Items = Mapping[tuple[str, int], NDArray[np.float64] | None]
"""The metric of each validation item, `(N,)`, by plan hash and seed."""


class RecordedRun(Protocol):
    """The attributes of a run that this file reads. `nasbench.runs.run.Run` has them."""

    folder: RunFolder
    journal: RunJournal
    config: dict[str, Any]
    ignored: list[str]

    @property
    def metric(self) -> str | None:
        """The first objective that is not a cost. None if all objectives are costs."""

    @property
    def directions(self) -> dict[str, str]:
        """Objectives with their directions."""

    @property
    def block(self) -> int:
        """Number of consecutive validation items that depend on each other."""

    def evaluations(self) -> list[Evaluation]:
        """Return every evaluation of the search and then of further seeds, each in order of trials."""


@dataclass(frozen=True)
class PlanTrainings:
    """The trainings of one plan at the full budget.

    Attributes:
        evaluations: The successful evaluations, at least one, in order of trials.
        failures: Number of failed evaluations.
        trainings: The metric of each seed and, if it was stored, of each validation item.
    """

    evaluations: tuple[Evaluation, ...]
    failures: int
    trainings: Trainings

    @property
    def plan(self) -> Plan:
        """The plan."""
        return Plan.of(self.evaluations[0].plan)

    @property
    def plan_hash(self) -> str:
        """Hash of the plan."""
        return self.evaluations[0].plan_hash

    @property
    def own(self) -> PlanTrainings:
        """The trainings that this run made, without imported ones. If all were imported, the first of them."""
        own = [number for number, one in enumerate(self.evaluations) if not one.reused_from] or [0]
        scores, items = self.trainings.scores, self.trainings.items
        trainings = Trainings(scores[own], None if items is None else items[own], self.trainings.block)
        return PlanTrainings(tuple(self.evaluations[number] for number in own), self.failures, trainings)

    @property
    def contents(self) -> list[tuple[str, str]]:
        """The (slot, module) pairs of the plan."""
        return list(_contents(self.evaluations[0].plan))


@dataclass(frozen=True)
class RunTrainings:
    """All trainings of a run at the full budget. A plan without a successful training is left out.

    Attributes:
        bare: The trainings of the bare backbone. None before its first training.
        plans: The trainings of every other plan, in order of their first trials.
        controls: The trainings of the equal-cost controls, by the control's plan hash.
        earlier: The noise of each earlier run of the same task. It is pooled with the noise of this run.
    """

    bare: PlanTrainings | None
    plans: tuple[PlanTrainings, ...]
    controls: Mapping[str, PlanTrainings]
    earlier: tuple[Noise, ...] = ()

    @property
    def all_plans(self) -> tuple[PlanTrainings, ...]:
        """The bare backbone, if it has a training, and every other plan."""
        return self.plans if self.bare is None else (self.bare, *self.plans)

    @property
    def kept(self) -> tuple[PlanTrainings, ...]:
        """The bare backbone, if it has a training, and the plans that are not left out (`Standing.left_out`)."""
        if self.bare is None:
            return self.plans
        return (self.bare, *(plan for plan, out in zip(self.plans, self.standing.left_out, strict=True) if not out))

    @cached_property
    def noise(self) -> Noise:
        """The noise of the metric, pooled over the bare backbone, the plans that are not left out, and earlier runs.

        Controls are left out. They are trained after the verdicts on the plans, and only for plans called BETTER. The
        control of a light module can be so narrow that its metric differs far more between seeds. This noise must not
        undo the verdict on the plan.
        """
        if self.bare is None:
            return pooled_noise(self._own(self.plans), earlier=self.earlier)
        plans = [one.trainings for one in self.plans]
        own = self._own((*self.plans, self.bare))
        return kept_noise(plans, self.bare.trainings, earlier=self.earlier, own=own)

    @cached_property
    def noise_with_controls(self) -> Noise:
        """The noise, pooled over the controls too that are not left out (`kept_controls`)."""
        return pooled_noise(self._own((*self.kept, *self.kept_controls.values())), earlier=self.earlier)

    @cached_property
    def kept_controls(self) -> Mapping[str, PlanTrainings]:
        """The controls that are not far below the bare backbone, by plan hash. As `Standing.left_out` for plans."""
        if self.bare is None:
            return self.controls
        every = [one.trainings for one in (*self.plans, *self.controls.values())]
        left_out = standing(every, self.bare.trainings, self.noise).left_out[len(self.plans) :]
        return {key: one for (key, one), out in zip(self.controls.items(), left_out, strict=True) if not out}

    def _own(self, plans: Iterable[PlanTrainings]) -> list[Trainings]:
        # Imported trainings are part of the noise of an earlier run, and must not count twice.
        return [plan.own.trainings if self.earlier else plan.trainings for plan in plans]

    @cached_property
    def standing(self) -> Standing:
        """The comparison of all plans with the bare backbone, in the order of `plans`.

        Raises:
            ValueError: If the bare backbone has no training yet.
        """
        if self.bare is None:
            raise ValueError("the bare backbone has no training yet")
        return standing([one.trainings for one in self.plans], self.bare.trainings, self.noise)

    @property
    def compared_noise(self) -> Noise:
        """The noise of a comparison with the bare backbone, as far as it is known: that of `standing`, or `noise`."""
        return self.noise if self.bare is None else self.standing.noise

    @property
    def shows_noise(self) -> bool:
        """Whether the metric of any plan differs between its seeds. Otherwise the noise of seeds was not seen."""
        differs = any(not plan.trainings.is_constant for plan in self.all_plans)
        return differs or any(noise.freedom for noise in self.earlier)

    @property
    def contents(self) -> list[list[tuple[str, str]]]:
        """The (slot, module) pairs of each plan, in the order of `plans`."""
        return [one.contents for one in self.plans]


@lru_cache(maxsize=100_000)  # the race needs the contents of the same plans after each training
def _contents(plan: str) -> tuple[tuple[str, str], ...]:
    return tuple(contents_of(Plan.of(plan)))


def trainings_of(run: RecordedRun) -> RunTrainings:
    """Return all trainings of a run.

    Args:
        run: A run with a trained metric (`Run.metric`).

    The trainings of a plan have no items if one of its files of items is damaged (`RunFolder.damaged`).

    Raises:
        ValueError: If every objective of the run is a cost.
        RunError: If the journal is damaged.
    """
    if run.metric is None:
        raise ValueError("every objective of the run is a cost")
    of_plans, of_controls = run.evaluations(), run.journal.evaluations(CONTROLS)
    items = _items(run, [*of_plans, *of_controls])
    plans = _by_plan(run, of_plans, items)
    bare = next((one for one in plans.values() if one.evaluations[0].is_bare), None)
    others = tuple(one for one in plans.values() if one is not bare)
    controls = _by_plan(run, of_controls, items)
    earlier = tuple(Noise(**fields) for fields in run.journal.earlier_noise.values())
    return RunTrainings(bare, others, controls, earlier)


def _items(run: RecordedRun, evaluations: Iterable[Evaluation]) -> Items:
    """Return the metric of each validation item by plan hash and seed, if it is stored and the file is not damaged."""
    if run.config["task"] is not None and run.config["task"]["metric"] != run.metric:
        return {}  # the stored items are values of the task's own metric
    keys = {(one.plan_hash, one.seed) for one in evaluations if one.is_complete}
    loaded = {key: items for key in keys if (items := run.folder.load_items(*key)) is not None}
    # All trainings have the same items. A file with another number of them was not written by this run.
    count = max(Counter(map(len, loaded.values())).items(), key=lambda pair: pair[1], default=(None, 0))[0]
    return {key: items if len(items) == count else run.folder.load_items(*key, count) for key, items in loaded.items()}


def _by_plan(run: RecordedRun, evaluations: Sequence[Evaluation], items: Items) -> dict[str, PlanTrainings]:
    failures = Counter(one.plan_hash for one in evaluations if one.state == "failed")
    return {
        plan_hash: PlanTrainings(tuple(of_plan), failures[plan_hash], _trainings(run, of_plan, items))
        for plan_hash, of_plan in at_full_budget(evaluations).items()
    }


def _trainings(run: RecordedRun, evaluations: Iterable[Evaluation], items: Items) -> Trainings:
    assert run.metric is not None
    return Trainings.of(
        [one.metrics.get(run.metric) for one in evaluations],
        [items.get((one.plan_hash, one.seed)) for one in evaluations],
        direction=run.directions[run.metric],
        block=run.block,
    )
