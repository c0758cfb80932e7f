"""Logs the trials of a run, each once. The loggers are views of the journal, so they can be filled at any time."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout, suppress
from typing import Any

from nasbench.files import append, cut_torn_line
from nasbench.library.expression import text_hash
from nasbench.library.surroundings import surroundings_kept
from nasbench.objectives import COSTS
from nasbench.runs.evaluation import Evaluation, describe_error
from nasbench.runs.run import Run
from nasbench.runs.schema import CONTROLS
from nasbench.study.loggers import LOGGERS, LoggedStudy, Logger
from nasbench.study.phases.events import Event, Listener

__all__ = ["LoggedTrials"]

_VERDICT = ("plan", "seeds", "verdict", "difference", "difference_low", "difference_high", "p_better")
"""Columns of the table of compared plans that are logged."""


class LoggedTrials:
    """Sends the evaluations of a run to loggers.

    `logged.jsonl` in the run folder says which trial each logger has. What it lacks is logged when the search is
    resumed, so a logger that is asked for later, or that failed, gets the earlier trials too. A logger that fails is
    left out for the rest of the search, because a server that does not answer can hold up every call for minutes.

    Args:
        names: Names of the loggers.
        run: The run.
        note: Called with a line of text for the user.
    """

    def __init__(self, names: Iterable[str], run: Run, note: Callable[[str], None]) -> None:
        self.run, self._note = run, note
        self._file = run.folder.logged
        self._loggers: dict[str, tuple[Logger, str]] = {}  # with the hash of its destination
        study = LoggedStudy(run.path.resolve().name, run.path.resolve(), run.created)
        for name in dict.fromkeys(names):
            if (started := self._guarded(name, functools.partial(_started, name, study))) is not None:
                logger, destination, hint = started
                self._loggers[name] = logger, destination
                note(f"log: {name}{': ' if hint else ''}{hint}")
        self._done = self._read() if self._loggers else set()

    def __enter__(self) -> LoggedTrials:
        return self

    def __exit__(self, *_: object) -> None:
        for name, started in list(self._loggers.items()):
            self._guarded(name, started[0].close)

    def listening(self, listen: Listener) -> Listener:
        """Return a listener that logs the evaluation of an event, then calls `listen`."""
        if not self._loggers:
            return listen

        def tell(event: Event) -> None:
            if event.evaluation is not None and event.stage != CONTROLS:
                self.log([event.evaluation])
            listen(event)

        return tell

    def catch_up(self) -> None:
        """Log the trials of the run that are not logged yet. In a shared study, other machines log their own trials."""
        if self._loggers and not self.run.journal.is_shared:
            self.log(self.run.evaluations())

    def log(self, evaluations: Iterable[Evaluation]) -> None:
        """Log evaluations, each to the loggers that do not have it."""
        for evaluation in evaluations:
            for name, (logger, destination) in list(self._loggers.items()):
                key = (name, destination, _name(evaluation))
                self._log_once(key, functools.partial(self._send, logger, evaluation))

    def log_verdicts(self) -> None:
        """Log the verdicts on the plans that the run compared."""
        if not self._loggers or "verdict" not in (table := self.run.finalists()):
            return
        names: dict[str, str] = {}
        for evaluation in self.run.evaluations():
            if evaluation.is_complete:
                names.setdefault(evaluation.plan_hash, _name(evaluation))
        shown = table[[name for name in ("plan_hash", *_VERDICT) if name in table]]
        rows = [
            {"name": names[row.pop("plan_hash")]} | {key: value for key, value in row.items() if value is not None}
            for row in json.loads(shown.to_json(orient="records"))  # with Python's own numbers, and None for NaN
        ]
        for name, (logger, destination) in list(self._loggers.items()):
            # the verdicts on the same trainings are the same, so a search that is only resumed has nothing new to say
            key = (name, destination, f"verdicts {text_hash(str(rows))}")
            self._log_once(key, functools.partial(logger.log_verdicts, rows))

    def _log_once(self, key: tuple[str, str, str], send: Callable[[], None]) -> None:
        """Call `send`, unless it was called before, maybe by an earlier process.

        Args:
            key: The name of the logger, the hash of its destination, and what is sent.
            send: Sends it.
        """

        def sent() -> bool:
            send()
            return True

        if key not in self._done and self._guarded(key[0], sent):
            self._done.add(key)
            line = json.dumps(dict(zip(("logger", "destination", "logged"), key, strict=True)))
            append(self._file, f"{line}\n".encode(), durable=False)

    def _send(self, logger: Logger, evaluation: Evaluation) -> None:
        settings = self.run.settings
        costs = {key: evaluation.costs[key] for key in COSTS if evaluation.costs.get(key) is not None}
        params: dict[str, Any] = {
            "trial": evaluation.number,
            "plan": evaluation.plan,
            "plan_hash": evaluation.plan_hash,
            "seed": evaluation.seed,
            "epochs": evaluation.fidelity,
            "backbone": str(settings.backbone),
            "task": "evaluate" if self.run.config["task"] is None else str(settings.task),
            "device": evaluation.device,
            **costs,
        }
        logger.start_trial(_name(evaluation), params)
        for number, line in enumerate(evaluation.history, 1):
            logger.curve(int(line.get("epoch", number)), {key: v for key, v in line.items() if key != "epoch"})
        metrics = {**evaluation.proxies, **costs, **evaluation.metrics, "wall_s": evaluation.wall_s}
        logger.end_trial(metrics, evaluation.state, evaluation.reason)

    def _guarded(self, name: str, act: Callable[[], Any]) -> Any:
        """Call a logger. If it fails, tell the user once and leave it out. Returns None then."""
        try:
            with surroundings_kept(), redirect_stdout(sys.stderr):
                warnings.simplefilter("ignore")  # the user cannot do anything about the warnings of these packages
                return act()
        except (Exception, SystemExit) as error:
            self._loggers.pop(name, None)
            self._note(
                f"note: --log {name} failed, and the search continues without it: {describe_error(error)}; the same "
                "command with it logs the missing trials"
            )
            return None

    def _read(self) -> set[tuple[str, str, str]]:
        done: set[tuple[str, str, str]] = set()
        cut_torn_line(self._file)  # the search holds the lock of the run folder
        if self._file.is_file():
            for line in self._file.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError, KeyError):
                    row: Mapping[str, str] = json.loads(line)
                    done.add((row["logger"], row["destination"], row["logged"]))
        return done


def _started(name: str, study: LoggedStudy) -> tuple[Logger, str, str]:
    """Return a logger with the hash of its destination, and its hint."""
    logger = LOGGERS.get(name)(study)
    return logger, text_hash(logger.destination), logger.hint  # a hash, because it can have a path of this machine


def _name(evaluation: Evaluation) -> str:
    """Return the name of a trial. One that failed has another name than one that is tried again later."""
    ended = "" if evaluation.is_complete else f"-{evaluation.state}"
    return f"trial-{evaluation.number}-seed-{evaluation.seed}{ended}"
