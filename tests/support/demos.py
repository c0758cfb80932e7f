"""The searches of scripts/demo, read from the script."""

import re
import shlex

from nasbench import cli
from nasbench.errors import InputError
from nasbench.study import driver
from nasbench.study.problem import make_problem
from support import ROOT

SCRIPT = ROOT / "scripts" / "demo"


def problem_of(demo, monkeypatch, folder):
    """The problem that a demo's command would search. It is not trained."""
    (case,) = re.findall(rf"^    {demo}\)\n(.*?);;", SCRIPT.read_text(), re.DOTALL | re.MULTILINE)
    _, program, *words = shlex.split(case.replace("\\\n", ""))
    assert program == ".venv/bin/nasbench"
    problems = []

    def run_search(settings, origins, evaluate, *others, known):
        problems.append(make_problem(settings, evaluate))
        raise InputError("this is enough")

    monkeypatch.setattr(driver, "run_search", run_search)
    assert cli.main([*words[:-1], str(folder)]) == 4
    (problem,) = problems
    return problem
