from .discovery import Slot, slots
from .factory import create_backbone, default_input_size, stems_for, takes_covariates, takes_padding
from .names import backbone_names, check_backbone_name, is_stem
from .stem_registry import STEMS, register_stem

__all__ = [
    "STEMS",
    "Slot",
    "backbone_names",
    "check_backbone_name",
    "create_backbone",
    "default_input_size",
    "is_stem",
    "register_stem",
    "slots",
    "stems_for",
    "takes_covariates",
    "takes_padding",
]
