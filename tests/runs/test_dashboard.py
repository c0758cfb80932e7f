"""Optuna's dashboard opens the journal of a run as it stands: `optuna-dashboard runs/NAME/journal.log`."""

import io
import json
from wsgiref.util import setup_testing_defaults

import pytest

import nasbench as nb

SPACE = {"variants": ["se", "eca"], "compositions": ["none", "a"], "slots": ["stage1", "stage2"]}


def score(plan):
    if "eca" in str(plan):
        raise ValueError("no good")
    return {"accuracy": 1 - 1 / (1 + len(str(plan))), "cost": float(len(plan))}


@pytest.fixture
def run(tmp_path):
    return nb.search(
        SPACE, backbone="test_resnet", evaluate=score, trials=6, out=tmp_path / "r", sampler="random", seeds=1,
        objectives={"accuracy": "maximize", "cost": "minimize"},
    )  # fmt: skip


def get(app, path):
    """Ask the application for a path, as a web server would; return the JSON it answers."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    answered = []
    body = b"".join(app(environ, lambda status, headers, *_: answered.append(status)))
    assert answered == ["200 OK"], (path, answered, body[:500])
    return json.loads(body)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # of the dashboard's own calls
def test_the_dashboard_shows_a_run(run):
    dashboard = pytest.importorskip("optuna_dashboard")
    from optuna_dashboard._storage_url import get_storage

    file = run.path / "journal.log"
    before = file.read_bytes()
    app = dashboard.wsgi(get_storage(str(file)))
    studies = {study["study_name"]: study["study_id"] for study in get(app, "/api/studies")["study_summaries"]}
    detail = get(app, f"/api/studies/{studies['search']}")
    assert detail["directions"] == ["maximize", "minimize"]
    assert detail["objective_names"] == ["accuracy", "cost"]
    shown = {trial["number"]: trial for trial in detail["trials"]}
    rows = run.trials()
    assert set(rows["number"]) <= set(shown)
    for row in rows.itertuples():
        trial = shown[row.number]
        assert trial["state"] == {"complete": "Complete", "failed": "Fail"}[row.state]
        if row.state == "complete":
            assert trial["values"] == [row.accuracy, row.cost]
        attrs = {attr["key"]: attr["value"] for attr in trial["user_attrs"]}
        assert attrs["plan"].strip('"').replace("\\", "") == row.plan
    best = {t["number"] for t in detail["best_trials"] if not any(a["key"] == "repeats" for a in t["user_attrs"])}
    assert best == set(run.front()["number"])
    assert file.read_bytes() == before, "looking changes nothing"
