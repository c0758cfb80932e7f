"""Figures as files and as pictures of a page."""

import base64

import pytest
from matplotlib.figure import Figure

from nasbench.errors import InputError
from nasbench.report.plotting import Picture, save_figure, save_picture, style


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
