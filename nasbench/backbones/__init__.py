"""Backbones: the host networks, and the slots in them."""

from nasbench.backbones._create import (
    backbone_names,
    create_backbone,
    default_input_size,
    is_stem,
    takes_covariates,
)
from nasbench.backbones._slots import Slot, slots
from nasbench.backbones._stems import STEMS, register_stem

__all__ = [
    "STEMS",
    "Slot",
    "backbone_names",
    "create_backbone",
    "default_input_size",
    "is_stem",
    "register_stem",
    "slots",
    "takes_covariates",
]
