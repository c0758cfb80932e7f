"""The keywords of a module's constructor, and the one check of the values that are given for them.

Two declarations limit the values of a keyword: its type annotation in the constructor, and its range in the
registration. Both are stored as text or as literals. So the record of declarations can contain them, and a value can be
checked before the module is imported.
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
"""How a registration limits the values of a type: words such as "odd, at least 3", or a tuple of the allowed values."""

_PART = re.compile(
    r"(?P<parity>odd|even)|at (?P<side>least|most) (?P<limit>-?\d+(?:\.\d+)?)|(?P<count>\d+) or more values"
)


class _RefusedError(Exception):
    """A value does not have the annotated type."""


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword of a module's constructor.

    Attributes:
        name: The keyword.
        default: Its default value.
        values: The values that a search tries. Empty if a search does not change this keyword.
        annotation: Its type, as written in the signature. Values are checked if the type is int, float, bool, str,
            None, Literal, or a list or union of these. Any other annotation allows every value.
        range: How the registration limits the values of the type, as in `check_range`. "" if it does not.
    """

    name: str
    default: Any
    values: tuple[Any, ...] = ()
    annotation: str = ""
    range: Range = ""

    def accept(self, value: Any) -> Any:
        """Check a value, and return it in the form that the constructor gets.

        A whole number can be given as an int, as a float such as 2.0, or as a NumPy number. A boolean is not a number.
        A list becomes a tuple. The default is always accepted.

        Raises:
            UnsupportedError: If the value does not have the annotated type or is outside the declared range. The
                message says what was given and what is allowed.
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
        """What is allowed, in words: "a whole number, odd, at least 1". "" if every value is allowed."""
        if isinstance(self.range, tuple):
            return " or ".join(map(repr, self.range))
        return ", ".join(part for part in (_words(_parsed(self.annotation)), self.range) if part)


def check_range(range: Range) -> None:
    """Check that a range is written in one of the forms that this file understands.

    Args:
        range: A tuple of the allowed values, or phrases separated by commas. "odd", "even", "at least X" and "at most
            X" apply to every number in the value. "N or more values" applies to the length of a list.

    Raises:
        PluginError: If `range` contains any other phrase.
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
    """Return a whole number of any numeric type as an int. For any other value, also a boolean, return None."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    if isinstance(value, Integral):
        return int(value)
    return int(float(value)) if float(value).is_integer() else None  # nan and inf are not integers


def _within(value: Any, range: Range) -> bool:
    # Types are compared too, because Python considers 1, 1.0 and True equal.
    if isinstance(range, tuple):
        return any(type(value) is type(each) and value == each for each in range)
    return all(_keeps(value, match) for part in _parts(range) if (match := _PART.fullmatch(part)))


def _keeps(value: Any, part: re.Match[str]) -> bool:
    if part["count"]:  # about lists only: the type can also allow a single number
        return not isinstance(value, tuple) or len(value) >= int(part["count"])
    if part["parity"]:
        return all(number % 2 == (part["parity"] == "odd") for number in _numbers(value))
    limit = float(part["limit"])
    return all(number >= limit if part["side"] == "least" else number <= limit for number in _numbers(value))


def _numbers(value: Any) -> Iterator[int | float]:
    """Yield the value if it is a number, or the numbers in a tuple at any depth. For other values, yield nothing."""
    if isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _parts(range: str) -> list[str]:
    return [part.strip() for part in range.split(",") if part.strip()]


@cache
def _parsed(annotation: str) -> ast.expr | None:
    """Return the syntax tree of an annotation, or None if the text is empty or not valid Python."""
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return None


def _typed(value: Any, node: ast.expr | None) -> Any:
    """Convert a value to the annotated type. If the annotation is not one that is checked, return the value unchanged.

    Raises:
        _RefusedError: If the value does not have this type.
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
    return _if(abs(number) < float("inf"), number)  # also refuses nan, for which every comparison is false


_SCALARS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "int": (_whole, "a whole number", "whole numbers"),
    "float": (_number, "a number", "numbers"),
    "bool": (lambda value: _if(isinstance(value, bool), value), "True or False", "True or False"),
    "str": (lambda value: _if(isinstance(value, str), value), "a string", "strings"),
}
"""For each type, the function that checks and converts a value, and the type in words: singular and plural."""
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
        # None comes first, because the range that follows in a message applies to the other type.
        return " or ".join(sorted(filter(None, map(_words, alternatives)), key=lambda words: words != "None"))
    name, inner = _name(node), _inner(node)
    if name == "Literal":
        return " or ".join(ast.unparse(each) for each in inner)
    if name in _LISTS:
        kind = _SCALARS[_name(inner[0])][2] if inner and _name(inner[0]) in _SCALARS else "values"
        return f"{len(inner)} {kind}" if inner and name == "tuple" and not _open(inner) else f"a list of {kind}"
    return _SCALARS[name][1] if name in _SCALARS else ""
