"""The keywords of a module's constructor, and the one check of the values that are given for them.

What a keyword allows comes from two places: its type from the annotation in the constructor, and its range from the
registration. Both are kept as text, so that a record of declarations holds them and no module has to be imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any

from nasbench.errors import PluginError, UnsupportedError

__all__ = ["Hyperparameter", "check_range", "whole"]

Range = str | tuple[Any, ...]
"""What a registration allows beyond the type: words such as "odd, at least 3", or a tuple of the allowed values."""

_PART = re.compile(
    r"(?P<parity>odd|even)|at (?P<side>least|most) (?P<limit>-?\d+(?:\.\d+)?)|(?P<count>\d+) or more values"
)


class _RefusedError(Exception):
    """A value is not of a type."""


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword of a module's constructor.

    Attributes:
        name: The keyword.
        default: Its default value.
        values: The values that a search tries. Empty if a search does not change this keyword.
        annotation: Its type, as written in the signature. An annotation other than int, float, bool, str, None,
            Literal, and lists and unions of them allows everything.
        range: What the registration allows beyond the type, as in `check_range`. "" if it declares nothing.
    """

    name: str
    default: Any
    values: tuple[Any, ...] = ()
    annotation: str = ""
    range: Range = ""

    def accept(self, value: Any) -> Any:
        """Return a value as the constructor gets it, or refuse it.

        A whole number may come as an int, as 2.0 or from numpy, but a boolean is not a number. A list becomes a tuple.

        Raises:
            UnsupportedError: If the value is not of the annotated type, or beyond the declared range. The message says
                what was given and what is allowed.
        """
        if type(value) is type(self.default) and value == self.default:
            return value
        try:
            taken = _typed(value, _parsed(self.annotation))
        except _RefusedError:
            raise UnsupportedError(f"{self.name} is {value!r}; allowed: {self.allowed}") from None
        if not _within(taken, self.range):
            raise UnsupportedError(f"{self.name} is {value!r}; allowed: {self.allowed}")
        return taken

    @property
    def allowed(self) -> str:
        """What is allowed, in words: "a whole number, odd, at least 1". "" if everything is."""
        if isinstance(self.range, tuple):
            return " or ".join(map(repr, self.range))
        return ", ".join(part for part in (_words(_parsed(self.annotation)), self.range) if part)


def check_range(range: Range) -> None:
    """Check how a registration declares a range.

    Args:
        range: A tuple of the allowed values, or words separated by commas: "odd", "even", "at least X" and "at most X"
            about every number of the value, "N or more values" about the length of a list.

    Raises:
        PluginError: If the words are others.
    """
    if isinstance(range, tuple):
        return
    for part in _parts(range):
        if not _PART.fullmatch(part):
            raise PluginError(
                f"the range {range!r} is not known; write 'odd', 'even', 'at least X', 'at most X' or "
                "'N or more values', separated by commas, or a tuple of the allowed values"
            )


def whole(value: Any) -> int | None:
    """Return an integral number of any type as an int, or None if the value is none. A boolean is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    return int(float(value)) if float(value).is_integer() else None  # nan and inf are not integers


def _within(value: Any, range: Range) -> bool:
    if isinstance(range, tuple):
        return any(type(value) is type(each) and value == each for each in range)
    return all(_keeps(value, match) for part in _parts(range) if (match := _PART.fullmatch(part)))


def _keeps(value: Any, part: re.Match[str]) -> bool:
    if part["count"]:
        return not isinstance(value, tuple) or len(value) >= int(part["count"])
    if part["parity"]:
        return all(number % 2 == (part["parity"] == "odd") for number in _numbers(value))
    limit = float(part["limit"])
    return all(number >= limit if part["side"] == "least" else number <= limit for number in _numbers(value))


def _numbers(value: Any) -> Iterator[int | float]:
    """Yield a number itself, or the numbers of a tuple at any depth. Other values have none."""
    if isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _parts(range: str) -> list[str]:
    return [part.strip() for part in range.split(",") if part.strip()]


@cache
def _parsed(annotation: str) -> ast.expr | None:
    """Return the syntax of an annotation, or None if it is none."""
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return None


def _typed(value: Any, node: ast.expr | None) -> Any:
    """Return a value as a value of the annotated type. An annotation that is not understood allows every value.

    Raises:
        _RefusedError: If the value is not of this type.
    """
    if isinstance(node, ast.Constant) and node.value is None:
        return _if(value is None, value)
    if alternatives := _alternatives(node):
        for each in alternatives:
            try:
                return _typed(value, each)
            except _RefusedError:
                continue
        raise _RefusedError
    name, inner = _name(node), _inner(node)
    if name == "Literal":
        literals = [ast.literal_eval(each) for each in inner]
        return _if(any(type(value) is type(each) and value == each for each in literals), value)
    if name in _LISTS:
        return _typed_list(value, name, inner)
    return _SCALARS[name][0](value) if name in _SCALARS else value


def _typed_list(value: Any, name: str, inner: list[ast.expr]) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise _RefusedError
    if not inner:
        return tuple(value)
    if name == "tuple" and not _open(inner):
        _if(len(value) == len(inner), value)
        return tuple(_typed(each, kind) for each, kind in zip(value, inner, strict=True))
    return tuple(_typed(each, inner[0]) for each in value)


def _if(fits: bool, value: Any) -> Any:
    if not fits:
        raise _RefusedError
    return value


def _whole(value: Any) -> int:
    number = whole(value)
    return _if(number is not None, number)


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _RefusedError
    number = int(value) if isinstance(value, Integral) else float(value)
    return _if(abs(number) < float("inf"), number)  # nan is not below anything


_SCALARS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "int": (_whole, "a whole number", "whole numbers"),
    "float": (_number, "a number", "numbers"),
    "bool": (lambda value: _if(isinstance(value, bool), value), "True or False", "True or False"),
    "str": (lambda value: _if(isinstance(value, str), value), "a text", "texts"),
}
"""How a value of the type is read, and the type in words, in the singular and in the plural."""
_LISTS = ("tuple", "list", "Sequence")


def _alternatives(node: ast.expr | None) -> list[ast.expr]:
    """Return the types of `A | B`, `Union[A, B]` and `Optional[A]`, or [] for another annotation."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [node.left, node.right]
    if _name(node) == "Union":
        return _inner(node)
    return [*_inner(node), ast.Constant(None)] if _name(node) == "Optional" else []


def _name(node: ast.expr | None) -> str:
    """Return the last part of a type's name: "Sequence" for `collections.abc.Sequence[int]`."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _inner(node: ast.expr | None) -> list[ast.expr]:
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _open(inner: list[ast.expr]) -> bool:
    """Return whether a tuple of these types has any length (`tuple[int, ...]`)."""
    return isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis


def _words(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    if alternatives := _alternatives(node):
        # None comes first, because the range that follows in a message is about the other type
        return " or ".join(sorted(filter(None, map(_words, alternatives)), key=lambda words: words != "None"))
    name, inner = _name(node), _inner(node)
    if name == "Literal":
        return " or ".join(ast.unparse(each) for each in inner)
    if name in _LISTS:
        kind = _SCALARS[_name(inner[0])][2] if inner and _name(inner[0]) in _SCALARS else "values"
        return f"{len(inner)} {kind}" if inner and name == "tuple" and not _open(inner) else f"a list of {kind}"
    return _SCALARS[name][1] if name in _SCALARS else ""
