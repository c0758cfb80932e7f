"""The base class of the phases of a search. It keeps the engine busy and records the evaluations in the run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace

from nasbench.library.plan import BARE, Plan
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import Run
from nasbench.runs.schema import recordable
from nasbench.study.engines import Answer, Engine, Lost
from nasbench.study.evaluators.base import Request, failed
from nasbench.study.evaluators.pace import Pace
from nasbench.study.phases.events import Event, Listener
from nasbench.study.problem import Problem
from nasbench.text import duration_text

__all__ = ["Phase", "evaluation_line"]

NARRATE_S = 60.0
"""Seconds between two messages that say why no evaluation is running."""


class Phase(ABC):
    """A phase of a search. Only this process writes to the run, even if evaluations run in other processes.

    Args:
        run: The run.
        problem: The problem of the search.
        engine: Evaluates the requests.
        listen: Called with an event after every step.
        began: Start time of the search, in seconds of `time.monotonic`. By default now.

    Attributes:
        stage: Name of the phase's Optuna study.
        title: Name of the phase in its events. "" for the name of the study.
        waits: Whether the phase ends only when other drivers are not evaluating any more. If one of them dies, this
            driver takes over its trials.
    """

    stage = ""
    title = ""
    waits = True

    def __init__(
        self, run: Run, problem: Problem, engine: Engine, listen: Listener, *, began: float | None = None
    ) -> None:
        self.run, self.problem, self.engine, self.listen = run, problem, engine, listen
        self.began = time.monotonic() if began is None else began
        self.settings = problem.settings
        self.done, self.total = 0, problem.settings.trials
        self.ledger = run.journal.ledger(self.stage)
        self.narrated = time.monotonic()
        self.item_count: int | None = None  # number of items of the bare backbone; None until it is known

    @abstractmethod
    def run_all(self) -> None:
        """Run the phase to its end, starting from the state in which an earlier process left it."""

    @abstractmethod
    def next_request(self) -> tuple[int, Request] | None:
        """Return the number and the request of the next trial, or None if there is no trial to start now."""

    @abstractmethod
    def record(self, number: int, evaluation: Evaluation) -> None:
        """Record the evaluation of a trial."""

    def work(self) -> None:
        """Keep the engine busy until there are no more requests.

        A trial whose worker died is evaluated once more, because the trial need not be the cause. If the worker dies
        again, the trial has failed.
        """
        self.engine.tell, self.engine.hear = self.narrate, self.hear
        running: dict[int, Request] = {}
        lost: set[int] = set()
        while True:
            while len(running) < self.engine.capacity and (next_one := self.next_request()) is not None:
                number, running[number] = next_one
                self.engine.submit(*next_one)
            if not running:
                # another driver can still die and leave a plan to this driver, so wait until no driver is evaluating
                if not self.waits or not self.others_busy():
                    self.run.journal.refresh_copy()
                    return
                time.sleep(self.ledger.poll_s or 0)
            for number, answer in (answers := self.answers()):
                if isinstance(answer, Lost) and number not in lost:
                    lost.add(number)
                    self.narrate(f"trial {number} is tried once more: {answer.reason}")
                    self.engine.submit(number, running[number])  # the claim and its number stay valid
                    continue
                request = running.pop(number)
                lost.discard(number)
                if isinstance(answer, Lost):
                    answer = failed(request, f"worker died twice: {answer.reason}")
                self.record(number, self.checked(answer))
            if answers:
                self.run.journal.refresh_copy()

    def answers(self) -> list[tuple[int, Answer]]:
        """Wait for answers. If nothing is running, report why the requests do not start."""
        # in a shared study, wait no longer than `poll_s`, because the heartbeat is written between two calls
        answers = self.engine.wait(self.ledger.poll_s or NARRATE_S)
        if time.monotonic() - self.narrated >= NARRATE_S and (reason := self.engine.held_up()):
            self.narrated = time.monotonic()
            self.narrate(reason)
        return answers

    def hear(self, number: int, pace: Pace) -> None:
        """Report the pace of a training, at most once in `NARRATE_S` seconds."""
        if time.monotonic() - self.narrated >= NARRATE_S:
            self.narrated = time.monotonic()
            left = duration_text(pace.left_s)
            self.narrate(f"{self.called(number)}: step {pace.steps:,} of {pace.total:,}, about {left} left")

    def called(self, number: int) -> str:
        """Return the name of a trial in messages."""
        return f"trial {number}"

    def others_busy(self) -> bool:
        """Whether another driver is still evaluating a trial. If that driver dies, this one must take it over."""
        return self.ledger.others_running()

    @property
    def late(self) -> bool:
        """Whether the time limit has passed."""
        return self.settings.time_s is not None and time.monotonic() - self.began > self.settings.time_s

    def checked(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation that can be recorded. If this one cannot, return a failed evaluation that says why."""
        return recordable(self.with_equal_items(evaluation), self.problem.directions)

    def with_equal_items(self, evaluation: Evaluation) -> Evaluation:
        """Return the evaluation, or a failed one if its number of items is not that of the bare backbone."""
        if evaluation.items is None:
            return evaluation
        if self.item_count is None:
            if self.run.journal.is_shared:  # another machine may have evaluated the bare backbone
                self.run.journal.fetch_items()
            known = self.run.folder.load_items(BARE.hash, self.settings.seed)
            self.item_count = None if known is None else len(known)
        if self.item_count in (None, len(evaluation.items)):
            return evaluation
        reason = f"it has {len(evaluation.items)} items, but the bare backbone has {self.item_count}"
        return replace(evaluation, state="failed", reason=reason, metrics={}, items=None, weights=None)

    def save_items(self, evaluation: Evaluation) -> None:
        """Store the metric of each validation item, if the evaluation has items."""
        self.run.folder.save_items(evaluation.plan_hash, evaluation.seed, evaluation.items)

    def narrate(self, message: str, evaluation: Evaluation | None = None) -> None:
        """Send the listener an event: one line of text, the progress of the phase, and an evaluation just recorded."""
        told = None if evaluation is None else evaluation.record
        self.listen(Event(self.title or self.stage, self.done, self.total, message, told))


def evaluation_line(number: int, evaluation: Evaluation, directions: Iterable[str]) -> str:
    """Return one line about a finished evaluation."""
    plan = "bare backbone" if evaluation.is_bare else Plan.of(evaluation.plan).typed
    if not evaluation.is_complete:
        return f"trial {number} {evaluation.state}: {evaluation.reason}; {plan}"
    values = "  ".join(f"{name} {evaluation.values[name]:.5g}" for name in directions)
    # only the bare backbone can be complete although it breaks a bound
    broken = f"  ({evaluation.reason}; it stays the reference)" if evaluation.reason else ""
    return f"trial {number}  {values}  {plan}{broken}"
