"""A trial of a run as a folder that a stranger can use, and the trials table in other formats."""

from nasbench.report.export.folder import export_trial
from nasbench.report.export.table import FORMATS, trials_text

__all__ = ["FORMATS", "export_trial", "trials_text"]
