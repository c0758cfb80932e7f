"""Log trials to Weights & Biases: a group for each search, and in it a run for each trial."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.library.expression import text_hash
from nasbench.study.loggers._base import LoggedStudy, Logger, register_logger

__all__ = ["WandB"]


@register_logger("wandb")
class WandB(Logger):
    """Logs to the project `WANDB_PROJECT`, by default `nasbench`.

    The mode is that of `WANDB_MODE`. Without it, trials are sent to W&B if the user has logged in, and else only
    written to the folder `wandb/` of the run: a search must not wait for a password, nor fail because there is none.
    """

    package = "wandb"

    def __init__(self, study: LoggedStudy) -> None:
        super().__init__(study)
        import wandb

        self._wandb: Any = wandb
        self._project = os.environ.get("WANDB_PROJECT") or "nasbench"
        # `login` looks for a key where `wandb login` stores one. It does not ask for it, and contacts nobody.
        self._mode: Any = os.environ.get("WANDB_MODE") or (
            "online" if wandb.login(prompt=False, verify=False) else "offline"
        )

    @property
    def destination(self) -> str:
        """The mode and the project."""
        return f"{self._mode} {self._project}"

    @property
    def hint(self) -> str:
        """Where the trials are seen, or how they are uploaded."""
        if self._mode != "offline":
            return f"project {self._project} of W&B, group {self.study.name}"
        return f'offline; after `wandb login`, upload them: wandb sync "{self.study.folder / "wandb"}"/offline-run-*'

    def _init(self, name: str, identity: str, kind: str, config: Mapping[str, Any]) -> Any:
        quiet = {"silent": True, "console": "off", "x_disable_stats": True, "disable_git": True}
        return self._wandb.init(
            project=self._project,
            group=self.study.name,
            dir=str(self.study.folder),
            id=identity,  # so that W&B replaces a trial that a killed process began
            resume="allow" if self._mode == "online" else None,
            name=name,
            job_type=kind,
            config=dict(config),
            mode=self._mode,
            reinit="create_new",  # a run that the caller of `nb.search` has begun stays the caller's own
            save_code=False,
            settings=self._wandb.Settings(**quiet),
        )

    def start_trial(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin the run of a trial."""
        self._run = self._init(name, self.study.id_of(name), "trial", params)

    def curve(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch."""
        self._run.log({f"epoch/{key}": value for key, value in metrics.items()}, step=step)

    def end_trial(self, metrics: Mapping[str, float], state: str, reason: str) -> None:
        """Write the final metrics into the summary of the run, and end it."""
        self._run.summary.update({**metrics, "state": state, **({"reason": reason} if reason else {})})
        self._run.finish(exit_code=0 if state == "complete" else 1)

    def log_verdicts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the verdicts as a table, in a run of its own: an offline run cannot be changed after its end."""
        columns = list(rows[0])
        run = self._init("verdicts", self.study.id_of(f"verdicts {text_hash(str(rows))}"), "verdicts", {})
        data = [[row.get(key) for key in columns] for row in rows]
        run.log({"verdicts": self._wandb.Table(columns=columns, data=data)})
        run.finish()
