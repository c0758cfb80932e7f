"""Every error nasbench raises on purpose, and the exit code each one ends a command with.

NasbenchError                      anything below
├── InputError                 4   what the user gave is wrong
│   ├── UnknownNameError           a module, slot, backbone, task or space that does not exist
│   ├── ExpressionError            text that is no expression; knows the position
│   ├── PlanError                  a plan that does not fit its backbone
│   ├── UnsupportedError           a module that cannot serve these channels or dims
│   ├── BackboneError              a backbone that refuses the input size, or gives no slot
│   ├── SpaceError                 a space file or constraint that is malformed
│   ├── DataError                  images or series that cannot be used
│   ├── DeviceError                a device that is not there, or is too small
│   ├── RunError                   a run folder that is missing, foreign or of another configuration
│   └── PluginError                a plug-in file that fails to load, or a name registered twice
├── NothingMatched             5   a pattern that matched nothing
└── EvaluationError                one evaluation failed; the study goes on
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

__all__ = [
    "BackboneError",
    "DataError",
    "DeviceError",
    "EvaluationError",
    "ExpressionError",
    "InputError",
    "NasbenchError",
    "NothingMatched",
    "PlanError",
    "PluginError",
    "RunError",
    "SpaceError",
    "UnknownNameError",
    "UnsupportedError",
    "out_of_memory",
]


class NasbenchError(Exception):
    """Base of all errors that nasbench raises on purpose."""

    exit_code = 3


class InputError(NasbenchError, ValueError):
    """What the user gave is wrong; the message says what was got, what is allowed and how to go on."""

    exit_code = 4


_LONGEST_NAME = 80
"""Of a name that nothing answers to, so much is repeated."""


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three names like `name`. Case, blanks and hyphens make no difference: "SE" is near to "se"."""
    plain = {_plain(each): each for each in reversed(known)}
    return [plain[each] for each in difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.5)]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]", "_", name.strip().lower())


class UnknownNameError(InputError):
    """A name that nothing answers to.

    Args:
        kind: What was looked up, in the singular ("module", "slot", "backbone").
        name: What was given.
        known: The names that exist; the nearest one is offered.
        hint: How to see all of them.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        shown = str(name) if len(str(name)) <= _LONGEST_NAME else f"{str(name)[:_LONGEST_NAME]}..."
        near = _nearest(shown, self.known)
        message = f"no {kind} named {shown!r}"
        if near:
            message += "; did you mean " + " or ".join(repr(n) for n in near) + "?"
        elif len(self.known) <= 12:
            message += "; known: " + (", ".join(self.known) or "none")
        if hint:
            message += f" ({hint})"
        super().__init__(message)

    def __reduce__(self) -> tuple:
        return type(self), (self.kind, self.name, self.known)


class ExpressionError(InputError):
    """Text that is no expression.

    Args:
        message: The fault, short.
        text: The whole text.
        position: Column of the fault, from 0; shown by a caret.
    """

    def __init__(self, message: str, text: str = "", position: int | None = None) -> None:
        self.message, self.text, self.position = message, text, position
        if text and position is not None:
            message = f"{message} (column {position + 1})\n  {text}\n  {' ' * position}^"
        super().__init__(message)

    def __reduce__(self) -> tuple:
        return type(self), (self.message, self.text, self.position)


class PlanError(InputError):
    """A plan that does not fit its backbone."""


class UnsupportedError(InputError):
    """A module that cannot serve the channels, dims or hyper-parameters asked for."""


class BackboneError(InputError):
    """A backbone that refuses the input size, cannot be built, or gives no slot."""


class SpaceError(InputError):
    """A space, constraint or objective that is malformed."""


class DataError(InputError):
    """Images or series that cannot be used for the task."""


class DeviceError(InputError):
    """A device that is not there, or too small for what was asked."""


class RunError(InputError):
    """A run folder that is missing, is none, or holds another configuration."""


class PluginError(InputError):
    """A plug-in file that fails to load, or a name registered twice; the message names file and line."""


class NothingMatched(NasbenchError):  # noqa: N818  (it reads as the answer it is, not as a fault)
    """A pattern or filter that matched nothing."""

    exit_code = 5


class EvaluationError(NasbenchError):
    """One evaluation failed for a reason that belongs in its trial row.

    Args:
        reason: One line for the `reason` column.
        kind: A stable word: "nan", "out_of_memory", "exception", "timeout", "constraint".
    """

    def __init__(self, reason: str, kind: str = "exception") -> None:
        self.reason, self.kind = reason, kind
        super().__init__(reason)

    def __reduce__(self) -> tuple:
        return type(self), (self.reason, self.kind)


_NO_MEMORY = (
    *("can't allocate memory", "CUDA error: out of memory", "CUDA out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
"""What says it in errors that have no class of their own: torch's CPU allocator, the CUDA runtime, what torch.compile
wraps, cuBLAS, cuDNN."""


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Turn a device's or the machine's out-of-memory error into an `EvaluationError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's own class is known by its name: whoever only names an error need not import torch
        told = isinstance(error, MemoryError) or any(
            base.__name__ == "OutOfMemoryError" for base in type(error).__mro__
        )
        if not told and not any(words in str(error) for words in _NO_MEMORY):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvaluationError(f"out of memory: {first}", kind="out_of_memory") from error
