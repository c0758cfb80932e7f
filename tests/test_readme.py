import functools
import re
import textwrap

import pytest
from support import ROOT, script

import nasbench as nb
from nasbench import errors
from nasbench.runs.settings import SAMPLERS
from nasbench.tasks import FORMS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.usefixtures("small_data", "brief_latency")
def test_the_example_prints_the_table_that_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nb, "search", functools.partial(nb.search, training={"epochs": 1}))
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    printed, shown = capsys.readouterr().out, blocks("text")[0]
    assert printed.splitlines()[0].split() == shown.splitlines()[0].split()  # the columns
    assert re.findall(r"\{.*?\} +\d+", printed) == re.findall(r"\{.*?\} +\d+", shown)  # plans and their MACs
    assert (tmp_path / "runs/readme/trials.jsonl").is_file()


def test_the_call_with_a_function_runs_as_it_is_written(tmp_path, monkeypatch):
    """With five plans instead of forty."""
    call = re.search(r"^ {4}run = nb\.search\(.*?evaluate=.*?\)$", README, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    names = {
        "nb": nb,
        "train_and_validate": lambda plan: {"accuracy": 0.8 + 0.01 * len(plan)},
        "costs": lambda plan: {"macs": 1e6 + len(str(plan))},
    }
    exec(textwrap.dedent(call.group()).replace("trials=40", "trials=5"), names)
    assert len(names["run"].trials()) == 5


def test_the_first_screen_is_short():
    lines = README.splitlines()
    assert lines.index("```python") < 20
    assert len(blocks("python")[0].splitlines()) <= 10
    assert next(number for number, line in enumerate(lines) if line.startswith("![")) < 45


def test_the_parts_work_alone(capsys):
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "coord_attention" in printed
    assert "exact: True" in printed


def test_the_tables_of_settings_are_fresh():
    update = script("update_settings")
    text = update.PAGE.read_text(encoding="utf-8")
    assert update.updated(text) == text, "run scripts/update_settings"
    assert "| `epochs` | 10 |" in text
    assert "| `trials` | `--trials` | 24 |" in text


def test_the_page_on_tasks_has_every_form():
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert [form for form in (*FORMS, "table:FILE") if f"| `{form}` |" not in text] == []


def test_the_page_on_exit_codes_has_every_code():
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    codes = {getattr(errors, name).exit_code for name in errors.__all__ if hasattr(getattr(errors, name), "exit_code")}
    assert [code for code in codes | {0, 1, 2} if f"| {code} | " not in text] == []


def test_the_page_on_searching_explains_every_sampler():
    text = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    assert [name for name in SAMPLERS if f"`{name}`" not in text] == []


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_the_two_commands_exist():
    for name in re.findall(r"scripts/(\w+)", README):
        assert (ROOT / "scripts" / name).is_file(), name
