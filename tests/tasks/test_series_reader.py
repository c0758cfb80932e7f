"""Reading series: every dialect gives the same values, and what cannot be read is named with its line and column."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import tempfile
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.tasks import create_task
from nasbench.tasks.series_reader import read_series
from nasbench.tasks.series_steps import Step, find_step

SHORT = {"lookback": 5, "horizon": 3}


def text(tmp_path, content, name="a.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    return path


def table(dates, *columns, names="date,a", sep=","):
    rows = zip(dates, *columns, strict=True)
    return "\n".join([names.replace(",", sep), *(sep.join(map(str, row)) for row in rows)]) + "\n"


def days(count, start="2020-01-01", freq="D"):
    return pd.date_range(start, periods=count, freq=freq)


SEPARATORS = {",": ".", ";": ".,", "\t": ".,", "|": ".,"}
FORMATS = (
    "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%y %H:%M",
    "%d %b %Y %H:%M", "%m/%d/%Y %I:%M %p", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%MZ", "%Y%m%d%H%M", "%Y%m%dT%H%M",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")


@given(
    pair=st.sampled_from([(sep, mark) for sep, marks in SEPARATORS.items() for mark in marks]),
    encoding=st.sampled_from(ENCODINGS),
    form=st.sampled_from((*FORMATS, "epoch s", "epoch ms", "two columns")),
    header=st.booleans(),
    index=st.booleans(),
    trailing=st.booleans(),
    seed=st.integers(0, 1000),
    rows=st.integers(40, 80),
)
@settings(max_examples=80, deadline=None)
def test_every_dialect_gives_the_same_values(pair, encoding, form, header, index, trailing, seed, rows):
    sep, mark = pair
    assume(header or not index)  # without a name, the numbers of rows cannot be told from a series
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 2)).round(3) * rng.choice([1, 1000])
    # more than twelve days, so that every order of day and month but one is impossible
    dates = pd.date_range("2021-03-03", periods=rows, freq="8h")
    match form:
        case "epoch s":
            written = [[str(int(d.timestamp()))] for d in dates]
        case "epoch ms":
            written = [[str(int(d.timestamp() * 1000))] for d in dates]
        case "two columns":
            written = [[f"{d:%d/%m/%Y}", f"{d:%H:%M}"] for d in dates]
        case _:
            written = [[d.strftime(form)] for d in dates]
    names = ["Date", "Time", "größe", "b"] if form == "two columns" else ["Date", "größe", "b"]
    lines = [names] if header else []
    for date, row in zip(written, values, strict=True):
        lines.append([*date, *(f"{v:.3f}".replace(".", mark) for v in row)])
    if index:
        lines = [[str(number - 1) if number else "", *line] for number, line in enumerate(lines)]
    end = sep if trailing else ""
    content = "\n".join(sep.join(line) + end for line in lines) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(content.encode(encoding))
        read = read_series(path)
    np.testing.assert_allclose(read.frame.to_numpy(), values, rtol=1e-12)
    assert list(read.frame.index.tz_localize(None)) == list(dates)
    if header:
        assert list(read.frame.columns) == ["größe", "b"]
    assert 0 < len(read.read) <= 5


def test_blanks_separate_columns(tmp_path):
    content = "date        time   a     b\n" + "".join(
        f"{d:%Y-%m-%d}  {d:%H:%M}  {i}.5  {-i}\n" for i, d in enumerate(days(40, freq="h"))
    )
    read = read_series(text(tmp_path, content, "a.txt"))
    assert read.frame["a"].tolist() == [i + 0.5 for i in range(40)]
    assert "separator blanks" in read.read["file"]
    assert read.read["dates"].startswith("date and time, 2020-01-01 00:00:00 to 2020-01-02 15:00:00")


def test_decimal_commas_in_quotes(tmp_path):
    content = 'date,a\n2020-01-01,"1,5"\n2020-01-02,"2,25"\n2020-01-03,"3,0"\n'
    assert read_series(text(tmp_path, content)).frame["a"].tolist() == [1.5, 2.25, 3.0]


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")
def test_a_spreadsheet(tmp_path):
    frame = pd.DataFrame({"date": days(30, freq="h"), "a": np.arange(30) / 3, "b": range(30)})
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    read = read_series(tmp_path / "a.xlsx")
    np.testing.assert_allclose(read.frame.to_numpy(), frame[["a", "b"]].to_numpy(), rtol=1e-15)
    assert list(read.frame.index) == list(frame["date"])
    assert read.read["file"] == "a.xlsx: spreadsheet, header row, 30 rows"
    frame["b"] = frame["b"].astype(object)
    frame.loc[4, "b"] = "12%"
    frame.to_excel(tmp_path / "b.xlsx", index=False)
    with pytest.raises(DataError, match=r"line 6, column 'b': '12%' is not a number"):
        read_series(tmp_path / "b.xlsx")


def test_a_spreadsheet_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"needs openpyxl: install nasbench\[xlsx\], or save it as CSV"):
        read_series(text(tmp_path, "PK", "a.xlsx"))


class TestScales:  # D1
    def task(self, values):
        from nasbench.tasks import ForecastingTask

        frame = pd.DataFrame({"a": values, "b": np.arange(len(values)) % 10}, index=days(len(values)))
        cut = len(values) * 7 // 10, len(values) * 8 // 10
        spans = {"train": (0, cut[0]), "val": cut, "test": (cut[1], len(values))}
        return ForecastingTask("t", frame, spans, **SHORT)

    def test_constant_but_for_rounding(self):
        values = np.full(600, 21.3)
        assert values[:420].std() > 0  # by rounding alone
        values[420:] = 22.1
        task = self.task(values)
        assert task.std[0] == 1
        assert float(task.scaled[500, 0]) == pytest.approx(0.8)

    @given(level=st.floats(-1e12, 1e12), spread=st.floats(1e-12, 1e3), rows=st.integers(50, 400))
    @settings(max_examples=50, deadline=None)
    def test_the_bound_is_that_of_scikit_learn(self, level, spread, rows):
        from sklearn.preprocessing import StandardScaler

        from nasbench.tasks.forecasting import _is_constant

        data = np.stack([level + spread * np.sin(np.arange(rows)), np.full(rows, level)], axis=1)
        scaler = StandardScaler().fit(data)
        constant = _is_constant(rows, scaler.mean_, np.sqrt(scaler.var_))
        np.testing.assert_array_equal(np.where(constant, 1, np.sqrt(scaler.var_)), scaler.scale_)

    def test_an_exact_sine_has_no_mase(self):
        frame = pd.DataFrame({"a": np.sin(2 * np.pi * np.arange(700) / 7)}, index=days(700))
        from nasbench.tasks import ForecastingTask

        task = ForecastingTask("t", frame, {"train": (0, 490), "val": (490, 560), "test": (560, 700)}, **SHORT)
        assert "mase" not in task.metrics
        assert task.notes == (
            "t: mase is not defined, because the naive forecast, the value one season earlier, has no error on the "
            "training span",
        )

    @pytest.mark.parametrize("factor", [1e300, 1e200])
    def test_too_large_for_a_scale(self, factor):
        with pytest.raises(DataError, match=r"'a' are too large, up to .*standard deviation is not finite"):
            self.task(np.arange(600) % 10 * factor)

    @pytest.mark.parametrize("factor", [1e-160, 1e-200, 1e-320])
    @pytest.mark.parametrize("level", [0, 100])
    def test_too_small_for_a_scale(self, factor, level):
        with pytest.raises(DataError, match=r"'a' are too small, up to .*squares .* smaller unit"):
            self.task((np.arange(600) % 10 + level) * factor)

    def test_small_values(self):
        task = self.task(np.arange(600) % 10 * 1e-140)
        assert task.std[0] == pytest.approx(np.std(np.arange(420) % 10) * 1e-140)
        assert self.task(np.full(600, 1e-200)).std[0] == 1  # a constant series needs no scale

    def test_too_large_for_single_precision(self):
        values = np.arange(600) % 10 * 1.0
        values[500] = 1e30
        with pytest.raises(DataError, match=r"value 1e\+30 of 'a' at 2021-05-15 .* single precision cannot hold"):
            self.task(values)


class TestOrder:  # D2
    @pytest.mark.parametrize("form", ["%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d/%m/%y"])
    def test_months(self, tmp_path, form):
        dates = days(120, "1990-01-01", "MS")
        values = np.tile(np.arange(12.0), 10)
        path = text(tmp_path, table(dates.strftime(form), values))
        read = read_series(path)
        assert list(read.frame.index) == list(dates)
        assert "day before month (the rows are evenly spaced only in this order)" in read.read["dates"]
        assert read.read["step"] == "1 month, season of 12 rows, no gaps"
        assert create_task(f"csv:{path}", **SHORT).season == 12

    @given(month=st.integers(1, 12), rows=st.integers(2, 400), step=st.sampled_from(["D", "h", "MS", "W", "6h"]))
    @settings(max_examples=20, deadline=None)
    def test_the_right_reading_or_ambiguous(self, month, rows, step):
        dates = pd.date_range(f"2021-{month:02}-01", periods=rows, freq=step)
        for order, form in (("dayfirst", "%d/%m/%Y %H:%M"), ("monthfirst", "%m/%d/%Y %H:%M")):
            with tempfile.TemporaryDirectory() as folder:
                path = text(Path(folder), table(dates.strftime(form), range(rows)))
                with contextlib.suppress(DataError):
                    assert list(read_series(path).frame.index) == list(dates)
                assert list(read_series(path, dates=order).frame.index) == list(dates)

    def test_ambiguous(self, tmp_path):
        path = text(tmp_path, table(days(12, "1990-01-01", "MS").strftime("%d/%m/%Y"), range(12)))
        with pytest.raises(
            DataError, match=r"ambiguous: line 3 can be 1 February 1990 or 2 January 1990.*--dates dayfirst or --dates"
        ):
            read_series(path)
        assert find_step(read_series(path, dates="dayfirst").frame.index) == Step("month", 1)
        assert str(find_step(read_series(path, dates="monthfirst").frame.index)) == "1 day"
        with pytest.raises(InputError, match="dates is 'first'; allowed: dayfirst, monthfirst"):
            read_series(path, dates="first")

    @pytest.mark.parametrize("freq", ["D", "h", "MS"])
    @pytest.mark.parametrize("start", ["2001-01-01", "2020-01-01"])
    def test_a_year_of_two_digits_first(self, tmp_path, freq, start):
        dates = days(100, start, freq)
        read = read_series(text(tmp_path, table(dates.strftime("%y-%m-%d %H:%M"), range(100))))
        assert list(read.frame.index) == list(dates)
        assert "year before month (the rows are evenly spaced only in this order)" in read.read["dates"]

    def test_a_month_with_the_year_first_is_ambiguous(self, tmp_path):
        path = text(tmp_path, table(days(20, "2020-01-01").strftime("%y-%m-%d"), range(20)))
        with pytest.raises(
            DataError, match=r"line 2 can be 20 January 2001 or 1 January 2020; write the years with four digits, or"
        ):
            read_series(path)
        assert find_step(read_series(path, dates="dayfirst").frame.index) == Step("month", 12)
        one = text(tmp_path, "date,a\n01-01-01,5\n")
        assert list(read_series(one).frame.index) == [pd.Timestamp("2001-01-01")]

    def test_an_impossible_order(self, tmp_path):
        path = text(tmp_path, table(days(30).strftime("%d/%m/%Y"), range(30)))
        with pytest.raises(DataError, match=r"cannot be read with --dates monthfirst.*use --dates dayfirst"):
            read_series(path, dates="monthfirst")


class TestZones:  # D3
    def test_summer_time(self, tmp_path):
        dates = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
        written = [d.isoformat() for d in dates]
        assert {w[-6:] for w in written} == {"+01:00", "+02:00"}
        read = read_series(text(tmp_path, table(written, range(60))))
        assert list(read.frame.index) == list(dates.tz_convert("UTC"))
        assert read.read["dates"].endswith("converted to UTC from +01:00 and +02:00")

    @pytest.mark.parametrize(("zone", "written"), [("UTC", "Z"), ("UTC", "+00:00"), ("Etc/GMT-1", "+0100")])
    def test_one_offset(self, tmp_path, zone, written):
        dates = pd.date_range("2024-03-30", periods=60, freq="h", tz=zone)
        path = text(tmp_path, table([d.strftime("%Y-%m-%d %H:%M:%S") + written for d in dates], range(60)))
        assert list(read_series(path).frame.index) == list(dates)


class TestColumns:  # D4, D7
    def test_the_index_of_pandas_is_left_out(self, tmp_path):
        frame = pd.DataFrame({"date": days(20), "a": np.arange(20.0)})
        frame.to_csv(tmp_path / "a.csv")
        read = read_series(tmp_path / "a.csv")
        assert list(read.frame.columns) == ["a"]
        assert read.read["left out"] == "Unnamed: 0 (row numbers)"

    @pytest.mark.parametrize("name", ["id", "Index", "row", "No.", "nr", "#"])
    @pytest.mark.parametrize("start", [0, 1])
    def test_a_named_index_is_left_out(self, tmp_path, name, start):
        frame = pd.DataFrame({"date": days(20), "a": np.arange(20.0)}, index=range(start, start + 20))
        frame.to_csv(tmp_path / "a.csv", index_label=name)
        read = read_series(tmp_path / "a.csv")
        assert list(read.frame.columns) == ["a"]
        assert read.read["left out"] == f"{name} (row numbers)"
        assert list(read_series(tmp_path / "a.csv", columns=[name]).frame.columns) == [name]

    @pytest.mark.parametrize(("name", "start", "step"), [("id", 0, 2), ("id", 2, 1), ("sales", 0, 1)])
    def test_a_series_that_is_no_index(self, tmp_path, name, start, step):
        counts = range(start, start + 20 * step, step)
        content = table(days(20).strftime("%Y-%m-%d"), counts, range(20), names=f"date,{name},b")
        assert list(read_series(text(tmp_path, content)).frame.columns) == [name, "b"]

    def test_an_unnamed_index_of_dates_is_the_dates(self, tmp_path):
        pd.DataFrame({"a": np.arange(20.0)}, index=days(20)).to_csv(tmp_path / "a.csv")
        assert read_series(tmp_path / "a.csv").read["dates"].startswith("Unnamed: 0, 2020-01-01")

    @pytest.mark.parametrize("header", ["date,a,", "date,a"])
    def test_a_trailing_comma(self, tmp_path, header):
        content = header + "\n" + "".join(f"{d:%Y-%m-%d},{i},\n" for i, d in enumerate(days(20)))
        read = read_series(text(tmp_path, content))
        assert read.frame["a"].tolist() == list(range(20))
        assert read.read["left out"] == "Unnamed: 2 (empty)"

    def test_a_header_without_the_name_of_the_index(self, tmp_path):
        content = "date,a\n" + "".join(f"{i},{d:%Y-%m-%d},{i}.5\n" for i, d in enumerate(days(20)))
        read = read_series(text(tmp_path, content))
        assert read.frame["a"].tolist() == [i + 0.5 for i in range(20)]

    @pytest.mark.parametrize("cell", ["10,04", "1,900", "1,070.27", "-1,5", "1.5,2"])
    def test_a_comma_that_cuts_numbers(self, tmp_path, cell):
        path = text(tmp_path, table(days(20).strftime("%Y-%m-%d"), [cell] * 20))
        with pytest.raises(
            DataError,
            match=r"header has 2 names, and the rows have 3 cells \(the first is '2020-01-01,.*quote the",
        ):
            read_series(path)
        named = text(tmp_path, path.read_text().replace("date,a", "date,a,b"))
        assert len(read_series(named).frame.columns) == 2

    def test_a_comma_that_cuts_numbers_beside_others(self, tmp_path):
        content = table(days(20).strftime("%Y-%m-%d"), ["2.5"] * 20, ["10,04"] * 20, names="Tag,a,b")
        with pytest.raises(DataError, match="quote the numbers"):
            read_series(text(tmp_path, content))

    @pytest.mark.parametrize("first", [0, 1, "2020-01-01", "r"])
    def test_an_index_of_r(self, tmp_path, first):
        match first:
            case int():
                written, names = [f"{first + i},{d:%Y-%m-%d}" for i, d in enumerate(days(20))], "date,a,b"
            case "r":
                written, names = [f"r{i},{d:%Y-%m-%d}" for i, d in enumerate(days(20))], "date,a,b"
            case _:
                written, names = days(20).strftime("%Y-%m-%d"), "a,b"
        read = read_series(text(tmp_path, table(written, [f"{i}.5" for i in range(20)], range(20), names=names)))
        assert list(read.frame.columns) == ["a", "b"]
        assert list(read.frame.index) == list(days(20))

    def test_dates_and_times_under_one_name(self, tmp_path):
        dates = days(40, freq="h")
        content = table(dates.strftime("%Y-%m-%d %H:%M"), range(40), names="date a", sep=" ")
        assert list(read_series(text(tmp_path, content, "a.txt")).frame.index) == list(dates)

    def test_words_are_no_dates(self, tmp_path):
        content = table(["may"] * 20, days(20).strftime("%Y-%m-%d"), range(20), names="name,date,a")
        read = read_series(text(tmp_path, content))
        assert list(read.frame.index) == list(days(20))
        assert read.read["left out"] == "name (not numeric)"

    def test_no_header(self, tmp_path):
        content = "".join(f"{d:%Y-%m-%d},{i},{i * 2}\n" for i, d in enumerate(days(20)))
        read = read_series(text(tmp_path, content))
        assert len(read.frame) == 20
        assert list(read.frame.columns) == ["column 2", "column 3"]
        assert "no header line" in read.read["file"]

    def test_chosen_series(self, tmp_path):
        content = table(days(30).strftime("%Y-%m-%d"), ["-"] * 30, range(30), range(30), names="date,a,b,c")
        path = text(tmp_path, content)
        assert list(read_series(path, columns=("c", "b")).frame.columns) == ["b", "c"]
        with pytest.raises(UnknownNameError, match="no series named 'd'; "):
            read_series(path, columns=("b", "d"))
        with pytest.raises(DataError, match=r"line 2, column 'a': '-' is not a number"):
            read_series(path, columns=("a",))


class TestCells:  # D5
    @pytest.mark.parametrize(
        ("cell", "remedy"),
        [
            ("-", "if it is a missing value, fill it with --fill linear or --fill forward"),
            ("1.2x", "correct it, or leave it empty and give --fill linear"),
            ('"5,123.45"', "write it without thousands separators and with the decimal mark '.'"),
            ("12%", "write it without the per cent sign"),
        ],
    )
    def test_a_cell_that_is_not_a_number(self, tmp_path, cell, remedy):
        values = [f"{i}.25" for i in range(40)]
        values[17] = cell
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), values, range(40), names="date,a,b"))
        with pytest.raises(DataError) as caught:
            create_task(f"csv:{path}", **SHORT)
        shown = cell.strip('"')
        expected = (
            f"line 19, column 'a': {shown!r} is not a number; {remedy}, or name the columns to read with --series"
        )
        assert expected in str(caught.value)
        assert create_task(f"csv:{path}", series=("b",), **SHORT).series == ["b"]

    def test_a_mark_of_a_missing_value_is_filled(self, tmp_path):
        values = [*map(str, range(40))]
        values[17] = "-"
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), values))
        assert create_task(f"csv:{path}", fill="linear", **SHORT).values[:, 0].tolist() == list(range(40))

    @pytest.mark.parametrize("cell", ["5,123.45", "12%", "3.5kg"])
    def test_a_whole_column_that_people_read_as_numbers(self, tmp_path, cell):
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), [cell] * 40, range(40), names="date;a;b", sep=";"))
        with pytest.raises(DataError, match=r"line 2, column 'a': '.*' is not a number"):
            read_series(path)

    def test_the_line_counts_blank_lines(self, tmp_path):
        path = text(tmp_path, "date,a\n\n2020-01-01,1\n2020-01-02,2\n\n2020-01-03,3\n2020-01-04,x1\n")
        with pytest.raises(DataError, match="line 7, column 'a': 'x1' is not a number"):
            read_series(path)

    def test_a_cell_that_is_not_a_date(self, tmp_path):
        written = [*days(40).strftime("%Y-%m-%d")]
        written[11] = "total"
        with pytest.raises(DataError, match="line 13, column 'date': 'total' is not a date"):
            read_series(text(tmp_path, table(written, range(40))))

    @pytest.mark.parametrize("first", [10**24, 2**53])
    def test_integers_that_double_precision_cannot_tell_apart(self, tmp_path, first):
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), range(first, first + 40)))
        with pytest.raises(DataError, match=rf"line 3, column 'a': '{first + 1}' is the same as another number"):
            read_series(path)

    @pytest.mark.parametrize(
        "before",
        ["sep=;", "# station 5\n# unit C", "Station 5", "Measured by\nme\n\nat;home;5;7"],
    )
    def test_lines_before_the_table(self, tmp_path, before):
        content = table(days(40).strftime("%Y-%m-%d"), range(40), range(40), names="date;a;b", sep=";")
        with pytest.raises(DataError, match=r"begins only after \d lines? of other text \(the first is '[^']*'\)"):
            read_series(text(tmp_path, before + "\n" + content))

    def test_few_columns_are_listed(self, tmp_path):
        names = ",".join(f"c{i}" for i in range(500))
        with pytest.raises(DataError, match=r"columns: c0, c1, .*, c9 and 490 more"):
            read_series(text(tmp_path, "\n".join([names, *[",".join("5" * 500)] * 20])))

    def test_integers_of_25_digits(self, tmp_path):
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), [10**24 * i for i in range(1, 41)]))
        np.testing.assert_allclose(read_series(path).frame["a"], np.arange(1, 41) * 1e24, rtol=1e-15)

    @pytest.mark.parametrize("cell", ["١٢", "１２", "1２", "²"])
    def test_digits_of_other_scripts(self, tmp_path, cell):
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), [*range(30), cell, *range(9)]))
        with pytest.raises(DataError, match=f"line 32, column 'a': '{cell}' is not a number"):
            read_series(path)
        written = [*days(40).strftime("%Y-%m-%d")]
        written[11] = f"2020-01-{cell}"
        with pytest.raises(DataError, match=f"line 13, column 'date': '2020-01-{cell}' is not a date"):
            read_series(text(tmp_path, table(written, range(40))))

    @pytest.mark.parametrize("cell", ["", "NA", "nan"])
    def test_missing_cells_are_named(self, tmp_path, cell):
        values = [*range(40)]
        values[17] = values[20] = cell
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), range(40), values, names="date,a,b"))
        with pytest.raises(
            DataError, match=rf"^2 values are missing: b \(2\); .* line 19, column 'b', .*'{cell}'; .*--fill linear"
        ):
            create_task(f"csv:{path}", **SHORT)
        assert create_task(f"csv:{path}", fill="linear", **SHORT).values[:, 1].tolist() == [*range(40)]

    def test_a_short_row_is_named(self, tmp_path):
        lines = table(days(40).strftime("%Y-%m-%d"), range(40), range(40), names="date,a,b").splitlines()
        lines[9] = lines[9].rpartition(",")[0]
        with pytest.raises(DataError, match=r"^1 value is missing.* line 10, column 'b', which is ''"):
            create_task(f"csv:{text(tmp_path, chr(10).join(lines))}", **SHORT)

    def test_missing_cells_after_the_splits_of_ett(self, tmp_path):
        values = [*(np.arange(14400) % 24 + 0.5), ""]
        path = text(tmp_path, table(days(14401, freq="h").strftime("%Y-%m-%d %H:%M"), values))
        assert len(create_task(f"ett:{path}").values) == 14400

    @pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400"])
    @pytest.mark.parametrize("fill", [None, "linear"])
    def test_infinite_cells(self, tmp_path, cell, fill):
        values = [*range(40)]
        values[17] = cell
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), values))
        with pytest.raises(DataError, match=f"line 19, column 'a': '{cell}' is not a finite number"):
            read_series(path, fill=fill)


class TestMarks:
    """Thousands separators are never read as decimal marks."""

    @pytest.mark.parametrize(
        ("sep", "cells", "line"),
        [
            (",", ['"999"', '"1,000"'], 3),
            (",", ["999", '"1,000"'], 3),
            (",", ['"10,702"', '"10,738"'], 2),
            (";", ["999", "1.000"], 3),
            (";", ["10,702", "10,738"], 2),
            (";", ["10.702", "10.738"], 2),
            ("\t", ["-10.702", ""], 2),
            (",", ["999", "1.000"], 3),
        ],
    )
    def test_ambiguous(self, tmp_path, sep, cells, line):
        path = text(tmp_path, table(days(40).strftime("%Y-%m-%d"), cells * 20, range(40), names="date,a,b", sep=sep))
        cell = cells[line - 2].strip('"')
        mark = "," if "," in cell else "."
        with pytest.raises(DataError) as caught:
            read_series(path)
        assert f"line {line}, column 'a': {cell!r} is ambiguous: {mark!r} can separate thousands" in str(caught.value)
        assert f"write {cell.replace(mark, '')} without thousands separators, or {cell}0 if" in str(caught.value)
        assert list(read_series(path, columns=["b"]).frame["b"]) == list(range(40))

    @pytest.mark.parametrize("sep", [",", ";"])
    @pytest.mark.parametrize("mark", [",", "."])
    @pytest.mark.parametrize("cells", [["0.125", "1.250"], ["1.25", "1.125"], ["1234.125", "1.125"], ["1.7020", "2"]])
    def test_decimals(self, tmp_path, sep, mark, cells):
        written = [f'"{cell}"' if mark == sep else cell for cell in (c.replace(".", mark) for c in cells * 20)]
        read = read_series(text(tmp_path, table(days(40).strftime("%Y-%m-%d"), written, sep=sep)))
        assert list(read.frame["a"]) == [float(cell) for cell in cells * 20]

    def test_one_column_shows_the_mark_of_all(self, tmp_path):
        content = table(days(40).strftime("%Y-%m-%d"), ["1,125"] * 40, ["0,5"] * 40, names="date;a;b", sep=";")
        assert list(read_series(text(tmp_path, content)).frame["a"]) == [1.125] * 40

    def test_three_decimals_in_every_cell_of_a_comma_file(self, tmp_path):
        content = table(days(40).strftime("%Y-%m-%d"), [f"{i + 1}.000" for i in range(40)])
        assert list(read_series(text(tmp_path, content)).frame["a"]) == list(range(1, 41))


class TestSteps:  # D6, D7
    def test_missing_rows(self, tmp_path):
        rng = np.random.default_rng(0)
        kept = np.sort(rng.choice(np.arange(1, 999), 598, replace=False))
        kept = np.concatenate([[0], kept, [999]])
        dates = days(1000, freq="h")
        path = text(tmp_path, table(dates[kept].strftime("%Y-%m-%d %H:%M"), kept))
        first = int(np.flatnonzero(np.diff(kept) > 1)[0])
        with pytest.raises(DataError) as caught:
            create_task(f"csv:{path}", **SHORT)
        assert (
            f"line {first + 3} ({dates[kept[first + 1]]}) does not follow {dates[kept[first]]} by 1 hour: 400 rows"
            in (str(caught.value))
        )
        assert "--fill linear" in str(caught.value)
        task = create_task(f"csv:{path}", fill="linear", **SHORT)
        assert list(task.dates) == list(dates)
        inside = [a for _, a in task.spans.values()]
        wrong = np.flatnonzero(np.abs(task.values[:, 0] - np.arange(1000)) > 1e-9)
        assert all(any(end - 10 <= row < end for end in inside) for row in wrong)  # a span sees no later value
        assert task.read["step"] == "1 hour, season of 24 rows, 400 rows missing, added"

    def test_missing_rows_of_ett(self, tmp_path):
        dates = days(14400 + 100, freq="h").delete(np.arange(5000, 5100))
        path = text(tmp_path, table(dates.strftime("%Y-%m-%d %H:%M"), np.arange(14400) % 24))
        with pytest.raises(DataError, match=r"line 5002 .* does not follow .* by 1 hour: 100 rows missing there"):
            create_task(f"ett:{path}")

    @pytest.mark.parametrize("fill", [None, "linear"])
    @pytest.mark.parametrize("year", [2262, 2900])
    def test_a_jump_in_time(self, tmp_path, year, fill):
        written = [*days(39).strftime("%Y-%m-%d"), f"{year}-01-01"]
        path = text(tmp_path, table(written, range(40)))
        with pytest.raises(DataError, match=rf"largest of its gaps is from 2020-02-08 .* to {year}-01-01 .*line 41"):
            create_task(f"csv:{path}", fill=fill, **SHORT)

    def test_a_clock_that_changes(self, tmp_path):
        local = pd.date_range("2024-03-29", periods=60, freq="h", tz="Europe/Berlin").strftime("%Y-%m-%d %H:%M")
        with pytest.raises(
            DataError, match=r"line 52 .* 1 row missing there.*summer time.* in UTC or with their offset"
        ):
            read_series(text(tmp_path, table(local, range(60))))
        local = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin").strftime("%Y-%m-%d %H:%M")
        with pytest.raises(DataError, match=r"line 29 .* the same date.*summer time.* in UTC or with their offset"):
            read_series(text(tmp_path, table(local, range(60))))

    def test_a_row_between_two_steps(self, tmp_path):
        written = [*days(40, freq="h").strftime("%Y-%m-%d %H:%M")]
        written[5] = "2020-01-01 05:07"
        with pytest.raises(DataError, match=r"most rows are 1 hour apart, but line 7 \(2020-01-01 05:07:00\)"):
            read_series(text(tmp_path, table(written, range(40))))

    def test_repeated_and_earlier_rows(self, tmp_path):
        written = [*days(40).strftime("%Y-%m-%d")]
        written[7] = written[6]
        with pytest.raises(DataError, match=r"line 9 \(2020-01-07 00:00:00\) has the same date as line 8 \(2020-01-07"):
            read_series(text(tmp_path, table(written, range(40))), fill="linear")
        written[7] = "2020-01-02"
        with pytest.raises(
            DataError, match=r"line 9 \(2020-01-02 00:00:00\) has an earlier date than line 8 \(2020-01-07"
        ):
            read_series(text(tmp_path, table(written, range(40))))

    def test_business_days(self, tmp_path):
        dates = days(60, freq="B")
        path = text(tmp_path, table(dates.strftime("%Y-%m-%d"), range(60)))
        assert create_task(f"csv:{path}", **SHORT).season == 5
        less = dates.delete(20)
        path = text(tmp_path, table(less.strftime("%Y-%m-%d"), range(59)), "b.csv")
        with pytest.raises(DataError, match=r"does not follow .* by 1 business day: 1 row missing"):
            read_series(path)
        assert list(read_series(path, fill="forward").frame.index) == list(dates)

    @given(
        freq=st.sampled_from(["s", "7min", "h", "D", "3D", "W", "28D", "B", "MS", "ME", "QS", "YE", "2MS"]),
        rows=st.integers(12, 80),
        start=st.dates(min_value=pd.Timestamp("1900-01-01").date(), max_value=pd.Timestamp("2090-01-01").date()),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=50, deadline=None)
    def test_the_grid_has_the_missing_rows(self, freq, rows, start, seed):
        dates = pd.date_range(start, periods=rows, freq=freq)
        step = find_step(dates)
        assert step is not None
        assert list(step.grid(dates)) == list(dates)
        drop = np.random.default_rng(seed).choice(np.arange(1, rows - 1), rows // 10, replace=False)
        less = dates.delete(drop)
        step = find_step(less)
        assert step is not None
        assert list(step.grid(less)) == list(dates)
        assert step.positions(less)[-1] == rows - 1


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zip"])
def test_compressed(tmp_path, name):
    pd.DataFrame({"a": range(20)}, index=days(20)).to_csv(tmp_path / name, index_label="date")
    assert read_series(tmp_path / name).frame["a"].tolist() == list(range(20))


def test_damaged_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"a.csv.zip cannot be read: the zip contains 0 files"):
        read_series(tmp_path / "a.csv.zip")
    whole = gzip.compress(table(days(400).strftime("%Y-%m-%d"), range(400)).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[:200] + b"\xff" * 200 + whole[400:])
    with pytest.raises(DataError, match=r"a.csv.gz cannot be read"):
        read_series(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("at", [2, 20])
def test_a_row_that_is_too_long_is_refused(tmp_path, at):
    lines = table(days(40).strftime("%Y-%m-%d"), range(40)).splitlines()
    lines[at] += ",7"
    with pytest.raises(DataError, match="cannot be read as a CSV"):
        read_series(text(tmp_path, "\n".join(lines)))


def test_what_is_not_a_table(tmp_path):
    for content in (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", b"\x1f\x8b\x08", bytes(range(256)) * 20, b"\n\n", b"a"):
        for name in ("a.csv", "a.csv.gz", "a.csv.zip"):
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(DataError):
                read_series(path)


@given(content=st.text(alphabet='0123456789-/:.,;T \tabcZ+\n"', max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = text(Path(folder), content)
        with contextlib.suppress(InputError):
            read = read_series(path)
            assert read.frame.index.is_monotonic_increasing
            assert all("\n" not in fact for fact in read.read.values())


def test_summaries_have_five_lines_at_most(tmp_path):
    for sep, header in product(",;", (True, False)):
        content = table(days(30).strftime("%Y-%m-%d"), range(30), ["x"] * 30, names="date,a,b", sep=sep)
        read = read_series(text(tmp_path, content if header else content.partition("\n")[2]))
        assert list(read.read) == ["file", "dates", "step", "series", "left out"]
