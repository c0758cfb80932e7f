"""What a user trusts a shared study with: passwords stay secret, outages lose and double nothing, reading is local."""

import json
import os
import pickle
import re
import sys
import threading
import time
import traceback
from types import SimpleNamespace

import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError
from support import postgresql as servers

import nasbench as nb
from nasbench import cli
from nasbench.errors import InputError, RunError
from nasbench.runs import database
from nasbench.runs.database import TOKEN, check_database_url, open_database
from nasbench.runs.database_url import DatabaseUrl
from nasbench.runs.environment import describe_environment
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.journal import RunJournal
from nasbench.runs.run import load_run
from nasbench.runs.schema import SEARCH
from nasbench.runs.settings import SearchSettings, read_settings
from nasbench.runs.shared_ledger import HEARTBEAT, SharedLedger
from nasbench.runs.storage import open_journal, quiet
from nasbench.study import driver
from nasbench.study.engines import Inline
from nasbench.text import mask_passwords

SECRET = "tell-nobody"
SPACE = {"variants": ["se", "eca", "dual_pool"], "compositions": ["none", "a", "a + b"], "slots": ["stage1", "stage2"]}
DIRECTIONS = {"accuracy": "maximize", "cost": "minimize"}


@pytest.fixture(scope="module")
def server():
    """A server that asks for a password."""
    if servers.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", SECRET)
        one = servers.Server(password=SECRET)
        yield one
        one.close()


@pytest.fixture
def inline(monkeypatch):
    """Evaluate in the test's own process, which is quicker than to start another one."""
    monkeypatch.setattr(driver, "make_engine", lambda settings, evaluator, apart: Inline(evaluator))


@pytest.fixture
def study(server, request):
    """A storage, and the id of a study of this test alone."""
    opened = open_database(server.url)
    with quiet():
        study = optuna.create_study(storage=opened, study_name=request.node.name, directions=list(DIRECTIONS.values()))
    return SimpleNamespace(storage=opened, name=study.study_name, id=study._study_id)


def score(plan):
    return {"accuracy": float(len(str(plan))), "cost": float(len(plan)), "items": [float(len(str(plan)))] * 3}


def search(out, storage, **more):
    return nb.search(
        SPACE, backbone="test_resnet", evaluate=score, objectives=DIRECTIONS, sampler="random", seeds=1, out=out,
        storage=storage, **{"trials": 3, **more},
    )  # fmt: skip


def with_password(server):
    return server.url.replace("nasbench@", f"nasbench:{SECRET}@")


# -- passwords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "text", "password"),
    [
        ("postgresql://me@host/x", "postgresql://me@host/x", None),
        ("postgresql://me:a%40b@host:5432/x", "postgresql://me@host:5432/x", "a@b"),
        ("postgresql://:tell@host/x", "postgresql://@host/x", "tell"),
        ("postgresql://me:te@ll@host/x?a=b", "postgresql://me@host/x?a=b", "te@ll"),
        ("postgresql://me:te/ll@host/x", "postgresql://me@host/x", "te/ll"),
        ("postgresql://me:te?ll@host/x", "postgresql://me@host/x", "te?ll"),
        ("postgresql://me:tell@host/x?application_name=a@b", "postgresql://me@host/x?application_name=a@b", "tell"),
        ("postgresql:///x?host=/tmp&password=tell&a=b", "postgresql:///x?host=/tmp&a=b", "tell"),
        ("postgresql:///x?password=tell", "postgresql:///x", "tell"),
    ],
)
def test_a_url_loses_its_password(typed, text, password):
    url = DatabaseUrl(typed)
    assert (url, url.password) == (text, password)
    assert DatabaseUrl(url).password == password, "made of one, it still knows the password"
    assert pickle.loads(pickle.dumps(url)) == text
    assert pickle.loads(pickle.dumps(url)).password is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("--storage=postgresql://me:te@ll@h/x", "--storage=postgresql://me:***@h/x"),
        ("no host: postgres://me:tell me@h/x", "no host: postgres://me:***@h/x"),
        ("host=h password='a b' user=me", "host=h password=*** user=me"),
        ("postgresql://h/x?password=tell&user=me", "postgresql://h/x?password=***&user=me"),
        ("see https://example.org:80/page; folder:C:/data", "see https://example.org:80/page; folder:C:/data"),
    ],
)
def test_passwords_are_masked_in_any_text(text, masked):
    assert mask_passwords(text) == masked


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgres://me:{SECRET}@host/x", "write postgresql:// instead of postgres://"),
        (f"sqlite://me:{SECRET}@host/x", "leave it out to store the study in the run folder"),
        (f"mysql://me:{SECRET}@host/x", "PostgreSQL is the only database"),
        (f"me:{SECRET}@host/x", "is not of the form postgresql://user@host:port/database"),
        (f"host=localhost password={SECRET}", "is not of the form"),
        (f"postgresql://me@host/x?sslpassword={SECRET}", "cannot contain sslpassword"),
        (f"postgresql://me:{SECRET}@host:port/x", "the port must be a whole number"),
        (f"postgresql://me:{SECRET}@host:70000/x", "the port must lie between 1 and 65535"),
        (f"postgresql://me:{SECRET}@host", "names no database"),
    ],
)
def test_a_wrong_url_is_a_clear_error_without_its_password(url, said, capsys, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        check_database_url(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert cli.main(["search", "--storage", url, "--out", str(tmp_path / "run")]) == 4
    shown = capsys.readouterr()
    assert said in shown.err
    assert SECRET not in shown.out + shown.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["search", "URL"], ["search", "--reuse", "URL"], ["report", "URL"], ["URL"]])
def test_a_url_in_a_wrong_place_is_masked(words, capsys):
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/x"
    assert cli.main([url if word == "URL" else word for word in words]) in (4, 5)
    assert SECRET not in capsys.readouterr().err


def test_settings_never_show_a_password():
    settings, _ = read_settings({"storage": f"postgresql://me:{SECRET}@host/x"})
    assert settings.storage.password == SECRET
    shown = [
        repr(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        pickle.dumps(settings).decode("latin"),
    ]
    assert [text for text in shown if SECRET in text] == []
    with pytest.raises(InputError) as caught:
        read_settings({"storage": [f"postgresql://me:{SECRET}@host/x"]})
    assert SECRET not in str(caught.value)


def test_the_command_is_stored_without_its_password(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/nasbench", "search", "--storage", f"postgresql://me:{SECRET}@host/x"])
    told = describe_environment(SearchSettings())["command"]
    assert told == "nasbench search --storage postgresql://me:***@host/x"


def test_a_password_is_used_and_is_nowhere_to_be_found(server, tmp_path, monkeypatch, inline, capsys):
    """Typed, then by the environment, then from a file, then none; `compare` and `report` show none either."""
    told = []
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    search(tmp_path / "run", with_password(server), on_event=lambda event: told.append(event.message))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    search(tmp_path / "run", server.url, trials=4)
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "pgpass").write_text(f"*:*:*:nasbench:{SECRET}\n")
    (tmp_path / "pgpass").chmod(0o600)
    run = search(tmp_path / "run", server.url, trials=5)
    assert len(run.trials()) == 5
    (tmp_path / "pgpass").unlink()
    with pytest.raises(RunError, match="cannot use the database postgresql://nasbench@") as caught:
        search(tmp_path / "other", server.url)
    wrong = server.url.replace("nasbench@", f"nasbench:{SECRET}-not@")
    with pytest.raises(RunError, match="password authentication failed") as also:
        search(tmp_path / "other", wrong)
    assert not (tmp_path / "other").exists()
    search(tmp_path / "other", with_password(server), seed=1)
    assert cli.main(["compare", str(tmp_path / "run"), str(tmp_path / "other")]) == 0
    run.report()
    shown = capsys.readouterr()
    told += ["".join(traceback.format_exception(error.value)) for error in (caught, also)]
    assert SECRET not in "".join([shown.out, shown.err, repr(run.config), repr(run.settings), *told])
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


def test_an_old_run_whose_config_has_a_password_does_not_show_it(tmp_path):
    run = search(tmp_path / "run", None)
    text = run.folder.config.read_text()
    run.folder.config.write_text(text.replace("storage: null", f"storage: postgresql://me:{SECRET}@127.0.0.1:1/x"))
    old = load_run(tmp_path / "run")
    assert old.settings.storage == "postgresql://me@127.0.0.1:1/x"
    assert SECRET not in repr(old.config)
    assert len(old.trials()) == 3, "read from the folder, without a connection"


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_files_of_a_run_are_as_private_as_the_umask_says(tmp_path, mask):
    before = os.umask(mask)
    try:
        search(tmp_path / "run", None).report()
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"config.yaml", "environment.json", "journal.log", "report.html"} <= {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}


# -- outages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lose_commit(study, monkeypatch):
    """A function that lets the next commit fail, after the server has written it ("answer") or before ("question")."""
    dialect = study.storage._storage._backend.engine.dialect
    commit, next_one = dialect.do_commit, []

    def do_commit(connection):
        if not next_one:
            return commit(connection)
        if next_one.pop() == "answer":
            connection.commit()
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", do_commit)
    return next_one.append


@pytest.mark.parametrize("lost", ["answer", "question"])
def test_a_commit_whose_answer_is_lost_is_written_once(study, lose_commit, lost):
    """Each write is begun twice. The trial is one, its number 0, its end its own, attributes as set."""
    ledger, storage = SharedLedger(study.storage, study.name, DIRECTIONS, "me"), study.storage
    lose_commit(lost)
    assert ledger.add_trial(TrialState.RUNNING, {"plan": "plan", "claim": "plan"}) == 0
    lose_commit(lost)
    ledger.annotate_trial(0, reason="why")
    lose_commit(lost)
    assert ledger.end_trial(0, TrialState.COMPLETE, [0.5, 1.0])
    assert not ledger.end_trial(0, TrialState.COMPLETE, [0.5, 1.0]), "a new call finds it ended"
    lose_commit(lost)
    storage.set_study_user_attr(study.id, "latency", {"a": 1})
    lose_commit(lost)
    assert storage.get_study_user_attrs(study.id)["latency"] == {"a": 1}
    lose_commit(lost)
    (trial,) = ledger.trials()
    assert (trial.state, trial.values, trial.user_attrs["reason"]) == (TrialState.COMPLETE, [0.5, 1.0], "why")
    lose_commit(lost)
    assert ledger.add_trial(TrialState.FAIL, {"repeats": "plan"}) == 1
    assert len(ledger.trials()) == 2
    with quiet():
        named = {"storage": storage, "study_name": study.name + "'s", "directions": ["maximize"]}
        lose_commit(lost)
        assert optuna.create_study(**named, load_if_exists=True).trials == []
        assert optuna.create_study(**named, load_if_exists=True).trials == []
    assert [one.study_name for one in storage.get_all_studies()].count(study.name + "'s") == 1


def test_the_end_that_another_driver_wrote_is_not_taken_for_our_own(study, monkeypatch):
    """Ours was not written, and another driver has abandoned the trial meanwhile: the repeated call fails."""
    ours, theirs = (SharedLedger(study.storage, study.name, DIRECTIONS, name) for name in ("a", "b"))
    number = ours.claim_trial("plan", {"plan": "plan"})
    theirs.trials()
    inner = study.storage._storage
    write = inner.set_trial_state_values

    def raced(trial_id, state, values):
        monkeypatch.setattr(inner, "set_trial_state_values", write)
        theirs.annotate_trial(number, abandoned=True)
        theirs.end_trial(number, TrialState.FAIL)
        cut = OperationalError("COMMIT", {}, psycopg.OperationalError("the connection is lost"))
        raise optuna.exceptions.StorageInternalError from cut

    monkeypatch.setattr(inner, "set_trial_state_values", raced)
    assert not ours.close_trial(number, Evaluation("plan", "plan", 0, 0, "failed", reason="x"))


def test_connections_that_are_cut_again_and_again(study, server):
    """Four claims, attributes and evaluations, while all connections are ended ten times a second."""
    stop, cuts = threading.Event(), []

    def cut():
        while not stop.is_set():
            server.cut_connections()
            cuts.append(1)
            time.sleep(0.1)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        ledger = SharedLedger(study.storage, study.name, DIRECTIONS, "me")
        for number in range(4):
            assert ledger.claim_trial(f"plan {number}", {"plan": f"plan {number}"}) == number
            evaluation = Evaluation(
                f"plan {number}", f"plan {number}", 0, 0, "complete", metrics={"accuracy": number / 8, "cost": 1.0}
            )
            assert ledger.close_trial(number, evaluation)
            study.storage.set_study_user_attr(study.id, "latency", {"last": number})
    finally:
        stop.set()
        cutting.join()
    assert len(cuts) > 3
    assert [t.values for t in ledger.trials()] == [[number / 8, 1.0] for number in range(4)]
    assert study.storage.get_study_user_attrs(study.id)["latency"] == {"last": 3}


def test_a_search_outlives_a_restart_at_every_call(server, tmp_path, monkeypatch, inline):
    """The server is stopped before each of a search's evaluations, and comes back while the search writes it."""
    starting = []

    def stopping(plan):
        server.stop()
        starting.append(threading.Timer(0.2, server.start))
        starting[-1].start()
        return score(plan)

    told = []
    run = nb.search(
        SPACE, backbone="test_resnet", evaluate=stopping, objectives=DIRECTIONS, sampler="random", seeds=1, seed=3,
        out=tmp_path / "run", storage=server.url, trials=3, on_event=lambda event: told.append(event.message),
    )  # fmt: skip
    for timer in starting:
        timer.join()
    assert len(starting) == 3
    rows = run.trials()
    assert rows["state"].tolist() == ["complete"] * 3
    assert rows["plan_hash"].nunique() == 3


def test_waiting_for_a_database_is_said_and_ends(study, server, monkeypatch):
    monkeypatch.setattr(database, "OUTAGE_S", 0.3)
    monkeypatch.setattr(database, "_LONGEST_PAUSE_S", 0.1)
    told = []
    study.storage._say = told.append
    server.stop()
    try:
        with pytest.raises(optuna.exceptions.StorageInternalError):
            study.storage.get_all_trials(study.id)
    finally:
        server.start()
    (text,) = told
    # What the driver says depends on how far the server is: it refuses, or ends what it had accepted.
    assert text.startswith("the database does not answer ((psycopg.OperationalError) connection failed: ")
    assert text.endswith("; waiting for it, at most 0.3 s")


def test_what_waiting_does_not_mend_is_an_error_at_once(study, monkeypatch):
    """A statement that PostgreSQL refuses, and a password that was changed meanwhile."""
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.storage.set_study_user_attr(study.id, "x" * 1000, 1)
    monkeypatch.setenv("PGPASSWORD", "another")
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.storage.get_all_trials(study.id)


# -- the copy in the run folder ----------------------------------------------------------------------------------------


def records(storage, name, left_out=()):
    """What a study holds, by trial, without what is not copied."""
    trials = storage.get_all_trials(storage.get_study_id_from_name(name))
    return [
        (t.number, t.state, t.values, t.params, {k: v for k, v in t.user_attrs.items() if k not in left_out})
        for t in trials
    ]


def test_the_folder_has_a_copy_of_the_database(server, tmp_path, monkeypatch, inline):
    run = search(tmp_path / "run", server.url, seed=1)
    shared = RunJournal(
        run.folder, DIRECTIONS, run.config["identity"], writing=True, database=open_database(server.url)
    )
    there, name = shared.storage, shared.study_name(SEARCH)
    here = open_journal(run.folder.journal)
    assert records(here, SEARCH) == records(there, name, left_out=["items"])
    assert len(records(here, SEARCH)) >= 3
    text = run.folder.journal.read_text()
    assert TOKEN not in text
    assert HEARTBEAT not in text
    attributes = there.get_study_user_attrs(there.get_study_id_from_name(name))
    copied = here.get_study_user_attrs(here.get_study_id_from_name(SEARCH))
    assert copied == {k: v for k, v in attributes.items() if not k.startswith(HEARTBEAT)} != {}

    # a second refresh writes nothing, one more trial its own lines only
    shared.refresh_copy()
    assert run.folder.journal.read_text() == text
    search(tmp_path / "run", server.url, seed=1, trials=4)
    longer = run.folder.journal.read_text()
    assert longer.startswith(text)
    assert len(longer.splitlines()) - len(text.splitlines()) <= 6

    # another folder gets all of it, and items of trials that were never evaluated there
    joined = search(tmp_path / "joined", server.url, seed=1, trials=4)
    assert records(open_journal(joined.folder.journal), SEARCH) == records(there, name, left_out=["items"])
    assert all(joined.folder.items_file(row.plan_hash, row.seed).is_file() for row in joined.trials().itertuples())

    # reading connects to nothing
    def refused(*_, **__):
        raise AssertionError("connected")

    monkeypatch.setattr(psycopg, "connect", refused)
    monkeypatch.setattr(psycopg.Connection, "connect", refused)
    assert joined.trials().equals(load_run(tmp_path / "joined").trials())
    assert len(joined.trials()) == 4
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert not load_run(tmp_path / "joined").journal.is_shared


def test_running_trials_are_copied_and_end_in_the_copy(study, tmp_path):
    from nasbench.runs.folder import RunFolder
    from nasbench.runs.mirror import Mirror

    ledger = SharedLedger(study.storage, study.name, DIRECTIONS, "me")
    mirror = Mirror(RunFolder(tmp_path), study.storage, {SEARCH: study.name})
    number = ledger.claim_trial("plan", {"plan": "plan"})
    ledger.claim_trial("other", {"plan": "other"})
    mirror.write(mirror.read())
    journal = tmp_path / "journal.log"
    assert [row[1] for row in records(open_journal(journal), SEARCH)] == [TrialState.RUNNING] * 2
    ledger.close_trial(number, Evaluation("plan", "plan", 0, 0, "complete", metrics={"accuracy": 0.5, "cost": 1.0}))
    ledger.annotate_trial(1, rungs=[{"fidelity": 1}])
    mirror.write(mirror.read())
    copied = records(open_journal(journal), SEARCH)
    assert copied == records(study.storage, study.name)
    assert [row[1] for row in copied] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_database_that_was_reset_is_an_error_and_nothing_is_lost(server, tmp_path, inline):
    run = search(tmp_path / "run", server.url, seed=2)
    text = run.folder.journal.read_text()
    with psycopg.connect(server.url) as connection:
        connection.execute("update studies set study_name = 'gone' || study_id where study_name like 'search-%'")
    with pytest.raises(RunError, match="the database was replaced or reset; choose another --out, and add --reuse"):
        search(tmp_path / "run", server.url, seed=2)
    assert run.folder.journal.read_text() == text
    assert len(load_run(tmp_path / "run").trials()) == 3
