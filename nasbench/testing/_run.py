"""Run the checks and collect their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nasbench.errors import message_of
from nasbench.library.registry import ModuleSpec
from nasbench.testing._candidate import Candidate, candidates, seeded
from nasbench.testing._checks import CHECKS
from nasbench.testing._head import HEAD_CHECKS, HeadCandidate, head_candidates
from nasbench.testing._pretext import PRETEXT_CHECKS, PretextCandidate, pretext_candidates

__all__ = ["CheckResult", "check_candidate", "check_head_candidate", "check_module", "check_pretext_candidate"]

_Subject = TypeVar("_Subject", Candidate, HeadCandidate, PretextCandidate)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check on one variant.

    Attributes:
        check: Name of the check.
        module: Registry name.
        variant: Description of the variant.
        passed: Whether the variant passes the check.
        message: The fault in one line, or "" if the variant passes.
    """

    check: str
    module: str
    variant: str
    passed: bool
    message: str = ""


def check_candidate(candidate: Candidate, checks: Sequence[Callable[[Candidate], str]] = CHECKS) -> list[CheckResult]:
    """Run `checks` on one variant. An exception becomes a failed check and is not raised."""
    return [_run(check, candidate) for check in checks]


def check_head_candidate(candidate: HeadCandidate) -> list[CheckResult]:
    """Run all checks of a head on one variant. An exception becomes a failed check and is not raised."""
    return [_run(check, candidate) for check in HEAD_CHECKS]


def check_pretext_candidate(candidate: PretextCandidate) -> list[CheckResult]:
    """Run all checks of a pretext. An exception becomes a failed check and is not raised.

    Without a finite loss the first check fails, and the others do not run, because each would name another fault.
    """
    first = _run(PRETEXT_CHECKS[0], candidate)
    return [first, *(_run(check, candidate) for check in PRETEXT_CHECKS[1:] if first.passed)]


def check_module(spec: ModuleSpec, hypers: Sequence[Mapping[str, Any]] | None = None) -> list[CheckResult]:
    """Run every check on every variant of a module, on a head for each kind of task, or on a pretext for its data.

    Args:
        spec: The module, head or pretext.
        hypers: The variants to check. None means all of `variants(spec)`. A head or pretext has one, with its defaults.

    Example:
        >>> from nasbench.library.modules import module_spec
        >>> all(result.passed for result in check_module(module_spec("se")))
        True
    """
    if spec.kind == "head":
        heads = [candidate for hyper in hypers or [{}] for candidate in head_candidates(spec, hyper)]
        return [result for candidate in heads for result in check_head_candidate(candidate)]
    if spec.kind == "pretext":
        pretexts = [candidate for hyper in hypers or [{}] for candidate in pretext_candidates(spec, hyper)]
        return [result for candidate in pretexts for result in check_pretext_candidate(candidate)]
    return [result for candidate in candidates(spec, hypers) for result in check_candidate(candidate)]


def _run(check: Callable[[_Subject], str], candidate: _Subject) -> CheckResult:
    try:
        # A check draws the same random numbers, no matter which checks ran before it.
        with seeded():
            message = check(candidate)
    except (Exception, SystemExit) as error:  # also SystemExit, because user code can call sys.exit
        message = f"{type(error).__name__}: {(message_of(error).strip().splitlines() or [''])[0]}"
    name = check.__name__.replace("_", " ")
    return CheckResult(name, candidate.spec.name, candidate.variant, not message, message)
