"""The command, run in this process."""

import pytest

from nasbench import cli


@pytest.fixture
def nasbench(capfd, tmp_path, monkeypatch):
    """Run the command in an empty folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capfd.readouterr()
        code = cli.main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run
