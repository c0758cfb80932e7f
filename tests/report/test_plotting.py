"""Figures as files and as pictures of a page."""

import base64
import dataclasses

import matplotlib as mpl
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from nasbench.errors import InputError
from nasbench.report.plotting import Picture, label, save_figure, save_picture, style


def drawn():
    with style():
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1])
    return figure


def test_a_picture_is_the_svg_beside_its_other_formats(tmp_path):
    picture = save_picture(drawn(), tmp_path / "figures", "line", alt="a line", caption="A line.", wide=True)
    files = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert set(files) == {"line.svg", "line.png", "line.pdf"}
    assert picture == Picture(base64.b64encode(files["line.svg"]).decode(), "a line", "A line.", True, "line")
    assert b"<dc:date>" not in files["line.svg"]


def test_the_ending_chooses_the_format(tmp_path):
    save_figure(drawn(), tmp_path / "line.png")
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"line\.doc.*use \.svg, \.png or \.pdf"):
        save_figure(drawn(), tmp_path / "line.doc")


def test_a_long_name_is_shortened_in_the_middle():
    assert label("temperature_of_the_north_wing", 12) == "temper…_wing"
    assert len(label("z" * 120)) == 40
    assert label("x" * 40) == "x" * 40
    assert label("温度" * 20, 12) == "温度温…温度"  # a Chinese character is two wide
    assert label("a$b") == r"a\$b"


def test_a_font_is_used_only_if_it_is_installed(monkeypatch):
    known = font_manager.fontManager.ttflist
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    with style():
        assert mpl.rcParams["font.family"][0] == "DejaVu Sans"
    chinese = dataclasses.replace(known[0], name="Noto Sans CJK SC")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*known, chinese])
    with style():
        assert mpl.rcParams["font.family"][:2] == ["DejaVu Sans", "Noto Sans CJK SC"]
