"""End a search on SIGTERM or SIGHUP in the same way as on Ctrl-C: write the tables of the run, then end the process."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nasbench.text import narrate

__all__ = ["Terminated", "ending_by_signal", "saved_text"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received. Code that handles Ctrl-C (`KeyboardInterrupt`) also handles this.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """Return a context that raises `Terminated` on SIGTERM or SIGHUP. On its exit, the signal ends the process.

    So the code within the context can save its work, and the exit status still shows which signal ended the process. If
    a signal is ignored (as SIGHUP is under nohup) or already has a handler, this stays as it is. Therefore only the
    outermost of nested contexts has an effect.
    """
    taken, received = _take_signals()
    try:
        yield
    except KeyboardInterrupt as error:  # where Ray waits, it replaces `Terminated` by a KeyboardInterrupt of its own
        _give_back(taken)
        if received:
            name = signal.Signals(received[0]).name
            narrate(saved_text(f"ended by {name}", error))
            signal.raise_signal(received[0])  # the default handler is installed again, so the process ends here
        raise
    finally:
        _give_back(taken)


def saved_text(ended: str, error: BaseException) -> str:
    """Return the message after an interruption: what was saved, in which folder, and how to go on.

    Args:
        ended: How it ended, such as "interrupted".
        error: The exception that ended it. Its first note is the run folder, if there is one.
    """
    notes = getattr(error, "__notes__", [])
    saved, more = (f" in {notes[0]}", f" with --out {shlex.quote(notes[0])}") if notes else ("", "")
    return f"{ended}; all finished work is saved{saved}, and the same command{more} continues from there"


def _take_signals() -> tuple[list[int], list[int]]:
    """Install a handler for each signal that has none.

    Returns:
        These signals, and a list to which the handler appends each signal that it receives.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread can have signal handlers
        return [], received

    def terminate(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:  # a second signal must not interrupt the code that writes the tables
            raise Terminated(number)

    taken: list[int] = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, terminate)
    return taken, received


def _give_back(taken: list[int]) -> None:
    for number in taken:
        signal.signal(number, signal.SIG_DFL)
