"""Every error that nasbench raises on purpose, with the exit code of the command.

NasbenchError                  3   base of all errors below, which have its exit code if they have none of their own
├── InputError                 4   the input of the user is wrong
│   ├── UnknownNameError           a module, slot, backbone, task or space that does not exist
│   ├── ExpressionError            text that is not a valid expression, with the position of the fault
│   ├── PlanError                  a plan that does not fit its backbone
│   ├── UnsupportedError           a module that does not support these channels, dims or hyper-parameters
│   ├── BackboneError              a backbone that does not accept the input size, or has no slot
│   ├── SpaceError                 a space file or constraint that is malformed
│   ├── DataError                  images or series that cannot be used
│   ├── DeviceError                a device that does not exist, or has too little memory
│   ├── RunError                   a run folder that is missing, not a run folder, or of another configuration
│   └── PluginError                a plug-in file that fails to load, or a name registered twice
├── NothingMatched             5   a pattern that matched nothing
└── EvaluationError                one evaluation failed, but the study continues
"""

from __future__ import annotations

import difflib
import math
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
    "message_of",
    "nearest",
    "out_of_memory",
]


class NasbenchError(Exception):
    """Base of all errors that nasbench raises on purpose."""

    exit_code = 3


class InputError(NasbenchError, ValueError):
    """The user's input is wrong. The message says what was given, what is allowed and how to continue."""

    exit_code = 4


def message_of(error: BaseException) -> str:
    """Return the message of an exception. It works even if `__str__` fails in the exception's class."""
    try:
        return str(error)
    except Exception:
        return "its message cannot be read, because its __str__ fails"


_LONGEST_NAME = 80
"""A message repeats at most this many characters of an unknown name."""

_FEW = 12
"""A message lists all known names if there are at most this many."""

_SHORTEST_PART = 3
"""If a user types only a part of a name, the name is suggested if the part has at least this many characters. A
shorter part occurs in too many names."""


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Return at most three names: first those that are similar to `name`, then those that contain it.

    Case, blanks and hyphens make no difference. So "FIVE" finds "five-properties", and "SE" finds "se" alone. The
    initials of a name find it too, as "lr" finds "learning_rate".
    """
    wanted, plain = _plain(name), {_plain(known_name): known_name for known_name in reversed(known)}
    if wanted in plain:
        return [plain[wanted]]
    short = [known_name for known_name in plain if len(wanted) > 1 and wanted == _initials(known_name)]
    like = difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)
    longer = (
        [known_name for known_name in sorted(plain, key=len) if wanted in known_name]
        if len(wanted) >= _SHORTEST_PART
        else []
    )
    return [plain[known_name] for known_name in dict.fromkeys([*short, *like, *longer])][:3]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]", "_", name.strip().lower())


def _initials(plain: str) -> str:
    return "".join(word[:1] for word in plain.split("_"))


class UnknownNameError(InputError):
    """A name that does not exist. The message suggests the nearest names, and lists all of them if they are few.

    Args:
        kind: The kind of the name, in the singular ("module", "slot", "backbone").
        name: The name that was given.
        known: The names that exist.
        hint: How the user can list all of these names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known, self.hint = kind, name, sorted(known), hint
        shown = str(name) if len(str(name)) <= _LONGEST_NAME else f"{str(name)[:_LONGEST_NAME]}..."
        near = nearest(shown, self.known)
        message = f"no {kind} named {shown!r}"
        if near:
            message += "; did you mean " + " or ".join(repr(n) for n in near) + "?"
        if len(self.known) <= _FEW and not (near and hint):
            message += f"{' ' if near else '; '}known: {', '.join(self.known) or 'none'}"
        if hint:
            message += f" ({hint})"
        super().__init__(message)

    # Pickle rebuilds an exception from `args`, which holds the message and not the arguments of this constructor.
    # An error must be picklable, because evaluations can run in another process.
    def __reduce__(self) -> tuple:
        return type(self), (self.kind, self.name, self.known, self.hint)


class ExpressionError(InputError):
    """Text that is not a valid expression.

    Args:
        message: The fault, in a few words.
        text: The whole text.
        position: Column of the fault, counted from 0. The message marks it with a caret.
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
    """A module that does not support the given channels, dims or hyper-parameters."""


class BackboneError(InputError):
    """A backbone that does not accept the input size, cannot be built, or has no slot."""


class SpaceError(InputError):
    """A space, constraint or objective that is malformed."""


class DataError(InputError):
    """Images or series that cannot be used for the task."""


class DeviceError(InputError):
    """A device that does not exist, or has too little memory for the task."""


class RunError(InputError):
    """A run folder that is missing, is not a run folder, or contains another configuration."""


class PluginError(InputError):
    """A plug-in file that fails to load, or a name that is registered twice. The message names file and line."""


class NothingMatched(NasbenchError):  # noqa: N818  (an empty answer is not a fault, so the name has no "Error")
    """A pattern or filter that matched nothing."""

    exit_code = 5


class EvaluationError(NasbenchError):
    """One evaluation failed. The reason is recorded in the row of its trial.

    Args:
        reason: One line for the `reason` column.
        kind: One of the words "nan", "inf", "out_of_memory", "exception", "timeout", "constraint", "collapsed".
    """

    def __init__(self, reason: str, kind: str = "exception") -> None:
        self.reason, self.kind = reason, kind
        super().__init__(reason)

    def __reduce__(self) -> tuple:
        return type(self), (self.reason, self.kind)


def kind_of_number(*values: float) -> str:
    """Return the kind of an `EvaluationError` about values that are not finite: "nan" if one is NaN, else "inf"."""
    return "nan" if any(math.isnan(value) for value in values) else "inf"


_NO_MEMORY = (
    *("can't allocate memory", "CUDA error: out of memory", "CUDA out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
"""If the message of a RuntimeError contains one of these phrases, memory ran out.

torch has a class for only some out-of-memory errors. The phrases are, in this order, from torch's CPU allocator, the
CUDA runtime, errors that torch.compile wraps, cuBLAS and cuDNN."""


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Turn an out-of-memory error of the device or the machine into an `EvaluationError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's class is recognised by its name, so that this file need not import torch.
        device_error = isinstance(error, MemoryError) or any(
            base.__name__ == "OutOfMemoryError" for base in type(error).__mro__
        )
        if not device_error and not any(words in str(error) for words in _NO_MEMORY):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvaluationError(f"out of memory: {first}", kind="out_of_memory") from error
