"""Backbones: the host networks, and the slots in them."""

from nasbench.backbones.discovery import Slot, slots
from nasbench.backbones.factory import (
    backbone_names,
    create_backbone,
    default_input_size,
    is_stem,
    takes_covariates,
)
from nasbench.backbones.stem_registry import STEMS, register_stem

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
