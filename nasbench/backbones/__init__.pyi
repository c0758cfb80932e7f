from .discovery import Slot, slots
from .factory import create_backbone, default_input_size, takes_covariates
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
    "takes_covariates",
]
