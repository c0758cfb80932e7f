"""Every module computes what it computed when `parity.json` was written, so that trained weights stay valid."""

from __future__ import annotations

import json

import pytest

from nasbench.testing import Candidate
from tests.support.parity import FILE, every_candidate, figures

RECORD = json.loads(FILE.read_text(encoding="utf-8"))
CANDIDATES = every_candidate()


def test_the_record_has_every_variant_and_no_other():
    assert sorted(RECORD) == sorted(map(str, CANDIDATES))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_outputs_and_gradients_are_as_recorded(candidate: Candidate):
    now = figures(candidate)
    assert now.keys() == RECORD[str(candidate)].keys()
    for part, values in RECORD[str(candidate)].items():
        # float64 leaves about ten digits, whatever order a processor sums in
        assert now[part] == pytest.approx(values, rel=1e-6, abs=1e-8), part
