"""The contract of `nasbench.testing`, on every variant of every registered module."""

from __future__ import annotations

import pytest

from nasbench.library.modules import module_spec, module_specs
from nasbench.library.registry import ModuleSpec
from nasbench.testing import Candidate, candidates, check_candidate, compile_status, export_status, onnx_status

SPECS = module_specs()
OFTEN = ("dilated_attention", "fpn", "hilo_attention", "pyramidal_attention", "token_dictionary", "vector_quantise")
"""Modules whose form needs care in ONNX. An export takes a second, so tests/report/test_catalogue.py takes the others
in turn, and `scripts/update_gallery` all of them."""
NOT_COMPILED = {"recurrent": "self.rnn("}
"""Modules that torch.compile refuses, and what its message must name. A module that joins or leaves shows here."""


@pytest.mark.parametrize("candidate", [c for spec in SPECS for c in candidates(spec)], ids=str)
def test_contract(candidate: Candidate):
    failed = [f"{r.check}: {r.message}" for r in check_candidate(candidate) if not r.passed]
    assert failed == []


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_torch_compile_takes_it_or_says_why_not(spec: ModuleSpec):
    status = compile_status(spec)
    if spec.name in NOT_COMPILED:
        assert status.startswith("no: ")
        assert NOT_COMPILED[spec.name] in status
    else:
        assert status == "yes"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_torch_export_takes_it(spec: ModuleSpec):
    assert export_status(spec) == "yes"


@pytest.mark.parametrize("name", OFTEN)
def test_onnx_takes_it_at_any_batch(name):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert onnx_status(module_spec(name)) == "yes"
