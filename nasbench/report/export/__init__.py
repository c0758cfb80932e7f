"""Export of a trial as a folder that works without nasbench, and of the trials table in other formats."""

from nasbench.report.export.folder import export_trial
from nasbench.report.export.table import FORMATS, trials_text

__all__ = ["FORMATS", "export_trial", "trials_text"]
