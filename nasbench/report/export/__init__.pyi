from .folder import export_trial
from .table import FORMATS, trials_text

__all__ = ["FORMATS", "export_trial", "trials_text"]
