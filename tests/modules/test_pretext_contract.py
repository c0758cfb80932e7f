"""The contract of `nasbench.testing` on every registered pretext, small where the paper's sizes would take seconds."""

from __future__ import annotations

import pytest

from nasbench.library.modules import module_specs
from nasbench.testing import PretextCandidate, check_pretext_candidate, pretext_candidates

SMALL = {
    "simsiam": {"width": 16, "hidden": 8},
    "byol": {"width": 8, "hidden": 16},
    "moco": {"width": 8},
    "dino": {"hidden": 16, "width": 8, "local": 2},
    "mae": {"width": 32, "depth": 1},
    "denoise": {"width": 8},
    "instance_discrimination": {"width": 8},
    "semi_supervised": {"width": 8},
    "cpc": {"width": 8},
    "tfc": {"width": 8, "hidden": 16},
    "wav2vec2": {"width": 16, "codes": 8},
}


@pytest.mark.parametrize(
    "candidate", [c for s in module_specs(kind="pretext") for c in pretext_candidates(s, SMALL.get(s.name))], ids=str
)
def test_contract(candidate: PretextCandidate):
    assert [f"{r.check}: {r.message}" for r in check_pretext_candidate(candidate) if not r.passed] == []
