"""Trials in TensorBoard, MLflow and W&B, read back with their own libraries, and in a logger of a user's own."""

import json
import re
import struct
from importlib.util import find_spec

import pytest
from support import ROOT

import nasbench as nb
from nasbench.errors import InputError, PluginError, UnknownNameError
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.run import load_run
from nasbench.study.loggers import LOGGERS, Logger, check_loggers, register_logger
from nasbench.study.loggers.logged import LoggedTrials

PLANS = ["stage1=se", "stage2=eca"]
SCORES = {"{}": 0.5, '{"stage1": "se"}': 0.7, '{"stage2": "eca"}': 0.6, '{"stage3": "se"}': 0.4}

OWN_LOGGER = """
import json
from pathlib import Path
from nasbench.study.loggers import Logger, register_logger

@register_logger("lines")
class Lines(Logger):
    hint = "see lines.txt"

    def _write(self, *what):
        print("not on stdout")
        with (self.study.folder / "lines.txt").open("a") as file:
            file.write(json.dumps(what) + "\\n")

    def start_trial(self, name, params):
        self._write("start", name, params)

    def curve(self, step, metrics):
        self._write("curve", step, metrics)

    def end_trial(self, metrics, state, reason):
        self._write("end", metrics, state, reason)

    def log_verdicts(self, rows):
        self._write("verdicts", rows)
"""


def evaluate(plan, seed):
    """A plan's score, a little higher with each seed. ECA fails with seed 1."""
    if seed == 1 and "stage2" in plan:
        raise RuntimeError("no luck")
    return {"accuracy": SCORES[json.dumps(dict(plan))] + seed / 100}


def search(out, said=None, **more):
    options = {"plans": PLANS, "seeds": 2, "evaluate": evaluate, "objectives": ["accuracy"], **more}
    note = None if said is None else lambda event: said.append(event.message)
    return nb.search(backbone="test_resnet", out=out, on_event=note, **options)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """Undo what a test registers."""
    monkeypatch.setattr(LOGGERS, "_entries", dict(LOGGERS._entries))


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN_LOGGER)
    return str(file)


def lines(run):
    return [json.loads(line) for line in (run.path / "lines.txt").read_text().splitlines()]


def names(run):
    return [line[1] for line in lines(run) if line[0] == "start"]


def test_each_trial_is_logged_once_with_its_end(tmp_path, own, capsys):
    said = []
    run = search(tmp_path / "r", said, modules=[own], log="lines")
    assert sorted(names(run)) == ["trial-0-seed-0", "trial-0-seed-1", "trial-1-seed-0", "trial-1-seed-1",
                                  "trial-2-seed-0", "trial-2-seed-1-failed"]  # fmt: skip
    start, end, *_ = lines(run)
    assert start[2]["plan"] == "{}"
    assert start[2]["seed"] == 0
    assert start[2]["backbone"] == "test_resnet"
    assert end[1]["accuracy"] == 0.5
    assert end[2:] == ["complete", ""]
    (failed,) = [line for line in lines(run) if line[0] == "end" and line[2] == "failed"]
    assert "no luck" in failed[3]
    kind, rows = lines(run)[-1]
    assert kind == "verdicts"
    assert [row["name"] for row in rows] == ["trial-0-seed-0", "trial-1-seed-0"]  # two seeds are needed
    assert {row["verdict"] for row in rows} >= {"BARE"}
    assert rows[1]["difference"] == pytest.approx(0.2)
    assert "log: lines: see lines.txt" in said
    assert "not on stdout" not in capsys.readouterr().out
    assert load_run(run.path).settings.log == ("lines",)


def test_the_logger_of_the_page_works(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "logging.md").read_text(), re.DOTALL)
    (tmp_path / "notes.py").write_text(code)
    run = search(tmp_path / "r", plans=PLANS[:1], modules=[str(tmp_path / "notes.py")], log="notes", seeds=1)
    assert (run.path / "notes.txt").read_text().splitlines() == [
        "trial-0-seed-0 {} complete 0.5", 'trial-1-seed-0 {"stage1": "se"} complete 0.7'
    ]  # fmt: skip


def test_a_resumed_search_logs_what_is_missing(tmp_path, own):
    run = search(tmp_path / "r", modules=[own], plans=PLANS[:1])
    assert not (run.path / "lines.txt").exists()
    search(tmp_path / "r", modules=[own], plans=PLANS[:1], log=["lines"])  # the identity of the run is the same
    assert names(run) == ["trial-0-seed-0", "trial-1-seed-0", "trial-0-seed-1", "trial-1-seed-1"]
    before = lines(run)
    search(tmp_path / "r", modules=[own], plans=PLANS[:1], log=["lines"])
    assert lines(run) == before
    with (run.path / "logged.jsonl").open("a") as file:
        file.write('{"logger": "li')  # a killed process left a part of a line
    search(tmp_path / "r", modules=[own], plans=["stage3=se"], log=["lines"])
    assert len(names(run)) == len(set(names(run))) == 6
    assert [len(line[1]) for line in lines(run) if line[0] == "verdicts"] == [2, 3]


def test_workers_log_through_the_driver(tmp_path, own):
    run = search(tmp_path / "r", modules=[own], log="lines", workers=2)
    assert len(names(run)) == len(set(names(run))) == 6


@pytest.mark.parametrize("method", ["__init__", "start_trial", "end_trial", "log_verdicts", "close"])
def test_a_logger_that_fails_does_not_end_the_search(tmp_path, method):
    def fail(self, *given):
        raise SystemExit("the server is gone")

    body = {name: lambda self, *given: None for name in ("start_trial", "curve", "end_trial")}
    register_logger(f"failing_{method}")(type(f"Failing{method}", (Logger,), {**body, method: fail}))
    said = []
    run = search(tmp_path / "r", said, log=f"failing_{method}")
    assert len(run.evaluations()) == 6
    (note,) = [message for message in said if "the server is gone" in message]
    assert note.startswith(
        f"note: --log failing_{method} failed, and the search continues without it: it ends the process"
    )
    logged = run.path / "logged.jsonl"
    assert len(logged.read_text().splitlines() if logged.exists() else ()) == {"log_verdicts": 6, "close": 7}.get(
        method, 0
    )


def test_a_wrong_logger_is_an_error_before_the_run(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="'tensorboard'"):
        search(tmp_path / "r", log="tensorbord")
    monkeypatch.setattr("nasbench.study.loggers.find_spec", lambda name: None)
    for name in ("tensorboard", "mlflow", "wandb"):
        with pytest.raises(InputError, match=rf'needs the package {name}: pip install "nasbench\[{name}\]"'):
            search(tmp_path / "r", log=name)
    assert not (tmp_path / "r").exists()
    check_loggers(())
    with pytest.raises(PluginError, match="not a subclass"):
        register_logger("wrong")(int)


# -- the real libraries ------------------------------------------------------------------------------------------------

HISTORY = [{"epoch": 1, "train_loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "train_loss": 1.5, "accuracy": 0.75}]


def log(name, tmp_path):
    """Log a search by a function, then a training that has a curve. Return the run."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    said = []
    run = search(tmp_path / "my run", said, log=name)
    assert not [message for message in said if "failed, and the search" in message]
    costs = {"params": 100, "macs": 2000, "exact": True}
    trained = Evaluation("{}", "44136fa355b3678a", 7, 2, "complete", "", {"accuracy": 0.75}, costs, history=HISTORY)
    with LoggedTrials([name], run, said.append) as logged:
        logged.log([trained, trained])
    assert not [message for message in said if "failed, and the search" in message]
    return run


def test_tensorboard_has_curves_and_hyper_parameters(tmp_path):
    run = log("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folders = sorted(folder.name for folder in (run.path / "tensorboard").iterdir())
    assert folders == ["trial-0-seed-0", "trial-0-seed-1", "trial-1-seed-0", "trial-1-seed-1", "trial-2-seed-0",
                       "trial-2-seed-1-failed", "trial-None-seed-7", "verdicts"]  # fmt: skip
    events = EventAccumulator(str(run.path / "tensorboard" / "trial-None-seed-7")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("epoch/train_loss")] == [(1, 2.0), (2, 1.5)]
    assert [e.value for e in events.Scalars("accuracy")] == [0.75]
    told = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    told = told.session_start_info.hparams
    assert (told["plan"].string_value, told["seed"].number_value, told["macs"].number_value) == ("{}", 7, 2000)
    table = EventAccumulator(str(run.path / "tensorboard" / "verdicts")).Reload()
    (text,) = table.Tensors("verdicts/text_summary")
    assert b"| trial-1-seed-0 | " in text.tensor_proto.string_val[0]


def test_mlflow_has_a_run_for_each_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    run = log("mlflow", tmp_path)
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("my run").experiment_id
    runs = {each.info.run_name: each for each in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == len(runs) == 7
    trained = runs["trial-None-seed-7"]
    curve = client.get_metric_history(trained.info.run_id, "epoch/train_loss")
    assert sorted((point.step, point.value) for point in curve) == [(1, 2.0), (2, 1.5)]
    assert trained.data.params["plan"] == "{}"
    assert trained.data.metrics.items() >= {"accuracy": 0.75, "macs": 2000.0}.items()
    assert runs["trial-2-seed-1-failed"].info.status == "FAILED"
    assert "no luck" in runs["trial-2-seed-1-failed"].data.tags["nasbench_reason"]
    better = runs["trial-1-seed-0"].data
    verdict = run.finalists().set_index("plan").loc['{"stage1": "se"}', "verdict"]
    assert better.tags["nasbench_verdict"] == verdict
    assert better.metrics["verdict/difference"] == pytest.approx(0.2)
    (run.path / "logged.jsonl").unlink()  # as if the process was killed before it was written
    search(tmp_path / "my run", log="mlflow")
    assert len(client.search_runs([experiment])) == 7


def test_wandb_writes_offline_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = log("wandb", tmp_path)
    import wandb

    wandb.teardown()  # ends its process, which otherwise ends with this one
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for file in (run.path / "wandb").glob("offline-run-*/run-*.wandb"):
        records = [Record.FromString(data) for data in blocks(file.read_bytes())]
        begun = next(record.run for record in records if record.WhichOneof("record_type") == "run")
        found[begun.display_name] = (begun, records)
    assert len(found) == 8  # seven trials and the verdicts
    begun, records = found["trial-None-seed-7"]
    assert (begun.run_group, begun.project, begun.job_type) == ("my run", "nasbench", "trial")
    assert {each.key: json.loads(each.value_json) for each in begun.config.update}["macs"] == 2000
    points = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(point["_step"], point["epoch/train_loss"]) for point in points] == [(1, 2.0), (2, 1.5)]
    ended = {name: records[-1].exit.exit_code for name, (_, records) in found.items()}
    assert ended.pop("trial-2-seed-1-failed") == 1
    assert set(ended.values()) == {0}


def blocks(data):
    """Yield the records of a .wandb file, which is a LevelDB log: 7 bytes of header, then chunks that may be split."""
    position, whole = 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # a header is never split, so the rest of a block is padding
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last chunk of one
            yield whole
            whole = b""
