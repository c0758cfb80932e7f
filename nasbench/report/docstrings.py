"""Docstrings as text for a terminal: wrapped paragraphs, and equations in Unicode, each on its own line."""

from __future__ import annotations

import re
import textwrap

__all__ = ["equations", "render", "wrap"]

_INDENT = "    "
_SYMBOLS = {
    "odot": "⊙", "times": "×", "star": "⋆", "sum": "Σ", "in": "∈", "le": "≤", "to": "→", "leftarrow": "←",
    "partial": "∂", "dots": "…", "ldots": "…", "lVert": "‖", "rVert": "‖", "bmod": "mod", "Delta": "Δ",
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "rho": "ρ", "sigma": "σ", "tau": "τ", "ell": "ℓ", "ne": "≠",
    "big": "", "Big": "", "textstyle": "", "{": "\ue002", "}": "\ue003", ",": " ", ";": " ", " ": " ",
}  # fmt: skip
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("0123456789-T", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ᵀ")
_DONE: dict[str, str | int | None] = {
    "\ue000": "_",
    "\ue001": "^",
    "\ue002": "{",
    "\ue003": "}",
}  # placeholders (private use area) for characters that must not be interpreted again
_GROUP = r"\s*\{([^{}]*)\}"  # the innermost braces are replaced first, so that no group contains another


def render(doc: str, width: int) -> str:
    """Return a Google-style docstring wrapped to `width` columns, with its `.. math::` blocks as indented equations."""
    blocks = re.split(r"\n\s*\n", doc.strip())
    return "\n\n".join(_block(block, width) for block in blocks)


def equations(latex: str) -> list[str]:
    """Return the equations of a LaTeX formula as Unicode text. A `\\\\quad` or a line break ends an equation.

    Digits become subscripts and superscripts. Other indices stay as `x_i`, because Unicode has subscripts for only some
    letters.
    """
    text = re.sub(r"\\begin\{cases\}(.*?)\\end\{cases\}", _cases, latex, flags=re.DOTALL)
    parts = re.split(r"\\\\|\\q?quad(?![a-z])", text.replace("&", ""))
    lines = (" ".join(_unicode(part).split()).rstrip(",") for part in parts)
    return [line for line in lines if line]


def _block(block: str, width: int) -> str:
    if block.lstrip().startswith(".. math::"):
        lines = equations(block.split("::", 1)[1])
        return "\n".join(wrap(line, width, _INDENT, 2 * _INDENT) for line in lines)
    first, *rest = block.split("\n")
    # In a section such as "Args:", each line is an entry, and a line with a deeper indent continues the entry above it.
    if rest and re.fullmatch(r"[A-Z]\w+:", first):
        entries = re.split(r"\n(?=\s{4}\S)", "\n" + "\n".join(rest))[1:]
        return "\n".join([first, *(wrap(entry, width, _INDENT, 2 * _INDENT) for entry in entries)])
    return wrap(block, width)


def wrap(text: str, width: int, first: str = "", others: str = "") -> str:
    """Return `text` as one paragraph of `width` columns. `first` and `others` indent the first line and the rest."""
    return textwrap.fill(
        " ".join(text.split()), width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


def _cases(match: re.Match[str]) -> str:
    text = re.sub(r"&\s*\\text\{else\}", r"\\text{ else}", match[1])
    return r"\{ " + re.sub(r"\\\\", "; ", text).replace("&", r"\text{ for }") + r" \}"


def _unicode(latex: str) -> str:
    """Return one equation as Unicode text without LaTeX commands."""
    text = re.sub(r"\\([a-zA-Z]+|[{},; ])", lambda m: _SYMBOLS.get(m[1], m[0]), latex)
    before = ""  # repeated until nothing changes, because each round replaces the innermost braces
    while text != before:
        before = text
        text = re.sub(rf"\\frac{_GROUP}{_GROUP}", _fraction, text)
        text = re.sub(rf"\\underbrace{_GROUP}_{_GROUP}", r"\1 [\2]", text)
        text = re.sub(rf"\\sqrt{_GROUP}", lambda m: f"√{_term(m[1])}", text)
        text = re.sub(rf"\\overrightarrow{_GROUP}", r"→\1", text)
        text = re.sub(rf"\\overleftarrow{_GROUP}", r"←\1", text)
        text = re.sub(rf"\\(?:mathrm|text){_GROUP}", r"\1", text)
        text = re.sub(rf"(?<!\}})([_^])(?:{_GROUP}|(\w))", _index, text)
    text = re.sub(r"\\(hat|bar|tilde)\s*(\w)", lambda m: m[2] + _ACCENTS[m[1]], text)
    text = re.sub(r"(?<=[\w)])\\([a-z]+)|\\([a-z]+)", lambda m: f" {m[1]}" if m[1] else m[2], text)  # max, ln, tanh
    text = re.sub(r"(?<=[(\[])\s+|\s+(?=[)\];])", "", text)
    return text.translate(str.maketrans(_DONE))


def _index(match: re.Match[str]) -> str:
    kind, index = match[1], (match[2] or match[3]).strip()
    index = re.sub(r"\s*×\s*", "×", index)
    small = _SUBSCRIPTS if kind == "_" else _SUPERSCRIPTS
    if all(ord(letter) in small for letter in index):
        return index.translate(small)
    kind = "\ue000" if kind == "_" else "\ue001"
    return kind + (index if re.fullmatch(r"[\w×]+|\(.*\)", index) else f"({index})")


def _fraction(match: re.Match[str]) -> str:
    over, under = (_term(part.strip()) for part in match.groups())
    return f"{over} / {under}" if over[-1] == ")" or under[-1] == ")" else f"{over}/{under}"


def _term(text: str) -> str:
    """Return a part of a fraction or root, in parentheses unless it is a single factor."""
    return text if re.fullmatch(r"[\w\u0300-\u036f\ue000\ue001₀-₉]+", text) else f"({text})"
