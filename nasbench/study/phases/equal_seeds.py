"""The phases that evaluate plans on the same seeds: the bare backbone first, and all plans where there is no race."""

from __future__ import annotations

from nasbench.evidence.race import BARE_SEEDS
from nasbench.library.plan import BARE
from nasbench.runs.refinement import further_trainings, has_given_plans, most_seeds
from nasbench.runs.schema import SEARCH
from nasbench.study.phases.foresight import foresight
from nasbench.study.phases.further_seeds import ListedSeeds, Wanted, explored

__all__ = ["BareSeeds", "EqualSeeds"]


class BareSeeds(ListedSeeds):
    """The phase that trains the bare backbone on its first further seeds, which show how much seeds differ."""

    waits = False
    """The search need not wait for the seeds that another driver trains."""

    def run_all(self) -> None:
        """Train the bare backbone, and say what the search will be able to see."""
        self.begin()
        settings = self.settings
        seeds = min(BARE_SEEDS, most_seeds(settings))
        if not has_given_plans(settings):
            seeds = min(seeds, 1 + further_trainings(settings))
        reason = "how much the seeds of the bare backbone differ"
        self.work_through(
            Wanted.of(self.bare, seed, reason) for seed in range(settings.seed + 1, settings.seed + seeds)
        )
        space = self.problem.space
        plans = min(settings.trials, space.count + (BARE not in space)) - 1
        if line := foresight(self.trainings(), settings, plans):
            self.narrate(line)


class EqualSeeds(ListedSeeds):
    """The phase that trains every plan and the bare backbone on the same seeds."""

    def train_on(self, seeds: int, *, checks_costs: bool = True) -> None:
        """Train every plan that succeeded on its first seed on all the others.

        Args:
            seeds: Number of seeds, counted up from the first.
            checks_costs: Whether to count the plans as whole models.
        """
        self.seeds, self.checks_costs = seeds, checks_costs
        self.run_all()

    def run_all(self) -> None:
        """Train what is missing, seed after seed, the bare backbone first."""
        self.begin()
        plans = sorted(explored(self.run.journal.evaluations(SEARCH)), key=lambda one: not one.is_bare)
        first = self.settings.seed
        self.work_through(Wanted.of(plan, seed) for seed in range(first + 1, first + self.seeds) for plan in plans)
