"""Which names a user's file defines, by its source alone."""

import pytest

from nasbench.errors import PluginError, UnknownNameError
from nasbench.library.source_names import check_defined

STATEMENTS = (
    "def Task(): ...",
    "async def Task(): ...",
    "class Task: ...",
    "Task = 1",
    "Task: int = 1",
    "other, (Task, *rest) = [1, (2, 3)]",
    "import Task",
    "import a as Task",
    "from a import Task",
    "from a import *",
    "if True:\n    def Task(): ...\nelse:\n    Task = None",
    "try:\n    import a\nexcept ImportError:\n    class Task: ...",
    "with open('a') as Task: ...",
    "for Task in (): ...",
    "def __getattr__(name): ...",
    "globals()['Task'] = 1",
    "setattr(sys.modules[__name__], 'Task', 1)",
    "class",  # to load it names the line at fault
)


@pytest.mark.parametrize("source", STATEMENTS)
def test_a_file_that_may_define_the_name_is_not_refused(tmp_path, source):
    file = tmp_path / "file.py"
    file.write_text(source)
    check_defined(f"{file}:Task", "task")
    check_defined(str(file), "task", "Task")


INSIDE = ("def f():\n    Task = 1", "class C:\n    Task = 1")


@pytest.mark.parametrize("source", ["", "print(Task)", "C.Task = 1", *INSIDE])
def test_a_file_that_does_not_is(tmp_path, source):
    file = tmp_path / "file.py"
    file.write_text(f"raise SystemExit  # the file is not run\n{source}\ndef tasks(): ...\ndef _hidden(): ...")
    with pytest.raises(UnknownNameError, match=r"no task named 'Task'; did you mean 'tasks'\? .*defines nothing"):
        check_defined(f"{file}:Task", "task")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PluginError, match="no file at"):
        check_defined(f"{tmp_path}/file.py:Task", "task")
