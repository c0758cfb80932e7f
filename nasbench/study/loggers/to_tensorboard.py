"""Log trials to TensorBoard: a folder of events for each trial, with its curve and its hyper-parameters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench.study.loggers._base import LoggedStudy, Logger, register_logger

__all__ = ["TensorBoard"]


@register_logger("tensorboard")
class TensorBoard(Logger):
    """Writes into the folder `tensorboard/` of the run. `tensorboard --logdir runs` shows the trials of all runs."""

    package = "tensorboard"

    def __init__(self, study: LoggedStudy) -> None:
        super().__init__(study)
        from torch.utils.tensorboard.summary import hparams
        from torch.utils.tensorboard.writer import SummaryWriter

        self._hparams, self._open = hparams, SummaryWriter
        self.folder = study.folder / "tensorboard"

    @property
    def hint(self) -> str:
        """The command that shows the trials."""
        return f'tensorboard --logdir "{self.folder}"'

    def _writer_of(self, folder: Path) -> Any:
        # A killed process may have left a part of the trial. Events are only ever appended, so it would stay visible.
        shutil.rmtree(folder, ignore_errors=True)
        return self._open(str(folder))

    def start_trial(self, name: str, params: Mapping[str, Any]) -> None:
        """Open the trial's folder."""
        self._writer, self._params = self._writer_of(self.folder / name), dict(params)

    def curve(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar for each metric."""
        for key, value in metrics.items():
            self._writer.add_scalar(f"epoch/{key}", value, step)

    def end_trial(self, metrics: Mapping[str, float], state: str, reason: str) -> None:
        """Write the final metrics, and the parameters for the tab HPARAMS."""
        params = {**self._params, "state": state, **({"reason": reason} if reason else {})}
        # `SummaryWriter.add_hparams` would write them to a folder of its own, a second run beside the trial's curve.
        for summary in self._hparams(params, dict(metrics)):
            self._writer.file_writer.add_summary(summary)
        for key, value in metrics.items():
            self._writer.add_scalar(key, value)
        self._writer.close()

    def log_verdicts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the verdicts as a table, which the tab TEXT shows."""
        columns = list(rows[0])
        lines = [columns, ["---"] * len(columns), *([str(row.get(key, "")) for key in columns] for row in rows)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        writer = self._writer_of(self.folder / "verdicts")
        writer.add_text("verdicts", table)
        writer.close()
