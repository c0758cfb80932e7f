"""Tables fit a terminal of 80 columns, break no number, and are whole in a pipe."""

import pytest

import nasbench as nb
from nasbench.cli import console

TABLES = [
    ("modules",),
    ("spaces",),
    ("slots", "test_resnet"),
    ("suggest", "se"),
    ("runs", "."),
    ("report", "run"),
    ("compare", "run", "again"),
]


@pytest.fixture
def runs(nasbench):
    for out, seed in (("run", 0), ("again", 1)):
        nb.search(
            {"variants": ["se(reduction=4)", "eca"], "slots": ["stage1", "stage2"]}, backbone="test_resnet", trials=5,
            seeds=3, sampler="random", seed=seed, out=out, objectives={"accuracy": "maximize", "macs": "minimize"},
            evaluate=lambda plan, seed: {"accuracy": len(str(plan)) / 100 + seed / 999, "macs": 10**7 + len(str(plan))},
        )  # fmt: skip
    return nasbench


def test_tables_fit_80_columns(runs, monkeypatch):
    monkeypatch.setattr(console, "width", lambda: 80)
    monkeypatch.setattr("nasbench.report.build", lambda run: run.path)  # it takes seconds and prints nothing
    for command in TABLES:
        code, out, err = runs(*command)
        assert code == 0, err
        assert max(map(len, out.splitlines())) <= 80, command
        if command[0] == "report":
            assert {"trial", "accuracy", "macs", "low", "high", "verdict", "plan"} <= set(out.splitlines()[1].split())


def test_a_table_in_a_pipe_is_whole(runs):
    for command in TABLES:
        _, out, _ = runs(*command)
        rows = [line for line in out.splitlines() if not line.startswith("note")]
        assert all(line.strip() for line in rows)
    assert "difference_high" in runs("compare", "run", "again")[1]


def test_rows_that_are_too_wide_become_blocks(capsys, monkeypatch):
    monkeypatch.setattr(console, "width", lambda: 24)
    console.print_table(("accuracy", "difference", "plan"), [(0.5, 12345678, "stage1=se(reduction=4)")])
    assert capsys.readouterr().out.splitlines() == [
        "accuracy    0.5",
        "difference  12,345,678",
        "plan        stage1=se(re",
        "            duction=4)",
    ]
    console.print_table(("name", "p"), [("a text of words that are broken", 0.25)], optional=("p",))
    assert "0.25" in capsys.readouterr().out


def test_a_row_that_ends_early_has_empty_cells(capsys):
    for columns in (80, 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(console, "width", lambda columns=columns: columns)
            console.print_table(("name", "value", "plan"), [("long text of words",), ("b", float("nan"), "se")])
    assert "nan" not in capsys.readouterr().out
