"""Groups of items: trials and patients from columns or folders of a CSV file."""

from __future__ import annotations

import pytest

from nasbench.errors import DataError
from nasbench.tasks import create_task
from nasbench.tasks.groups import read_groups
from nasbench.training.pretexts import PretextTask
from tests.tasks.test_ts_reader import written


def file(tmp_path, *lines):
    path = tmp_path / "groups.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_in_any_order(tmp_path):
    found = read_groups(file(tmp_path, "patient,age,trial", "anna,30,1", "bob,40,1", "anna,30,2", "anna,30,1"), 4)
    assert found.levels == ("trial", "patient")
    # trial 1 of anna is not trial 1 of bob
    assert found.numbers.tolist() == [[0, 0], [1, 1], [2, 0], [0, 0]]
    assert found.summary() == "3 trials, 2 patients"


def test_one_column(tmp_path):
    found = read_groups(file(tmp_path, "patient", "anna", "bob"), 2)
    assert (found.levels, found.numbers.tolist()) == (("patient",), [[0], [1]])


def test_levels_of_folders(tmp_path):
    paths = ("path", "data/anna/1/a.csv", "data/anna/2/a.csv", r"data\bob\1\a.csv", "data/anna/1/b.csv")
    assert read_groups(file(tmp_path, *paths), 4).numbers.tolist() == [[0, 0], [1, 0], [2, 1], [0, 0]]
    one = read_groups(file(tmp_path, "path", "anna/a.csv", "bob/a.csv"), 2)
    assert (one.levels, one.numbers.tolist()) == (("patient",), [[0], [1]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["patient", "a"], r"has 1 rows, and the data has 2 items; give a row for each item"),
        (["who", "a", "b"], r"has the columns who; name the groups of an item trial and patient, or give its path"),
        (["trial,patient", "1,a", ",b"], r"groups\.csv:3: trial is empty"),
        (["trial,patient", "1,a", "2"], r"groups\.csv:3: patient is empty"),
        (["path", "a/x.csv", "y.csv"], "a path has no folder, so it names no patient"),
    ],
)
def test_files_that_do_not_fit(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_groups(file(tmp_path, *lines), 2)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read the groups in"):
        read_groups(tmp_path / "none.csv", 2)


def test_a_pretext_reads_the_groups_of_its_items(tmp_path):
    rows = [f"{i},2,{i % 3}:{-i},5,6:{'up' if i % 2 else 'down'}" for i in range(20)]
    path = written(tmp_path / "a.ts", rows=rows)
    groups = file(tmp_path, "trial,patient", *(f"{i},{i // 10}" for i in range(20)))
    data = create_task(f"series:{path}", groups=str(groups))
    assert data.notes[-1] == "the items come from 20 trials, 2 patients"
    assert data.describe() == {**create_task(f"series:{path}").describe(), "groups_sha256": data._groups_sha256}
    task = PretextTask(data, "comet")
    seen = []
    for x, targets in task.train_batches(4, seed=0, epoch=1):
        assert set(targets) == {"count", "groups"}
        for values, (trial, patient) in zip(x, targets["groups"].tolist(), strict=True):
            assert data.scaled[trial].equal(values)  # each item is a trial of its own here
            assert patient == trial // 10
            seen.append(trial)
    assert sorted(seen) == sorted(data.indices["train"].tolist())
    assert task.groups_of("val")[:, 0].tolist() == data.indices["val"].tolist()
    assert PretextTask(create_task(f"series:{path}"), "comet").groups_of("train").shape == (12, 0)
