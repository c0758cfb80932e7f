"""The contract of `nasbench.testing` on every registered head, small where the paper's sizes would take seconds."""

from __future__ import annotations

import pytest

from nasbench.library.modules import module_specs
from nasbench.testing import HeadCandidate, check_head_candidate, head_candidates

TRANSFORMER = {"width": 32, "layers": 2, "queries": 12, "hidden": 64}
SMALL = {
    "fcos": {"width": 32, "convs": 1},
    "yolo": {"width": 32},
    "semantic_fpn": {"width": 32},
    "detr": TRANSFORMER,
    "deformable_detr": TRANSFORMER,
}


@pytest.mark.parametrize(
    "candidate", [c for s in module_specs(kind="head") for c in head_candidates(s, SMALL.get(s.name))], ids=str
)
def test_contract(candidate: HeadCandidate):
    assert [f"{r.check}: {r.message}" for r in check_head_candidate(candidate) if not r.passed] == []
