"""The phases that train plans with the same seeds: first the bare backbone, and all plans if there is no race."""

from __future__ import annotations

from nasbench.evidence.race import BARE_SEEDS
from nasbench.library.plan import BARE
from nasbench.runs.refinement import further_trainings, has_given_plans, most_seeds
from nasbench.runs.schema import SEARCH
from nasbench.study.phases.foresight import foresight
from nasbench.study.phases.further_seeds import ListedSeeds, Wanted, explored

__all__ = ["BareSeeds", "EqualSeeds"]


class BareSeeds(ListedSeeds):
    """The phase that trains the bare backbone with its first further seeds. They show how much results vary by seed."""

    waits = False
    """Whether to wait for other drivers. The search does not need the seeds that another driver is training."""

    def run_all(self) -> None:
        """Train the bare backbone, and report which differences the search will be able to detect."""
        self.begin()
        settings = self.settings
        seeds = min(BARE_SEEDS, most_seeds(settings))
        if not has_given_plans(settings):
            seeds = min(seeds, 1 + further_trainings(settings))
        reason = "how much the metric of the bare backbone varies between seeds"
        self.work_through(
            Wanted.of(self.bare, seed, reason) for seed in range(settings.seed + 1, settings.seed + seeds)
        )
        space = self.problem.space
        plans = min(settings.trials, space.count + (BARE not in space)) - 1
        if line := foresight(self.trainings(), settings, plans):
            self.narrate(line)


class EqualSeeds(ListedSeeds):
    """The phase that trains every plan and the bare backbone with the same seeds."""

    def train_on(self, seeds: int, *, checks_costs: bool = True) -> None:
        """Train plans with all other seeds, if they succeeded with their first seed.

        Args:
            seeds: Number of seeds, starting with the first.
            checks_costs: Whether to check the costs of the plans on their complete models.
        """
        self.seeds, self.checks_costs = seeds, checks_costs
        self.run_all()

    def run_all(self) -> None:
        """Train the missing plans, seed by seed. For each seed, the bare backbone comes first."""
        self.begin()
        plans = sorted(explored(self.run.journal.evaluations(SEARCH)), key=lambda one: not one.is_bare)
        first = self.settings.seed
        self.work_through(Wanted.of(plan, seed) for seed in range(first + 1, first + self.seeds) for plan in plans)
