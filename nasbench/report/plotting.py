"""Common parts of all plots: style, colours, files and the picture on a page."""

from __future__ import annotations

import base64
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nasbench.builtin import content_folder
from nasbench.errors import InputError

__all__ = [
    "BLACK",
    "BLUE",
    "GREY",
    "RED",
    "CountFormatter",
    "Picture",
    "file_name",
    "label",
    "save",
    "save_figure",
    "save_picture",
    "style",
]

GREY, BLUE, RED, BLACK = "#9aa5b1", "#2a78b5", "#c44e20", "#111111"
"""Colours of the background, of measurements, of highlighted points and of the bare backbone."""


@dataclass(frozen=True)
class Picture:
    """A plot as the page shows it.

    Attributes:
        data: The SVG in base64.
        alt: Text for readers who cannot see the plot.
        caption: The text below it.
        wide: Whether it takes the full width of the page.
        name: The name of its files, without the ending.
        photographs: Whether it shows images of the data. Their colours are not inverted on a dark page.
    """

    data: str
    alt: str
    caption: str
    wide: bool = False
    name: str = ""
    photographs: bool = False


class CountFormatter(EngFormatter):
    """Writes the ticks of a count with a unit prefix, with as many digits as they need to differ."""

    def __init__(self) -> None:
        super().__init__(sep="")

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        """Return the text of each tick."""
        values = list(values)
        for self.places in (None, *range(3, 10)):  # None is six significant digits without zeros at the end
            texts = super().format_ticks(values)
            if len(set(texts)) == len(set(values)):
                break
        return texts


@contextmanager
def style() -> Iterator[None]:
    """Apply the plot style of the reports within a `with` block."""
    with mpl.rc_context(fname=content_folder("reports") / "nasbench.mplstyle"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # raised by seaborn's calls of matplotlib
        # The SVG on the page has the text itself, which the browser draws with its own fonts.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        installed = {font.name for font in font_manager.fontManager.ttflist}
        mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], *(n for n in _FALLBACKS if n in installed)]
        yield


_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Source Han Sans SC", "Microsoft YaHei"),
    *("PingFang SC", "Hiragino Sans GB", "SimHei", "Yu Gothic", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Noto Sans Thai", "Droid Sans Fallback", "Arial Unicode MS"),
)
"""Fonts for characters that the style's own font does not have, such as Chinese ones. Those installed are used."""

_LONGEST_LABEL = 40


def label(text: str, most: int = _LONGEST_LABEL) -> str:
    """Return a text for a plot, shortened in the middle, because names of data can be of any length.

    Its dollar signs are escaped, because matplotlib would take them for formulas.

    Args:
        text: The text.
        most: Its largest width in characters. A Chinese character is two wide.

    Example:
        >>> label("temperature_of_the_north_wing", 12)
        'temper…_wing'
    """
    if _width(text) > most:
        text = f"{_start(text, most // 2)}…{_start(text[::-1], most - most // 2 - 1)[::-1]}"
    return text.replace("$", r"\$")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _start(text: str, most: int) -> str:
    """Return as much of the start of a text as is at most this wide."""
    return text[: sum(width <= most for width in accumulate(map(_width, text)))]


def file_name(name: str) -> str:
    """Turn a text into a file name. The name of a metric can be any text, but a file must stay in its folder."""
    return re.sub(r"(?:[^\w.+]|\.\.)+", "-", name).strip("-.")[:100] or "metric"


def save(figure: Figure, folder: Path, name: str) -> dict[str, Path]:
    """Write a plot as SVG, PNG and PDF, and return the files by format."""
    folder.mkdir(exist_ok=True)
    files = {ending: folder / f"{file_name(name)}.{ending}" for ending in ("svg", "png", "pdf")}
    for file in files.values():
        _write(figure, file)
        figure.set_layout_engine("none")  # the first file's layout is kept: laying out takes as long as drawing
    return files


def save_picture(figure: Figure, folder: Path, name: str, *, alt: str, caption: str, wide: bool = False) -> Picture:
    """Write a plot as SVG, PNG and PDF, and return it for a page."""
    svg = save(figure, folder, name)["svg"]
    return Picture(base64.b64encode(svg.read_bytes()).decode("ascii"), alt, caption, wide, name)


def save_figure(figure: Figure, file: Path) -> None:
    """Write a plot in the format of the file's suffix.

    Raises:
        InputError: If matplotlib does not know the format, or the file cannot be written.
    """
    try:
        _write(figure, file)
    except ValueError as error:
        raise InputError(f"cannot write the figure {file}: {error}; use .svg, .png or .pdf") from None
    except OSError as error:  # its text has the temporary name
        raise InputError(f"cannot write the figure {file}: {error.strerror or error}") from None


def _write(figure: Figure, file: Path) -> None:
    # Written under another name first, because a failure must not destroy the earlier file. The name contains the
    # number of this process, because two reports can be built at the same time.
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        with style():  # no date, so that the same plot gives the same SVG file
            figure.savefig(temporary, metadata={"Date": None} if file.suffix == ".svg" else None)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
