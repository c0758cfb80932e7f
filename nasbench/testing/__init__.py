"""The contract of plug-in modules, as tests that can run on any module.

nasbench's own modules pass these tests, and `nasbench check FILE` runs them on a user's file. Every check is a function
of a `Candidate`, of a `HeadCandidate` for a head, or of a `PretextCandidate` for a pretext. It returns "" if the module
keeps the contract, and otherwise the fault in one line.

In a plug-in author's test suite:

    @pytest.mark.parametrize("candidate", candidates(module_spec("my_module")), ids=str)
    def test_contract(candidate):
        assert [r for r in check_candidate(candidate) if not r.passed] == []
"""

from nasbench.testing._backbone import check_backbone
from nasbench.testing._candidate import Candidate, candidates, variants
from nasbench.testing._checks import CHECKS
from nasbench.testing._file import check_file
from nasbench.testing._head import HeadCandidate, head_candidates
from nasbench.testing._pretext import PretextCandidate, pretext_candidates
from nasbench.testing._run import (
    CheckResult,
    check_candidate,
    check_head_candidate,
    check_module,
    check_pretext_candidate,
)
from nasbench.testing._task import check_task
from nasbench.testing._tracing import compile_status, export_status, onnx_status

__all__ = [
    "CHECKS",
    "Candidate",
    "CheckResult",
    "HeadCandidate",
    "PretextCandidate",
    "candidates",
    "check_backbone",
    "check_candidate",
    "check_file",
    "check_head_candidate",
    "check_module",
    "check_pretext_candidate",
    "check_task",
    "compile_status",
    "export_status",
    "head_candidates",
    "onnx_status",
    "pretext_candidates",
    "variants",
]
