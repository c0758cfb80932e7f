import json
import os
import signal
import subprocess
import sys
import textwrap

import optuna
import pytest

from nasbench.errors import RunError
from nasbench.files import FileLock, cut_torn_line
from nasbench.runs.storage import open_journal, quiet


def study_in(path):
    with quiet():
        return optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a\nb", b"a\n"),
        (b"torn", b""),
        (b"a\n" + b"x" * 10_000, b"a\n"),
        (b"a\n" * 5_000 + b"x" * 4_096, b"a\n" * 5_000),
    ],
)
def test_only_what_follows_the_last_newline_is_cut(tmp_path, content, kept):
    file = tmp_path / "log"
    file.write_bytes(content)
    cut_torn_line(file)
    assert file.read_bytes() == kept


def test_a_torn_line_loses_nothing_that_was_finished(tmp_path):
    """Stock Optuna raises for ever once a line follows the torn one."""
    path = tmp_path / "journal.log"
    study = study_in(path)
    study.tell(study.ask(), 1.0)
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "x", "tri')
    again = study_in(path)
    again.tell(again.ask(), 2.0)
    assert [t.value for t in study_in(path).trials] == [1.0, 2.0]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_torn_line_of_another_process_is_cut_before_the_next_append(tmp_path):
    path = tmp_path / "journal.log"
    study = study_in(path)
    with path.open("ab") as file:
        file.write(b'{"torn')
    study.tell(study.ask(), 1.0)
    assert [t.value for t in study_in(path).trials] == [1.0]


def test_the_lock_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import time, fcntl, os
                descriptor = os.open({str(path)!r}, os.O_RDWR | os.O_CREAT)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                print("held", flush=True)
                time.sleep(60)
                """
            ),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    lock = FileLock(path)
    assert not lock.acquire(wait=False)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert lock.acquire(wait=False)
    lock.release()


def test_shared_and_exclusive(tmp_path):
    first, second = FileLock(tmp_path / "l", shared=True), FileLock(tmp_path / "l", shared=True)
    alone = FileLock(tmp_path / "l")
    with first, second:
        assert not alone.acquire(wait=False)
    with alone:
        assert not first.acquire(wait=False)


def test_what_is_no_journal(tmp_path):
    (tmp_path / "journal.log").write_text("hello\nworld\n")
    with pytest.raises(RunError, match="not an Optuna journal"):
        open_journal(tmp_path / "journal.log").get_all_studies()
    with pytest.raises(RunError, match="cannot use"):
        open_journal(tmp_path / "nowhere" / "journal.log")
