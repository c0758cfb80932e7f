"""Every command has an example in its --help, and every example runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer.main

from nasbench import cli

pytestmark = pytest.mark.usefixtures("small_data", "brief_latency")

SMALL = """
slots: [stage1]
compositions: [none, a]
variants: [se, eca]
"""


def examples():
    group = typer.main.get_command(cli.app)
    return {
        name: re.findall(r"Example: (nasbench .*)", command.help or "", re.MULTILINE)
        for name, command in group.commands.items()
    }


EXAMPLES = examples()


def test_every_command_has_one():
    assert [name for name, lines in EXAMPLES.items() if not lines] == []


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, small_data, brief_latency):
    """A project with the run that the examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["init", "."]) == 0
        Path("small.yaml").write_text(SMALL)
        (line,) = EXAMPLES["search"]
        assert run(line) in (0, 1)
        for name in ("other", "demo"):
            shutil.copytree("runs/try", f"runs/{name}")
        yield folder


def run(line):
    return cli.main(shlex.split(line)[1:])


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "search"])
def test_an_example_runs(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    for line in EXAMPLES[name]:
        assert run(line) in (0, 1) if name == "doctor" else run(line) == 0, line
