"""What a host is: a run folder, a module, an expression or a backbone. Needs no torch.

A host is what the user names to have its properties measured, for example in `nasbench suggest HOST`.
"""

from __future__ import annotations

from nasbench.backbones.names import backbone_names, is_file, is_timm
from nasbench.errors import UnknownNameError
from nasbench.library.expression import parse
from nasbench.library.modules import module_specs
from nasbench.runs.folder import RunFolder

__all__ = ["check_host", "check_module", "is_backbone", "is_expression", "is_run"]

_OPERATORS = (">>", "+", "(")


def is_run(host: str) -> bool:
    """Whether `host` is a run folder."""
    return RunFolder(host).is_run


def is_expression(text: str) -> bool:
    """Whether a text is an expression and not only the name of a module."""
    return any(mark in text for mark in _OPERATORS)


def is_backbone(host: str) -> bool:
    """Whether `suggest` takes `host` for a backbone: it is no run folder, module or expression. It need not exist."""
    return not (is_run(host) or is_expression(host) or host in _module_names())


def check_host(host: str) -> None:
    """Check that `host` is a run, an expression of existing modules, or the name of an existing module or backbone.

    Raises:
        UnknownNameError: If nothing has this name, or if an expression names a module that does not exist.
        ExpressionError: If it is a malformed expression.
    """
    if is_run(host):
        return
    if not is_backbone(host):
        check_module(host)
    elif not (is_file(host) or host in backbone_names() or is_timm(host)):
        known = [*_module_names(), *backbone_names()]
        raise UnknownNameError("module, backbone or run", host, known, "an expression of modules is accepted too")


def check_module(text: str) -> None:
    """Check that `text` is the name of an existing module, fusion or neck, or an expression of modules.

    Raises:
        UnknownNameError: If it names a module that does not exist.
        ExpressionError: If it is malformed.
    """
    if text.strip() not in _module_names():
        parse(text)


def _module_names() -> set[str]:
    return {spec.name for spec in module_specs()}
