"""Events that report the progress of a search to a user."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass

from nasbench.errors import RunError
from nasbench.runs.evaluation import Evaluation, describe_error

__all__ = ["BEFORE", "INDENT", "Event", "Listener", "guarded", "item", "opened"]

BEFORE = "before"
"""The stage of the events that say, before the first evaluation, what the search is going to do."""


@dataclass(frozen=True)
class Event:
    """One step of a search, as reported to a user.

    Attributes:
        stage: "before" (what is going to be done), "search", "seeds" (trainings with further seeds), "controls" or
            "latency".
        done: Number of finished units of this stage: plans, trainings or models.
        total: Number of all units of this stage. 0 if the stage has no units.
        message: A line of text about the step.
        evaluation: The evaluation that was recorded in this step, without items and weights. None in other steps.
    """

    stage: str
    done: int
    total: int
    message: str
    evaluation: Evaluation | None = None


Listener = Callable[[Event], None]
"""A function that is called with each event of a search."""

INDENT = 9
"""Number of characters of the name at the beginning of a line that `item` returns, with its blanks."""


def guarded(listen: Listener) -> Listener:
    """Return a listener that raises a `RunError` if the user's listener fails, so that the message names the cause."""

    def tell(event: Event) -> None:
        try:
            listen(event)
        except Exception as error:
            raise RunError(
                f"on_event failed: {describe_error(error)}; finished evaluations are saved, and the same call resumes "
                "the search"
            ) from error

    return tell


def opened(on_event: Listener | None) -> Listener:
    """Return the listener of a search that begins, after the first event. The next one needs seconds of imports."""
    listen = guarded(on_event or (lambda event: None))
    with chdir("."):  # a listener can change the working directory, and relative paths are not resolved yet
        listen(Event(BEFORE, 0, 0, item("start", "checking the settings, then loading torch and the data")))
    return listen


def item(name: str, text: str) -> str:
    """Return one line about what is going to be done: a name, and what is to be said about it."""
    return f"{name:<{INDENT}}{text}"
