"""What the phases of a search share: the run they write to, and an engine they keep busy."""

from __future__ import annotations

import time
from collections.abc import Callable

from nasbench.library.plan import Plan
from nasbench.runs.ledger import Ledger
from nasbench.runs.run import Run
from nasbench.study.engines import Answer, Engine, Job, Lost, Result, failure
from nasbench.study.phases.events import Event, Listener
from nasbench.study.problem import Prepared

__all__ = ["BARE", "NextJob", "Phase"]

BARE = Plan({})

NARRATE_S = 60.0
"""Seconds between two lines on what holds up an engine that does nothing."""

NextJob = Callable[[], tuple[int, Job] | None]
"""Gives the number and the job of the next trial; None where there is none now."""


class Phase:
    """A phase of a search. Its process alone writes the run; evaluations run where the engine runs them.

    Args:
        run: The run folder.
        prepared: What the settings stand for.
        engine: Evaluates.
        listen: Told of every step.
    """

    stage = ""

    def __init__(self, run: Run, prepared: Prepared, engine: Engine, listen: Listener) -> None:
        self.run, self.prepared, self.engine, self.listen = run, prepared, engine, listen
        self.settings = prepared.settings
        self.done, self.total = 0, prepared.settings.trials
        self.ledger: Ledger = run.ledger(self.stage)
        self.narrated = time.monotonic()

    def next_job(self) -> tuple[int, Job] | None:
        """Return the number and the job of the next trial; None where there is none now."""
        raise NotImplementedError

    def record(self, number: int, result: Result) -> None:
        """Write down what came of a trial."""
        raise NotImplementedError

    def work(self) -> None:
        """Keep the engine busy until there are no jobs; one whose worker died is tried once more, then has failed."""
        running: dict[int, Job] = {}
        lost: set[int] = set()
        while True:
            while len(running) < self.engine.capacity and (found := self.next_job()) is not None:
                number, running[number] = found
                self.engine.submit(*found)
            if not running:
                if not self.ledger.others_at_work():
                    return
                time.sleep(self.ledger.poll_s or 0)
            for number, answer in self.answers():
                if isinstance(answer, Lost) and number not in lost:
                    lost.add(number)
                    self.say(f"trial {number} is tried once more: {answer.reason}")
                    self.engine.submit(number, running[number])
                    continue
                job = running.pop(number)
                lost.discard(number)
                if isinstance(answer, Lost):
                    answer = failure(job, f"worker died twice: {answer.reason}")
                self.record(number, answer)

    def answers(self) -> list[tuple[int, Answer]]:
        """Wait for answers; say what holds them up, where nothing is at work."""
        found = self.engine.wait(self.ledger.poll_s or NARRATE_S)
        if time.monotonic() - self.narrated >= NARRATE_S and (reason := self.engine.held_up()):
            self.narrated = time.monotonic()
            self.say(reason)
        return found

    def say(self, message: str) -> None:
        """Tell how far the phase is, with a line of narration."""
        self.listen(Event(self.stage, self.done, self.total, message))
