"""The algebra of modules: parser, canonical form and hash. This file needs no torch. `building` builds the modules.

The grammar is a subset of Python's and has Python's precedence. The text is parsed and never evaluated:

    expression := none                        identity
                | name                        a module with its defaults
                | name(key=value, ...)        a module with hyper-parameters
                | a >> b                      series: b(a(x))
                | a + b                       parallel sum: a(x) + b(x)
                | fusion(a, b, ..., key=value)   a fusion of branches: gate, select, interact, concat, ...

The canonical form leaves out default values, and each `none` in a series. It sorts keywords, flattens `>>` and `+`, and
sorts the operands of commutative fusions. So expressions that describe the same function class have the same text and
hash.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from keyword import iskeyword, kwlist
from typing import Any

from nasbench.errors import ExpressionError, UnknownNameError, UnsupportedError
from nasbench.library.modules import module_spec
from nasbench.library.registry import ModuleSpec

__all__ = ["NONE", "Expression", "Fused", "Leaf", "Series", "parse", "runs_rowwise", "text_hash"]

# With these limits, a hostile or broken text fails before it uses up the memory or the parser's stack.
_MAX_LENGTH = 10_000  # characters
_MAX_DEPTH = 40  # nested operators and calls
_SERIES, _SUM, _ATOM = 0, 1, 2  # binding strength, weakest first
# The pattern leaves out True, False and None, because they are values of hyper-parameters.
_VENDOR_KEYWORD = re.compile(rf"([a-z0-9_]\s*/\s*)({'|'.join(k for k in kwlist if k.islower())})\b")
"""Matches a vendor's layer whose name is a Python keyword (`timm/lambda`).

Python's parser refuses such a name, so `parse` gives it a capital first letter. No registered name contains a capital
letter, so `_Parser.name` can undo this."""


def text_hash(text: str) -> str:
    """Return the stable hash of a canonical text: 16 hexadecimal digits of its SHA-256."""
    # Python's own hash of a string differs between processes.
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Expression:
    """A composition of modules in canonical form, made by `parse`. Equal expressions have equal hashes."""

    def canonical(self) -> str:
        """Return the canonical text. Parsing it gives an equal expression."""
        raise NotImplementedError

    @property
    def hash(self) -> str:
        """The stable hash of the canonical text."""
        return text_hash(self.canonical())

    @property
    def is_none(self) -> bool:
        """Whether this is `none`, the identity map."""
        return False

    @property
    def starts_as_identity(self) -> bool:
        """Whether the built module computes `f(x) == x`, bit for bit, before training."""
        raise NotImplementedError

    def leaves(self) -> Iterator[Leaf]:
        """Yield every module of the expression from left to right, without the fusions."""
        raise NotImplementedError

    def specs(self) -> Iterator[ModuleSpec]:
        """Yield the spec of every module and fusion of the expression."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.canonical()

    def _bound(self, strength: int) -> str:
        """Return the canonical text, in parentheses if it binds more weakly than `strength`."""
        text = self.canonical()
        return text if self._strength >= strength else f"({text})"

    _strength = _ATOM


@dataclass(frozen=True)
class Leaf(Expression):
    """One module.

    Attributes:
        name: Registry name.
        hyper: Hyper-parameters that differ from the defaults, sorted by keyword.
    """

    name: str
    hyper: tuple[tuple[str, Any], ...] = ()

    def canonical(self) -> str:
        """Return `name` or `name(key=value, ...)`."""
        return self.name + (f"({_keywords(self.hyper)})" if self.hyper else "")

    @property
    def starts_as_identity(self) -> bool:
        """Whether the module declares that it starts as an identity."""
        return module_spec(self.name).starts_as_identity

    def leaves(self) -> Iterator[Leaf]:
        """Yield this module."""
        yield self

    def specs(self) -> Iterator[ModuleSpec]:
        """Yield the module's spec."""
        yield module_spec(self.name)


@dataclass(frozen=True)
class Series(Expression):
    """Modules in series. The empty series is `none`."""

    parts: tuple[Expression, ...] = ()
    _strength = _SERIES

    def canonical(self) -> str:
        """Return `a >> b`, or `none`."""
        return " >> ".join(p._bound(_SUM) for p in self.parts) or "none"

    @property
    def is_none(self) -> bool:
        """Whether the series is empty."""
        return not self.parts

    @property
    def starts_as_identity(self) -> bool:
        """Whether every part starts as an identity."""
        return all(p.starts_as_identity for p in self.parts)

    def leaves(self) -> Iterator[Leaf]:
        """Yield the modules of every part."""
        for part in self.parts:
            yield from part.leaves()

    def specs(self) -> Iterator[ModuleSpec]:
        """Yield the specs of every part."""
        for part in self.parts:
            yield from part.specs()

    def _bound(self, strength: int) -> str:
        """Return the canonical text. `none` is one word, so it needs no parentheses."""
        return "none" if self.is_none else super()._bound(strength)


@dataclass(frozen=True)
class Fused(Expression):
    """Branches joined by a fusion. `+` means the fusion `add`.

    Attributes:
        fusion: Registry name of the fusion.
        branches: The fusion's inputs, in canonical order.
        hyper: The fusion's hyper-parameters that differ from the defaults, sorted by keyword.
    """

    fusion: str
    branches: tuple[Expression, ...]
    hyper: tuple[tuple[str, Any], ...] = ()

    @property
    def _strength(self) -> int:  # type: ignore[override]
        return _SUM if self.fusion == "add" else _ATOM

    def canonical(self) -> str:
        """Return `a + b`, or `fusion(a, b, key=value)`."""
        if self.fusion == "add":
            return " + ".join(b._bound(_ATOM) for b in self.branches)
        inside = [b.canonical() for b in self.branches] + ([_keywords(self.hyper)] if self.hyper else [])
        return f"{self.fusion}({', '.join(inside)})"

    @property
    def starts_as_identity(self) -> bool:
        """Whether every branch starts as an identity and the fusion declares that it does too.

        All branches then return their input x, so the fusion gets only copies of x and must return x. A weighted sum
        does so if its weights sum to one.
        """
        return module_spec(self.fusion).starts_as_identity and all(b.starts_as_identity for b in self.branches)

    def leaves(self) -> Iterator[Leaf]:
        """Yield the modules of every branch."""
        for branch in self.branches:
            yield from branch.leaves()

    def specs(self) -> Iterator[ModuleSpec]:
        """Yield the fusion's spec, then those of its branches."""
        yield module_spec(self.fusion)
        for branch in self.branches:
            yield from branch.specs()


NONE = Series()
"""The identity, `none`."""


def parse(text: str | Expression, bindings: Mapping[str, Expression] | None = None) -> Expression:
    """Parse an expression into its canonical form.

    Args:
        text: Text such as `eca >> triplet_attention` or `gate(se, agent_attention(agents=16))`. An `Expression` is
            returned unchanged.
        bindings: Names that stand for expressions, such as the letters in the template `gate(a, b)` of a space.

    Raises:
        ExpressionError: If the text is malformed. The message shows the position.
        UnknownNameError: If a module or hyper-parameter does not exist. The message suggests the nearest name.

    Example:
        >>> parse("eca + se(reduction=16)").canonical()
        'eca + se'
    """
    if isinstance(text, Expression):
        return text
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is text, got {type(text).__name__}")
    if not text.strip():
        raise ExpressionError("the expression is empty; `none` is the identity")
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {_MAX_LENGTH} are allowed")
    source = text.strip()
    try:
        tree = ast.parse(_VENDOR_KEYWORD.sub(lambda m: m[1] + m[2].capitalize(), source), mode="eval")
    except SyntaxError as error:
        # The message shows only the first line, so it gives no column for an error in a later line.
        column = max((error.offset or 1) - 1, 0) if error.lineno in (None, 1) else None
        raise ExpressionError(f"malformed expression: {error.msg}", source, column) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"malformed expression: {error}", source[:80]) from None
    return _Parser(source, bindings or {}).expression(tree.body, 0)


class _Parser:
    """Turn the nodes of Python's syntax tree into expressions. For a node outside the grammar, raise an error.

    The error shows the position of the node in the text.
    """

    def __init__(self, source: str, bindings: Mapping[str, Expression]) -> None:
        self.source, self.bindings = source, bindings

    def expression(self, node: ast.expr, depth: int) -> Expression:
        if depth > _MAX_DEPTH:
            raise self.fault(node, f"the expression is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
            return _series([self.expression(node.left, depth + 1), self.expression(node.right, depth + 1)])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _fused("add", [self.expression(node.left, depth + 1), self.expression(node.right, depth + 1)], ())
        if isinstance(node, ast.Constant) and node.value is None:
            raise self.fault(node, "write `none` for the identity")
        name, call = self.name(node)
        if call is None and name in self.bindings:
            return self.bindings[name]
        if name == "none":
            if call is not None:
                raise self.fault(node, "`none` takes no arguments")
            return NONE
        return self.module(node, name, call, depth)

    def name(self, node: ast.expr) -> tuple[str, ast.Call | None]:
        """Return the name and the call of `name`, `name(...)`, `vendor/name` and `vendor/name(...)`."""
        prefix = ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.left, ast.Name):
            prefix, node = f"{node.left.id}/", node.right
        call = node if isinstance(node, ast.Call) else None
        target = node.func if isinstance(node, ast.Call) else node
        if not isinstance(target, ast.Name):
            raise self.fault(node, "expected a module name, `none`, `a >> b`, `a + b` or `fusion(a, b)`")
        # Undo the capital that `parse` gave to a Python keyword.
        reserved = prefix and not target.id.islower() and iskeyword(target.id.lower())
        return prefix + (target.id.lower() if reserved else target.id), call

    def module(self, node: ast.expr, name: str, call: ast.Call | None, depth: int) -> Expression:
        spec = module_spec(name)
        if spec.kind in ("neck", "head") and depth > 0:
            raise self.fault(node, f"{name} is a {spec.kind}, which takes a whole pyramid: it stands alone")
        if spec.kind == "pretext" and depth > 0:
            raise self.fault(node, f"{name} is a pretext, which trains a whole network: give it as `learn=`")
        hyper = self.hyper(spec, call)
        branches = [self.expression(argument, depth + 1) for argument in call.args] if call else []
        if spec.kind == "fusion":
            return self.fused(node, spec, branches, hyper)
        if branches:
            raise self.fault(node, f"{name} is a module and not a fusion: give its hyper-parameters by keyword")
        return Leaf(name, hyper)

    def fused(
        self, node: ast.expr, spec: ModuleSpec, branches: list[Expression], hyper: tuple[tuple[str, Any], ...]
    ) -> Expression:
        if len(branches) < 2:
            raise self.fault(node, f"fusion {spec.name} joins at least 2 branches, got {len(branches)}")
        if len(branches) > 2 and "inputs" not in spec.socket:
            raise self.fault(node, f"fusion {spec.name} joins exactly 2 branches, got {len(branches)}")
        return _fused(spec.name, branches, hyper)

    def hyper(self, spec: ModuleSpec, call: ast.Call | None) -> tuple[tuple[str, Any], ...]:
        given: dict[str, Any] = {}
        for keyword in call.keywords if call else ():
            if keyword.arg is None:
                raise self.fault(keyword.value, "`**` is not allowed in an expression")
            if keyword.arg not in spec.hyperparameters:
                raise UnknownNameError(f"hyper-parameter of {spec.name}", keyword.arg, spec.hyperparameters)
            if keyword.arg in given:
                raise self.fault(keyword.value, f"{keyword.arg} is given twice")
            parameter = spec.hyperparameters[keyword.arg]
            try:
                value = parameter.accept(self.value(keyword.value))
            except UnsupportedError as error:
                raise self.fault(keyword.value, f"{spec.name}: {error}") from None
            given[keyword.arg] = _normal(value, parameter.default)
        # A value that equals the default is dropped, because it describes the same module.
        return tuple(
            (key, value)
            for key, value in sorted(given.items())
            if not _same(value, _normal(spec.hyperparameters[key].default, None))
        )

    def value(self, node: ast.expr) -> Any:
        try:
            value = ast.literal_eval(node)  # builds literals and calls nothing
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise self.fault(node, "a hyper-parameter is a number, a string, True, False, None or a tuple") from None
        if not _plain(value):  # sets, dicts and bytes are literals too
            raise self.fault(node, f"a hyper-parameter cannot be a {type(value).__name__}")
        return value

    def fault(self, node: ast.expr, message: str) -> ExpressionError:
        # ast counts columns in UTF-8 bytes, but the message points at a character.
        line = self.source.splitlines()[node.lineno - 1] if "\n" in self.source else self.source
        return ExpressionError(message, line, len(line.encode()[: node.col_offset].decode(errors="ignore")))


def _plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _normal(value: Any, default: Any) -> Any:
    """Turn lists into tuples, and turn a whole number into a float if the default is a float."""
    if isinstance(value, (list, tuple)):
        return tuple(_normal(v, None) for v in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _same(a: Any, b: Any) -> bool:
    # In Python, 1, 1.0 and True are equal, but they differ as hyper-parameters.
    return type(a) is type(b) and a == b


def _keywords(hyper: tuple[tuple[str, Any], ...]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in hyper)


def _series(parts: list[Expression]) -> Expression:
    # `>>` is associative, so nested series are flattened. `none`, the empty series, disappears on the way.
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Series) else (part,))]
    return flat[0] if len(flat) == 1 else Series(tuple(flat))


def _fused(fusion: str, branches: list[Expression], hyper: tuple[tuple[str, Any], ...]) -> Expression:
    if fusion == "add":  # `+` is associative, so (a + b) + c and a + b + c must have one text
        branches = [
            inner
            for branch in branches
            for inner in (branch.branches if isinstance(branch, Fused) and branch.fusion == "add" else (branch,))
        ]
    if module_spec(fusion).commutative:  # the order of the branches makes no difference, so one order is chosen
        branches = sorted(branches, key=lambda branch: branch.canonical())
    return Fused(fusion, tuple(branches), hyper)


def runs_rowwise(leaf: Leaf, dims: int) -> bool:
    """Return whether a module runs on each row of a map with `dims` dimensions separately.

    It does so on a two-dimensional map (series by time) if it supports only one-dimensional maps.
    """
    return dims == 2 and module_spec(leaf.name).dims == (1,)
