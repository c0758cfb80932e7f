"""What a user who watches a search is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Event", "Listener"]


@dataclass(frozen=True)
class Event:
    """Something a user watching a search wants to know.

    Attributes:
        stage: "search", "finalists" or "latency".
        done: Units done in this stage.
        total: Units in all.
        message: One line of narration.
    """

    stage: str
    done: int
    total: int
    message: str


Listener = Callable[[Event], None]
