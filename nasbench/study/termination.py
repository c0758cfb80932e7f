"""Ends a search that gets SIGTERM or SIGHUP as Ctrl-C does: its views are written first, then the signal ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nasbench.text import narrate

__all__ = ["Terminated", "ending_by_signal"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received. It is handled wherever Ctrl-C is.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """Raise `Terminated` within the context if a signal asks this process to end, and let the signal end it on exit.

    So the code within can save its work, and the exit status still tells what ended the process. Signals that are
    ignored, as SIGHUP is under nohup, or that have a handler already, stay as they are. So the outermost of nested
    contexts decides.
    """
    taken = _taken_signals()
    try:
        yield
    except Terminated as end:
        _give_back(taken)
        if end.number in taken:
            name = signal.Signals(end.number).name
            narrate(f"ended by {name}; all finished work is saved, and the same command continues from there")
            signal.raise_signal(end.number)  # with the default handler, so the process ends here
        raise
    finally:
        _give_back(taken)


def _taken_signals() -> list[int]:
    """Install a handler where nothing else handles the signal, and return the signals."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
        return []
    received: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:  # a second signal must not interrupt the writing of views
            raise Terminated(number)

    taken: list[int] = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, terminate)
    return taken


def _give_back(taken: list[int]) -> None:
    for number in taken:
        signal.signal(number, signal.SIG_DFL)
