"""The base class of all parts of a space that a person writes.

Only known keys are allowed. A single value can be given in place of a list. Errors say where in the file they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_serializer, model_validator
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from nasbench.errors import SpaceError, UnknownNameError

__all__ = ["Many", "Written", "explain"]

T = TypeVar("T")


def _several(given: Any) -> Any:
    if isinstance(given, (list, tuple)):
        return tuple(given)
    if isinstance(given, (set, frozenset)):
        raise SpaceError("give a list, because a set has no order")
    return (given,)


Many = Annotated[tuple[T, ...], BeforeValidator(_several)]
"""A list. If a single value is given, it becomes a list with one element."""


class Written(BaseModel):
    """A mapping that a person writes in a space file. For an unknown key, the error suggests the nearest known key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    word: ClassVar[str] = "space"
    """The word for this part in messages."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the allowed keys."""
        return list(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            if isinstance(given, cls):
                return given
            raise SpaceError(f"a {cls.word} is a mapping with the keys {', '.join(cls.known_keys())}; got {given!r}")
        for key in given:
            if key not in cls.known_keys():
                raise UnknownNameError(f"key of a {cls.word}", str(key), cls.known_keys())
        return given

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return only the values that differ from the defaults. The result can be read again."""
        fields = type(self).model_fields
        return {key: value for key, value in handler(self).items() if getattr(self, key) != fields[key].default}


def explain(error: ValidationError) -> str:
    """Return the first error in one line: its place, the given value, and what is allowed."""
    first = error.errors()[0]
    # pydantic adds the tags of unions in angle brackets, which are not keys of the file.
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("<"))
    cause = first.get("ctx", {}).get("error")
    # The text of nasbench's own errors is complete. pydantic's message would put "Value error" before it.
    fault = str(cause) if isinstance(cause, Exception) else f"{first['msg']}, got {_short(first['input'])}"
    return f"{where}: {fault}" if where else fault


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
