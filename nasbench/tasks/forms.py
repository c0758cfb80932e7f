"""Tasks by name: what a person types, and the kind of task it stands for. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from nasbench.errors import InputError, UnknownNameError

__all__ = ["FORMS", "METRICS", "check_form", "kind_of"]

_KINDS: dict[str, str] = {
    "digits": "classification",
    "co2": "forecasting",
    "folder:PATH": "classification",
    "tar:FILE": "classification",
    "tar:TRAIN.tar,TEST.tar": "classification",
    "torchvision:NAME": "classification",
    "csv:PATH": "forecasting",
    "ett:PATH": "forecasting",
    "FILE.py:Task": "",
}

FORMS = tuple(_KINDS)
"""What `create_task` understands."""

METRICS: dict[str, Mapping[str, str]] = {
    "classification": {"accuracy": "maximize", "loss": "minimize"},
    "forecasting": {"mse": "minimize", "mae": "minimize", "smape": "minimize", "mase": "minimize"},
}
"""The metrics of each kind of task with their directions; the first is what selection uses."""


def is_user_task(text: str) -> bool:
    """Whether a task is a user's own, `FILE.py:Task`."""
    return text.endswith(".py") or ".py:" in text


def kind_of(text: str) -> str:
    """Return the kind of a task by what was typed; "" where only the user's own file knows.

    Raises:
        UnknownNameError: If the text is no task.
        InputError: If it names no data.
    """
    if is_user_task(text):
        return ""
    form, colon, place = text.partition(":")
    found = [kind for known, kind in _KINDS.items() if known.partition(":")[:2] == (form, colon)]
    if not found:
        raise UnknownNameError("task", text, FORMS)
    if colon and not place:
        raise InputError(f"{text!r} names no data; write it as one of {', '.join(f for f in FORMS if ':' in f)}")
    return found[0]


def check_form(text: str) -> str:
    """Return the text of a task, if it is one; raises as `kind_of`."""
    kind_of(text)
    return text
