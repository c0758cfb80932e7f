"""A node of a Ray cluster that is lost costs nothing but the evaluation that ran there, which is done once more."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from support import ROOT

import nasbench as nb


def test_a_lost_node(tmp_path):
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "ray_host.py", tmp_path],
        capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = nb.load_run(tmp_path / "run").trials()
    assert rows["number"].tolist() == [0, 1, 2, 3]
    assert set(rows["state"]) == {"complete"}
    assert rows["plan"].nunique() == 4
    asked = Counter((tmp_path / "calls").read_text().splitlines())
    assert sorted(asked.values()) == [1, 1, 1, 2]
