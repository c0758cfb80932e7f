"""The contract of `nasbench.testing` on every registered head, small where the paper's sizes would take seconds."""

from __future__ import annotations

import pytest
import torch

from nasbench.library.modules import module_specs
from nasbench.library.registry import ModuleSpec
from nasbench.testing import HeadCandidate, check_head_candidate, head_candidates

TRANSFORMER = {"width": 32, "layers": 2, "queries": 12, "hidden": 64}
SMALL = {
    "fcos": {"width": 32, "convs": 1},
    "yolo": {"width": 32},
    "semantic_fpn": {"width": 32},
    "detr": TRANSFORMER,
    "deformable_detr": TRANSFORMER,
    "mask_decoder": {"width": 32, "hidden": 64},
}


@pytest.mark.parametrize(
    "candidate", [c for s in module_specs(kind="head") for c in head_candidates(s, SMALL.get(s.name))], ids=str
)
def test_contract(candidate: HeadCandidate):
    assert [f"{r.check}: {r.message}" for r in check_head_candidate(candidate) if not r.passed] == []


@pytest.mark.parametrize("spec", module_specs(kind="head"), ids=lambda spec: spec.name)
def test_torch_export_takes_it(spec: ModuleSpec):
    small = SMALL.get(spec.name, {})
    candidate = head_candidates(spec, {**small, "layers": 1} if "layers" in small else small)[0]
    head, inputs = candidate.build().eval(), candidate.batch()
    with torch.no_grad():
        plain, traced = head(*inputs), torch.export.export(head, inputs, strict=False).module()(*inputs)
    for key, value in plain.items():
        torch.testing.assert_close(traced[key], value)
