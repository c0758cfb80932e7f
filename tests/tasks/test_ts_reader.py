"""Files in the `.ts` format: what is read, and one clear error for everything that is wrong."""

import numpy as np
import pytest

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.tasks import create_task, places
from nasbench.tasks.series_classification import read_items
from nasbench.tasks.ts_reader import read_ts

HEADER = {
    "problemName": "mine",
    "timeStamps": "false",
    "missing": "false",
    "univariate": "false",
    "dimensions": "2",
    "equalLength": "true",
    "seriesLength": "3",
    "classLabel": "true up down",
}
ROWS = ("1,2,3:4,5,6:up", "3,2,1:6,5,4:down", "1,2,3.5:4,5,6e0:up", "3,2,1:6,5,-4:down")


def written(path, rows=ROWS, data="@data", **header):
    """Write a file: line 1 is a comment, then the header without what is None, then the items."""
    header = {**HEADER, **header}
    lines = ["# a comment", *(f"@{key} {value}" for key, value in header.items() if value is not None), data, *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path):
    series = read_ts(written(tmp_path / "a.ts"))
    assert series.labels == ["up", "down", "up", "down"]
    assert series.classes == ("up", "down")
    assert series.lines == [11, 12, 13, 14]
    assert series.values[2].tolist() == [[1, 4], [2, 5], [3.5, 6]]
    assert series.missing == 0


def test_spellings_of_the_header(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text(
        "\ufeff% older comment\n@PROBLEMNAME a\n@timestamps FALSE\n\n@dimension 1\n@classlabel\ttrue 1 2\n"
        "@dimensions\t1\n@Data\n1,2:1\n\n# between\n3, ?, 5 : 2\n"
    )
    series = read_ts(path)
    assert [len(item) for item in series.values] == [2, 3]
    assert np.isnan(series.values[1][1, 0])
    assert series.lines == [9, 12]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seriesLength": "4"}, ":11: 3 steps, but @seriesLength is 4 in line 8; correct"),
        ({"seriesLength": "2", "equalLength": "false"}, ":11: 3 steps, but @seriesLength is 2"),
        ({"dimensions": "3"}, ":11: 2 series, but line 6 of the header says 3"),
        ({"univariate": "true"}, "2 series, but @univariate is true in line 5"),
        ({"univariate": "true", "dimensions": None}, ":10: 2 series, but line 5 of the header says 1"),
        ({"classLabel": "true up"}, ":12: class 'down' is not one of @classLabel in line 9"),
        ({"classLabel": "false"}, ":10: the header lists no classes; write @classLabel true"),
        ({"classLabel": "true up up"}, ":9: class up is listed twice"),
        ({"classLabel": "maybe up"}, ":9: @classlabel is 'maybe up'; write true or false"),
        ({"timeStamps": "true"}, ":3: the values have time stamps"),
        ({"equalLength": "yes"}, ":7: @equalLength is 'yes'; write true or false"),
        ({"dimensions": "two"}, ":6: @dimensions is 'two'; write a whole number"),
        ({"dimensions": "0"}, ":6: @dimensions is '0'"),
        ({"dimensions": "1" * 5000}, ":6: @dimensions is '1{40}'; write a whole number"),
        ({"data": "@data 1,2,3:4,5,6:up"}, ":10: '1,2,3:4,5,6:up' follows @data; begin the items in the next line"),
        ({"dimensions:": "2"}, ":10: @dimensions: is no key of the header; did you mean @dimensions"),
        ({"clasLabel": "true up down"}, ":10: @claslabel is no key of the header; did you mean @classLabel"),
        ({"Missing": "true"}, ":10: @missing has another value in line 4; leave out one"),
        ({"dimension": "3"}, ":10: @dimensions has another value in line 6"),
        ({"targetLabel": "true"}, "no class; only classification is supported"),
        ({"data": "@dat"}, ":10: @dat is no key of the header; did you mean @data?"),
        ({"data": "# no data"}, ":11: '1,2,3:4,5,6:up' comes before a line @data"),
        ({"rows": ()}, "has no items after @data"),
        ({"rows": (*ROWS[:2], "1,2,?:4,5,6:up")}, ":13: there is a \\?, but @missing is false in line 4"),
        (
            {"rows": (*ROWS[:2], "1,2:4,5:up"), "seriesLength": None},
            ":12: 2 steps, but the first item has 3, and @equal",
        ),
        ({"rows": (ROWS[0], "1,2,3:up"), "dimensions": None}, ":11: 1 series, but the first item has 2 \\(line 10\\)"),
        ({"rows": (ROWS[0], "1,2,3:1,2:up")}, ":12: series 1 has 3 steps, but series 2 has 2; give all"),
        (
            {"rows": (ROWS[0], "1,NaN,3:1,2,3:up")},
            ":12: value 2 of series 1 is 'NaN', not a finite number; write a mis",
        ),
        ({"rows": (ROWS[0], "1,2,3:1,-inf,3:up")}, ":12: value 2 of series 2 is '-inf', not a finite number; correct"),
        ({"rows": (ROWS[0], "1,1e999,3:1,2,3:up")}, "value 2 of series 1 is '1e999', not a finite number"),
        ({"rows": (ROWS[0], "1,two,3:1,2,3:up")}, "value 2 of series 1 is 'two', not a finite number"),
        ({"rows": (ROWS[0], "1,1_000,3:1,2,3:up")}, "value 2 of series 1 is '1_000'"),
        ({"rows": (ROWS[0], "1,,3:1,2,3:up")}, "value 2 of series 1 is ''"),
        ({"rows": (ROWS[0], "1 2 3 up")}, ":12: '1 2 3 up' has no colon"),
    ],
)
def test_a_header_that_lies_and_rows_that_are_wrong(tmp_path, change, words):
    with pytest.raises(DataError, match=words) as raised:
        read_ts(written(tmp_path / "a.ts", **change))
    assert str(tmp_path / "a.ts") in str(raised.value)
    assert ";" in str(raised.value)  # it says how to go on


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"\x80\x81", b"a\0b", b"@problemName a\n1,2:1\n", b"\n\n"])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "a.ts"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.ts.*give a \.ts file"):
        read_ts(path)


def test_two_files_must_fit_together(tmp_path):
    train = written(tmp_path / "train.ts")
    test = written(tmp_path / "test.ts", rows=(*ROWS, "1,2,3:4,5,6:left"), classLabel="true left up down")
    with pytest.raises(DataError, match=r"test\.ts:15: class 'left' has no item in .*train\.ts.*; add such"):
        read_items([train, test])
    test = written(tmp_path / "test.ts", rows=("1,2,3:up",), dimensions="1", univariate="true")
    with pytest.raises(DataError, match=r"test\.ts:11: 1 series, but .*train\.ts has 2"):
        read_items([train, test])
    with pytest.raises(DataError, match=r"all items are of class 'up'.*--learn ts2vec needs none"):
        read_items([written(tmp_path / "one.ts", rows=(ROWS[0], ROWS[2]))])
    alone = read_items([tmp_path / "one.ts"], labels=False)  # a pretext can learn them
    assert (alone.classes, alone.labels.tolist()) == ((), [0, 0])
    assert alone.read["classes"] == "none, because all items are of class up"
    copied = tmp_path / "copied.ts"
    copied.write_bytes(train.read_bytes())
    for same in (train, copied):
        with pytest.raises(DataError, match=r"train\.ts and .* are the same file, .*; give"):
            read_items([train, same])
    with pytest.raises(UnknownNameError, match="mean"):
        create_task(f"series:{train}", fill="mean")
    listed = read_items([written(tmp_path / "more.ts", classLabel="true up left down")])
    assert listed.read["classes"] == "2; left have no item and are left out"


def test_places(tmp_path):
    with pytest.raises(DataError, match="no file of series at"):
        places.find_data(f"series:{tmp_path / 'none.ts'}")
    with pytest.raises(InputError, match="one file or two"):
        places.find_data("series:a,b,c")
    with pytest.raises(InputError, match="no path"):
        create_task("series:")


def test_missing_values(tmp_path):
    rows = ("?,2,?:4,?,6:up", "3,?,1:6,5,4:down", *ROWS[2:])
    path = written(tmp_path / "a.ts", rows=rows, missing="true")
    with pytest.raises(DataError, match=r"a\.ts:11: value 1 of series 1 is missing \(\?\); .*--fill linear"):
        read_items([path])
    linear, forward = read_items([path], "linear"), read_items([path], "forward")
    assert linear.values[0].tolist() == [[2, 4], [2, 5], [2, 6]]
    assert forward.values[0].tolist() == [[2, 4], [2, 4], [2, 6]]
    assert linear.values[1][:, 0].tolist() == [3, 2, 1]
    assert forward.values[1][:, 0].tolist() == [3, 3, 1]
    assert linear.read["missing"] == "4 values in a.ts"
    assert "4 missing values are filled linearly" in linear.notes[0]
    with pytest.raises(DataError, match="all values of series 1 are missing"):
        read_items([written(path, rows=("?,?,?:4,5,6:up", *ROWS), missing="true")], "linear")
