"""Log trials to MLflow: an experiment for each search, and in it a run for each trial."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.study.loggers._base import LoggedStudy, Logger, register_logger
from nasbench.text import mask_passwords

__all__ = ["MLflow"]

_NAME = "nasbench_trial"
"""Tag with the name of the trial. MLflow's own name of a run can be changed in its pages."""

_LONGEST_PARAM = 6000
"""MLflow refuses a parameter with more characters than this."""


@register_logger("mlflow")
class MLflow(Logger):
    """Logs to the server or database that `MLFLOW_TRACKING_URI` names, else to MLflow's own default.

    That is `sqlite:///mlflow.db` in the working directory since MLflow 3. The experiment is `MLFLOW_EXPERIMENT_NAME`,
    else the name of the run folder.
    """

    package = "mlflow"

    def __init__(self, study: LoggedStudy) -> None:
        super().__init__(study)
        import mlflow
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME

        self._metric, self._param, self._tag = Metric, Param, RunTag
        self._uri = mlflow.get_tracking_uri()
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it creates in its database
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # By default MLflow tries for minutes to reach a server. The environment is restored after this call, so later
        # requests have this patience, for a server that is restarted.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        self._client = mlflow.MlflowClient(self._uri)
        name = MLFLOW_EXPERIMENT_NAME.get() or study.name
        known = self._client.get_experiment_by_name(name)
        self._experiment = self._client.create_experiment(name) if known is None else known.experiment_id

    @property
    def destination(self) -> str:
        """The tracking URI."""
        return mask_passwords(self._uri)

    @property
    def hint(self) -> str:
        """The command that shows the trials, or the address of the server."""
        place = self.destination
        return place if place.startswith("http") else f'mlflow ui --backend-store-uri "{place}"'

    def _runs_of(self, name: str) -> list[Any]:
        """Return the runs of a trial of this search. The experiment can have those of others too."""
        wanted = f"tags.`{_NAME}` = '{name}' and tags.`nasbench_id` = '{self.study.id_of(name)}'"
        return list(self._client.search_runs([self._experiment], wanted))

    def start_trial(self, name: str, params: Mapping[str, Any]) -> None:
        """Create the run of a trial, and remove one that a killed process left."""
        for left in self._runs_of(name):
            self._client.delete_run(left.info.run_id)
        tags = {_NAME: name, "nasbench_id": self.study.id_of(name), "nasbench_run": self.study.name}
        self._run = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        given = [self._param(key, str(value)[:_LONGEST_PARAM]) for key, value in params.items()]
        self._client.log_batch(self._run, params=given)

    def curve(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch."""
        self._log(self._run, metrics, step, "epoch/")

    def end_trial(self, metrics: Mapping[str, float], state: str, reason: str) -> None:
        """Log the final metrics, and end the run."""
        self._log(self._run, metrics)
        tags = {"nasbench_state": state, **({"nasbench_reason": reason} if reason else {})}
        self._client.log_batch(self._run, tags=[self._tag(key, value) for key, value in tags.items()])
        self._client.set_terminated(self._run, "FINISHED" if state == "complete" else "FAILED")

    def _log(self, run: str, metrics: Mapping[str, float], step: int = 0, prefix: str = "") -> None:
        now_ms = int(time.time() * 1000)
        # MLflow refuses a name with any other character
        named = {re.sub(r"[^\w\-. :/]", "_", f"{prefix}{key}"): value for key, value in metrics.items()}
        self._client.log_batch(run, [self._metric(key, float(value), now_ms, step) for key, value in named.items()])

    def log_verdicts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add its verdict to the first run of each plan: the verdict and the plan as tags, the numbers as metrics."""
        for row in rows:
            for run in self._runs_of(row["name"]):
                numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
                self._client.set_tag(run.info.run_id, "nasbench_verdict", row["verdict"])
                self._log(run.info.run_id, numbers, prefix="verdict/")
