"""Compositions: templates with the letters a, b, c, d for variants, and the distinct expressions that they give."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

from nasbench.errors import SpaceError
from nasbench.library.expression import NONE, Expression, parse

__all__ = ["LETTERS", "MAX_DEPTH", "Combinations", "Setting", "combine", "letters_of", "skeleton", "usual_compositions"]

LETTERS = "abcd"
"""The letters of a composition. Each stands for one variant."""

MAX_DEPTH = len(LETTERS) - 1
"""Largest depth of a composition. A composition of depth n joins n + 1 variants."""

_MAX_SETTINGS = 200_000
"""Largest number of settings of one slot. To count distinct plans, each setting is composed once."""

Setting = tuple[str, tuple[int, ...]]
"""A composition, and for each of its letters the index of a variant."""


@lru_cache(maxsize=4096)
def letters_of(composition: str) -> tuple[str, ...]:
    """Return the letters that a composition uses, in alphabetical order."""
    # Only whole words count, so the `a` in `gate` is not a letter.
    words = re.findall(r"[A-Za-z_]\w*", composition)
    return tuple(letter for letter in LETTERS if letter in words)


def skeleton(composition: str) -> Expression:
    """Return a composition with `none` in place of every letter. Only its own modules and fusions are left.

    Raises:
        InputError: If the composition is malformed.
    """
    return parse(composition, dict.fromkeys(LETTERS, NONE))


def usual_compositions(depth: int) -> tuple[str, ...]:
    """Return `none`, a single variant, and the usual ways to join up to `depth` + 1 variants.

    Each further variant is joined in four ways: after the composition so far, added to it, gated with it, or before it.

    Args:
        depth: Number of nested joins, 0 to 3.

    Example:
        >>> usual_compositions(1)
        ('none', 'a', 'a >> b', 'a + b', 'gate(a, b)')
    """
    templates, newest = ["none", "a"], [("a", "module")]
    for letter in LETTERS[1 : depth + 1]:
        newest = [joined for text, kind in newest for joined in _joined(text, kind, letter)]
        templates += [text for text, _ in newest]
    return tuple(templates)


def _joined(text: str, kind: str, letter: str) -> Iterator[tuple[str, str]]:
    closed = f"({text})" if kind in ("series", "sum") else text
    yield f"{text if kind == 'series' else closed} >> {letter}", "series"
    yield f"{text if kind == 'sum' else closed} + {letter}", "sum"
    yield f"gate({text}, {letter})", "gate"
    # The letter is not put before a series or a single module, because this would give a series that is listed already.
    if kind in ("sum", "gate"):
        yield f"{letter} >> {closed}", "series"


class Combinations:
    """The distinct expressions that compositions of variants give, and the settings that give each of them.

    Two settings differ by one choice if they differ only in one variant, or only in the composition. A letter that a
    composition does not use is not part of its setting.

    Args:
        compositions: Templates with letters.
        variants: The expressions for which a letter can stand.
        distinct_properties: Whether a composition is reduced to its first variant if all its variants declare the same
            properties.

    Raises:
        SpaceError: If there are too many settings.
    """

    def __init__(
        self, compositions: tuple[str, ...], variants: tuple[Expression, ...], distinct_properties: bool
    ) -> None:
        total = sum(len(variants) ** len(letters_of(composition)) for composition in compositions)
        if total > _MAX_SETTINGS:
            raise SpaceError(
                f"{len(compositions)} compositions of {len(variants)} variants have {total:,} settings at one slot; at "
                f"most {_MAX_SETTINGS:,} can be counted; give fewer variants, or compositions with fewer letters"
            )
        self.compositions, self.variants = compositions, variants
        self._declared = [declared(variant) for variant in variants] if distinct_properties else []
        self.settings = self._all_settings()
        self.expressions = tuple(self.settings)
        self._gives = {setting: e for e, settings in self.settings.items() for setting in settings}

    def __contains__(self, expression: object) -> bool:
        return expression in self.settings

    def _all_settings(self) -> dict[Expression, list[Setting]]:
        """Return the settings by expression.

        Reduced settings are included only for expressions that no other setting gives.
        """
        # The expression `se` must not get the neighbours of compositions that are reduced to `se`.
        proper: dict[Expression, list[Setting]] = {}
        reduced: dict[Expression, list[Setting]] = {}
        for composition in self.compositions:
            letters = letters_of(composition)
            for chosen in itertools.product(range(len(self.variants)), repeat=len(letters)):
                into = reduced if self._is_reduced(chosen) else proper
                into.setdefault(self._compose(composition, chosen), []).append((composition, chosen))
        return proper | {e: settings for e, settings in reduced.items() if e not in proper}

    def _is_reduced(self, chosen: tuple[int, ...]) -> bool:
        return bool(self._declared) and len(chosen) > 1 and len({self._declared[i] for i in chosen}) == 1

    def _compose(self, composition: str, chosen: tuple[int, ...]) -> Expression:
        if self._is_reduced(chosen):
            return self.variants[chosen[0]]
        bound = zip(letters_of(composition), (self.variants[i] for i in chosen), strict=True)
        return parse(composition, dict(bound))

    def neighbours(self, expression: Expression) -> tuple[Expression, ...]:
        """Return the neighbours of an expression.

        Two expressions are neighbours if one has a setting that differs by one choice from a setting of the other.
        """
        if expression not in self._near:
            near = dict.fromkeys(e for setting in self.settings.get(expression, ()) for e in self._beside(setting))
            near.pop(expression, None)
            self._near[expression] = tuple(near)
        return self._near[expression]

    @cached_property
    def _near(self) -> dict[Expression, tuple[Expression, ...]]:
        return {}

    def _beside(self, setting: Setting) -> Iterator[Expression]:
        """Yield the expressions of all settings that differ by at most one choice."""
        composition, chosen = setting
        every = range(len(self.variants))
        for place in range(len(chosen)):
            for variant in every:
                yield from self._at((composition, (*chosen[:place], variant, *chosen[place + 1 :])))
        # If the composition changes, the letters that both compositions use keep their variants. Other letters can have
        # any variant.
        shared = dict(zip(letters_of(composition), chosen, strict=True))
        for other in self.compositions:
            if other != composition:
                pools = [(shared[letter],) if letter in shared else every for letter in letters_of(other)]
                for filled in itertools.product(*pools):
                    yield from self._at((other, filled))

    def _at(self, setting: Setting) -> Iterator[Expression]:
        if setting in self._gives:  # some reduced settings are left out
            yield self._gives[setting]


@lru_cache(maxsize=128)
def combine(compositions: tuple[str, ...], variants: tuple[Expression, ...], distinct_properties: bool) -> Combinations:
    """Return the combinations. They are computed once for all slots with the same choices."""
    return Combinations(compositions, variants, distinct_properties)


def declared(expression: Expression) -> frozenset[str]:
    """Return the properties that the modules and fusions of an expression declare."""
    return frozenset(name for spec in expression.specs() for name in spec.properties)
