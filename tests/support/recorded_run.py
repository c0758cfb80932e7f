"""A run folder made of recorded trainings, for tests that read runs and must not wait for a search."""

import json

import numpy as np

from nasbench.library.plan import Plan
from nasbench.objectives import COSTS
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.ledger import state_of
from nasbench.runs.run import create_run
from nasbench.runs.schema import CONTROLS, FINALISTS, SEARCH, RecordedControl
from nasbench.runs.settings import SearchSettings

SLOTS = ["stage1", "stage2", "stage3"]
TASK = {
    "kind": "classification", "metric": "accuracy", "splits": {"train": 100, "val": 200, "test": 200},
    "input_size": [3, 32, 32], "model_kwargs": {"num_classes": 10},
}  # fmt: skip


class Recorder:
    """Writes trainings into a run as a search would. A plan gets the number of its first trial."""

    def __init__(self, path, objectives=("accuracy", "macs"), task=TASK, **settings):
        directions = {
            name: "minimize" if name in COSTS or name in ("mse", "mae", "loss") else "maximize" for name in objectives
        }
        filled = SearchSettings(
            space="tiny", backbone="test_resnet", task="digits", objectives=directions, trials=24, **settings
        )
        config = {
            "schema_version": 1, "created": "2026-01-01T00:00:00+00:00", "settings": filled.model_dump(mode="json"),
            "origins": {}, "objectives": directions, "identity": {"data": {}},
            "space": {"name": "tiny", "plans": 1000, "slots": SLOTS, "excluded": []}, "task": task,
        }  # fmt: skip
        self.run = create_run(path, config, {})
        if task is not None:
            data = {name: task[name] for name in ("splits", "input_size")}
            data |= {"schema_version": 1, "task": "digits", "found": "digits", "described": {}}
            self.run.folder.data.write_text(json.dumps(data))
        self.numbers = {}

    def add(
        self,
        plan,
        score,
        seed=0,
        *,
        items=None,
        macs=100.0,
        reason="",
        failed="",
        breaks="",
        history=(),
        stage=None,
        **more,
    ):
        """Record a training. `plan` is a mapping or None for the bare backbone, `failed` the reason of a failure.

        `breaks` is the bound that the bare backbone breaks.
        """
        plan = Plan.of(plan)
        stage = stage or (FINALISTS if plan.hash in self.numbers else SEARCH)
        metrics = {} if failed else {next(iter(self.run.directions)): float(score), **more}
        evaluation = Evaluation(
            plan.text, plan.hash, seed, 1, "failed" if failed else "complete", failed or breaks,
            metrics=metrics, costs={"macs": float(macs)}, history=list(history),
        )  # fmt: skip
        ledger = self.run.journal.ledger(stage)
        claim = plan.hash if stage == SEARCH else f"{plan.hash}:{seed}"
        attrs = {"plan": plan.text, "claim": claim, "evaluation": evaluation.to_dict()}
        attrs |= {"reason": reason} if reason else {}
        if plan.hash in self.numbers:
            attrs["number"] = self.numbers[plan.hash]
        number = ledger.add_trial(state_of(evaluation), attrs, values=evaluation.objectives(self.run.directions))
        self.numbers.setdefault(plan.hash, number)
        if items is not None and not failed:
            self.run.folder.save_items(plan.hash, seed, np.asarray(items, dtype=float))

    def add_control(self, plan, control, scores, *, ratio=1.0):
        """Record the control of a plan, trained on the seeds 0, 1, ..."""
        plan, control = Plan.of(plan), Plan.of(control)
        record = RecordedControl(control.text, control.hash, ratio, {"stage1": ratio}, 10, 10, True)
        self.run.journal.record_controls({plan.hash: record})
        self.numbers.setdefault(control.hash, self.numbers[plan.hash])
        for seed, score in enumerate(scores):
            self.add(control, score, seed, stage=CONTROLS)
