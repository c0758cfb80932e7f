"""The phases without a race: `BareSeeds` for the bare backbone, `EqualSeeds` for all plans with the same seeds."""

from __future__ import annotations

from nasbench.evidence.race import BARE_SEEDS
from nasbench.runs.refinement import further_trainings, has_given_plans, most_seeds
from nasbench.runs.schema import FINALISTS, SEARCH
from nasbench.study.phases.events import BEFORE, Event, item
from nasbench.study.phases.foresight import foresight
from nasbench.study.phases.further_seeds import ListedSeeds, Wanted, explored

__all__ = ["BareSeeds", "EqualSeeds"]


class BareSeeds(ListedSeeds):
    """The phase that trains the bare backbone until it has `BARE_SEEDS` seeds, to show how the metric varies by seed.

    It stops earlier if the search allows fewer seeds or fewer further trainings.
    """

    waits = False
    """Whether to wait for other drivers. False, because the exploration does not need the trainings of other
    drivers."""

    def run_all(self) -> None:
        """Train the bare backbone, and then report which differences the search can detect."""
        self.begin()
        settings = self.settings
        seeds = min(BARE_SEEDS, most_seeds(settings))
        if not has_given_plans(settings):
            seeds = min(seeds, 1 + further_trainings(settings))
        reason = "how much the metric of the bare backbone varies between seeds"
        before = len(self.run.journal.evaluations(FINALISTS))
        self.work_through(
            Wanted.of(self.bare, seed, reason) for seed in range(settings.seed + 1, settings.seed + seeds)
        )
        # If nothing was trained, the same line was already told before the search.
        if len(self.run.journal.evaluations(FINALISTS)) == before:
            return
        assert self.run.metric is not None
        if line := foresight(self.trainings(), self.run.metric, settings, self.problem.plans):
            self.listen(Event(BEFORE, 0, 0, item("power", line)))


class EqualSeeds(ListedSeeds):
    """The phase that trains every plan and the bare backbone with the same seeds."""

    def train_on(self, seeds: int, *, checks_costs: bool = True) -> None:
        """Train every plan that succeeded with its first seed with all other seeds.

        Args:
            seeds: Number of seeds of each plan, including the first one.
            checks_costs: Whether to compare the costs of each plan's complete model with the sum of the costs of its
                parts.
        """
        self.seeds, self.checks_costs = seeds, checks_costs
        self.run_all()

    def run_all(self) -> None:
        """Train what is missing, one seed after another. For each seed, the bare backbone comes first."""
        self.begin()
        plans = sorted(explored(self.run.journal.evaluations(SEARCH)), key=lambda one: not one.is_bare)
        first = self.settings.seed
        self.work_through(Wanted.of(plan, seed) for seed in range(first + 1, first + self.seeds) for plan in plans)
