import html.parser
import json
import re
import shlex
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import nasbench as nb
from nasbench import cli, report
from nasbench.errors import InputError, NothingMatched
from nasbench.report import scatter
from nasbench.report.explorer import explorer_data
from nasbench.report.formatting import plan_name
from nasbench.report.page import command_of, page_of
from nasbench.runs.command_line import command_line
from nasbench.runs.run import load_run
from nasbench.runs.settings import NOT_WITH_PLANS, SearchSettings, read_settings

SPACE = {"variants": ["se", "eca", "dual_pool"], "slots": ["stage1", "stage2"]}
EVIL = "<script>alert('x')</script> & \"quotes\""


def score(plan, seed):
    if plan.get("stage2") == "dual_pool":
        raise ValueError(EVIL)
    noise = np.random.default_rng([seed, len(str(plan))]).normal() * 0.001
    return {"accuracy": 0.8 + 0.05 * len(plan) + noise, "macs": 100.0 * (1 + sum(map(len, plan.values())))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return nb.search(
        SPACE,
        backbone="test_resnet",
        evaluate=score,
        trials=16,
        seeds=2,
        objectives={"accuracy": "maximize", "macs": "minimize"},
        sampler="random",
        constraints=["macs<=9x"],
        out=tmp_path_factory.mktemp("runs") / "r",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_data, brief_latency):
    """A real, very small search with training."""
    return nb.search(
        {"variants": ["se", "dual_pool"], "slots": ["stage1"]},
        backbone="test_resnet",
        task="digits",
        trials=3,
        seeds=2,
        sampler="random",
        training={"epochs": 1},
        latency_s=1.0,
        out=tmp_path_factory.mktemp("runs") / "trained",
    )


class Reader(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.documents, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        self.documents += [value for key, value in attrs if key == "srcdoc"]

    def handle_data(self, data):
        self.text += data


def test_scatter_data_by_hand(run):
    data = scatter.scatter_data(run, "macs", "accuracy")
    assert data is not None
    points = data.points.set_index("plan")
    assert points.loc["{}", "kind"] == "bare"
    assert points.loc["{}", "x"] == 100.0
    assert (data.points["kind"] == "front").any()
    complete = run.trials().query("state == 'complete'")["plan_hash"].nunique()
    assert len(data.points) == complete
    front = data.front
    assert front["x"].is_monotonic_increasing
    assert front["y"].is_monotonic_increasing
    assert scatter.scatter_data(run, "latency_ms", "accuracy") is None
    several = run.finalists().query("seeds > 1 and plan != '{}'")["number"]
    assert set(data.points.dropna(subset=["low"])["number"]) == set(several)  # of the seeds, which are all the noise


def test_the_interactive_front_has_the_same_bars(trained):
    data = scatter.scatter_data(trained, "macs", "accuracy")
    assert scatter.draw_scatter(data).axes[0].get_legend().get_title().get_text() == scatter.BARS
    drawn, points = data.points.set_index("number"), explorer_data(trained)["points"]
    for point in points:
        if point["several"] and point["kind"] != "bare":
            expected = drawn.loc[point["number"], ["low", "high"]].astype(float).tolist()
            assert [point["low"], point["high"]] == pytest.approx(expected, rel=1e-5)
        else:
            assert point["low"] is point["high"] is None
    assert any(point["low"] is not None for point in points)


def test_the_page_is_one_offline_file_and_escapes_everything(run):
    page = report.build(run)
    text = page.read_text()
    reader = Reader(text)
    assert reader.tags.count("script") == 2  # the page's own: the data of the interactive front, and its script
    assert "<script>alert" not in text
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.sources)
    namespace = "http://www.w3.org/2000/svg"  # a name, never fetched
    assert not re.search(r"https?://", text.split("<svg")[0].replace(namespace, ""))
    assert EVIL in reader.text
    assert "breaks macs<=9x" in reader.text
    assert "test_resnet" in reader.text
    for name in ("accuracy-macs.svg", "accuracy-macs.png", "accuracy-macs.pdf", "accuracy-macs.csv"):
        assert (run.path / "figures" / name).stat().st_size > 500


def test_tables_hold_the_front_and_every_failure(run):
    page = page_of(run, {}, {})
    tables = {table.title: table for table in page.tables}
    rows, finalists = run.trials(), run.finalists()
    assert set(page.front.texts("plan")) == {"bare backbone", *finalists["plan"]} - {"{}"}
    every = tables["All plans"]
    assert set(every.texts("plan")) == {"bare backbone", *rows["plan"]} - {"{}"}
    assert [column.title for column in every.columns][:2] == ["accuracy [95 %]", "verdict"]  # a phone shows these
    standing = Counter(every.texts(every.filter))
    assert standing["failed"] == rows.query("state == 'failed'")["plan_hash"].nunique() > 0
    assert standing["rejected"] == rows.query("state == 'rejected'")["plan_hash"].nunique() > 0
    assert standing["on the front"] + standing["compared"] == len(finalists) - 1
    known = [row.cells[0].value for row in every.rows if row.cells[0].value is not None]
    assert known == sorted(known, reverse=True)
    for title, state in (("Failed", "failed"), ("Rejected after evaluation", "rejected")):
        assert sum(map(int, tables[title].texts("count"))) == (rows["state"] == state).sum()
    assert tables["Failed"].texts("reason") == [f"ValueError: {EVIL}"]  # one row, because the reasons are equal
    assert sum(row.bare for row in page.front.rows) == sum(row.bare for row in every.rows) == 1
    # the constraint is on a returned value, so no plan was rejected before it was evaluated
    assert not {"Rejected before evaluation", "Stopped early: successive halving"} & tables.keys()


def test_a_rejection_is_told_by_whether_the_plan_was_evaluated(tmp_path):
    """Known macs reject unasked, a returned heat after the call."""
    given = nb.search(
        plans=["stage1=se", "stage2=se", "stage1=eca"], backbone="test_resnet", seeds=1, report=False,
        objectives={"accuracy": "maximize"}, constraints=["macs<=15", "heat<=1"], out=tmp_path / "r",
        known=lambda plan: {"macs": 20.0 if "stage2" in plan else 10.0},
        evaluate=lambda plan: {"accuracy": 0.5, "heat": 2.0 if "eca" in plan.values() else 1.0},
    )  # fmt: skip
    page = page_of(given, {}, {})
    tables = {table.title: table for table in page.tables}
    assert tables["Rejected before evaluation"].texts("reason") == ["macs 20 breaks macs<=15 (limit 15)"]
    assert tables["Rejected after evaluation"].texts("reason") == ["heat 2 breaks heat<=1 (limit 1)"]
    every = tables["All plans"]
    assert sorted(every.texts(every.filter))[-2:] == ["rejected", "rejected"]
    assert not [alert for alert in page.alerts if alert.label == "rejected"]  # 2 of 4 are not most
    assert "Stopped early: successive halving" not in tables


def test_the_bare_backbone_alone(tmp_path):
    alone = nb.search(
        SPACE, backbone="test_resnet", evaluate=lambda plan: {"accuracy": 0.5}, trials=1, seeds=1,
        objectives={"accuracy": "maximize"}, out=tmp_path / "r",
    )  # fmt: skip
    assert page_of(alone, {}, {}).answer == (
        "Nothing can be compared, because only the bare backbone has a result.", "1 plan was evaluated."
    )  # fmt: skip


def test_each_table_is_a_file_for_a_paper_too(run):
    report.build(run)
    for table in page_of(run, {}, {}).tables:
        stem = "-".join(re.findall("[a-z0-9]+", table.title.lower()))
        files = {ending: run.path / "tables" / f"{stem}.{ending}" for ending in ("csv", "md", "tex")}
        held = pd.read_csv(files["csv"], dtype=str, keep_default_na=False)
        assert list(held) == [column.title for column in table.columns]
        assert held.to_numpy().tolist() == [[cell.text for cell in row.cells] for row in table.rows]
        assert len(files["md"].read_text().splitlines()) == 2 + len(table.rows)
        tex = files["tex"].read_text()
        assert "\\toprule" in tex
        assert tex.count("\\\\\n") == 1 + len(table.rows)


def test_a_table_that_is_no_more_leaves_no_file(run):
    report.build(run)
    files = sorted((run.path / "tables").iterdir())
    (run.path / "tables" / "of-before.csv").write_text("")
    report.build(run)
    assert sorted((run.path / "tables").iterdir()) == files


def test_building_again_changes_nothing(run):
    first = report.build(run).read_text()
    assert report.build(load_run(run.path)).read_text() == first


def test_a_run_without_trials(tmp_path, run):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text((run.path / "config.yaml").read_text())
    with pytest.raises(NothingMatched, match="no finished trial"):
        report.build(load_run(empty))


def test_the_test_split_is_opened_by_the_report_alone_and_once(trained, monkeypatch):
    assert not (trained.path / "test.json").exists()
    report.build(trained)
    known = json.loads((trained.path / "test.json").read_text())
    shown = set(trained.front()["plan_hash"]) | {nb.Plan.of(None).hash}
    numbers = {int(f.stem.split("-")[1]) for f in (trained.path / "models").iterdir()}
    assert set(trained.front()["number"]) <= numbers  # else the front's plans could not be opened
    assert set(known["plans"]) == shown
    monkeypatch.setattr("nasbench.training.loop.evaluate", lambda *a, **k: pytest.fail("opened again"))
    text = Reader(report.build(trained).read_text()).text
    assert "The test split was used" in text
    assert "test accuracy" in text


def test_latency_stands_beside_macs(trained):
    report.build(trained)
    assert (trained.path / "figures" / "accuracy-latency_ms.svg").is_file()
    rows = trained.trials()
    assert rows.loc[rows["plan"] == "{}", "latency_ms"].gt(0).all()
    assert "side by side" in Reader((trained.path / "report.html").read_text()).text


def test_what_could_not_be_told_apart_is_said(trained):
    finalists = trained.finalists()
    assert set(finalists["verdict"]) <= {"BARE", "BETTER", "WORSE", "NOT DECIDED"}
    page = page_of(trained, {}, {})
    open_ = (finalists["verdict"] == "NOT DECIDED").sum()
    assert (f"{open_} NOT DECIDED" in " ".join(page.answer)) == bool(open_)
    table = page.front
    told = dict(zip(table.texts("plan"), table.texts("needed for a verdict"), strict=True))
    for row in finalists.to_dict(orient="records"):
        expected = "" if np.isnan(row["more_seeds"]) else f"{row['more_seeds']:.0f} more seed"
        assert told[plan_name(row["plan"])].startswith(expected)
        assert (told[plan_name(row["plan"])] != "") == (row["verdict"] == "NOT DECIDED")


def test_the_kept_model_is_the_trained_one(trained):
    from nasbench.study.problem import make_problem
    from nasbench.training.loop import evaluate

    number = int(trained.front()["number"].iloc[0])
    task = make_problem(trained.settings).evaluator.task
    metrics, _ = evaluate(trained.build(number), task, "val")
    rows = trained.trials()
    recorded = rows[(rows["number"] == number) & (rows["seed"] == 0)]["accuracy"].iloc[0]
    assert metrics["accuracy"] == pytest.approx(recorded, abs=1e-6)


def test_the_same_seed_gives_the_same_metrics(trained, tmp_path):
    again = nb.search(
        {"variants": ["se", "dual_pool"], "slots": ["stage1"]},
        backbone="test_resnet", task="digits", trials=2, seeds=1, sampler="random", training={"epochs": 1},
        latency_s=0.0, out=tmp_path / "again",
    )  # fmt: skip
    first = trained.trials().query("seed == 0").head(2)
    assert again.trials()["accuracy"].tolist() == first["accuracy"].tolist()
    assert again.trials()["plan"].tolist() == first["plan"].tolist()


def read_back(command, monkeypatch):
    """What the command, typed again, tells a search."""
    told = {}

    def listen(**given):
        told.update(given)
        raise InputError("heard")

    monkeypatch.setattr("nasbench.study.search.search", listen)
    assert cli.main(shlex.split(command)[1:]) == 4
    kept = {key: value for key, value in told.items() if key in SearchSettings.model_fields}
    return read_settings(kept)[0]


def test_the_command_reproduces_the_identity(trained, monkeypatch):
    again = read_back(command_of(trained), monkeypatch)
    assert list(again.objectives) == list(trained.settings.objectives)  # their directions are the task's
    for name in set(SearchSettings.model_fields) - {"space", "training", "device", "objectives"}:
        assert getattr(again, name) == getattr(trained.settings, name), name
    assert again.training == {"epochs": "1"}


def test_the_command_gives_every_setting_back(monkeypatch):
    """Each setting that can change what comes of a search, at a value that is not its default."""
    changed = {
        "backbone": "test_vit", "task": "csv:a b.csv", "trials": 7, "objectives": {"mse": "", "params": ""},
        "learn": "moco",
        "constraints": ("params<=1.1x", "macs<=2x"), "atlas": True, "sampler": "tpe",
        "seed": 5, "seeds": 2, "refine": 4,
        "until": "first", "size": 48, "lookback": 48, "horizon": 12, "fill": "linear", "covariates": True,
        "groups": "g.csv", "dates": "dayfirst", "series": ("a", "b"), "target": "a",
            "head": "fcn", "neck": "fpn", "ignore": 11, "scale": 3,
        "checkpoint": "w.pt", "pretrained": True, "freeze": "backbone", "modules": ("a.py", "b"), "latency_s": 3.0,
        "latency_profile": "h.json", "proxies": ("naswot", "zico"), "halving": 3, "halving_epochs": 2,
        "halving_slow_epochs": 4, "controls": False, "allow_lower_bound": True, "keep": "all", "reuse": "runs/a",
    }  # fmt: skip
    reproduced = {n for n in SearchSettings.model_fields if command_line(n).reproduce != "never"}
    assert set(changed) == reproduced - {"plans"}  # they exclude others
    settings = SearchSettings.model_validate(changed | {"space": "forecasting"})
    assert not any(getattr(settings, n) == f.default for n, f in SearchSettings.model_fields.items() if n in changed)
    run = SimpleNamespace(settings=settings, config={"task": {"recipe_changes": {"epochs": 3}}})
    again = read_back(command_of(run), monkeypatch)
    assert again == settings.model_copy(update={"training": {"epochs": "3"}})
    given = {name: value for name, value in changed.items() if name not in NOT_WITH_PLANS}
    run.settings = SearchSettings.model_validate(given | {"plans": ("stage1=se", "eca")})
    again = read_back(command_of(run), monkeypatch)
    assert again == run.settings.model_copy(update={"training": {"epochs": "3"}})


def test_an_error_bar_is_of_the_difference():
    """The bar of a plan at 0.9 stands where the bare backbone's 0.8 plus the interval of the difference is."""
    row = {"plan": "se", "seeds": 3, "acc": 0.9, "acc_low": 0.5, "acc_high": 1.0,
           "difference": 0.1, "difference_low": 0.02, "difference_high": 0.17}  # fmt: skip
    assert scatter.error_bar(row, "acc") == pytest.approx((0.82, 0.97))
    assert scatter.error_bar(row | {"difference": np.nan}, "acc") == (0.5, 1.0)
    for none in ({"seeds": 1}, {"plan": "{}"}):
        assert np.isnan(scatter.error_bar(row | none, "acc")).all()


def test_a_run_builds_its_own_report(run):
    page = run.report()
    assert page == report.build(run) == run.path / "report.html"
    frame = Reader(page._repr_html_())
    assert frame.tags == ["iframe"]
    assert frame.documents == [page.read_text()]
    assert page.parent._repr_html_() is None  # a folder is no page


def test_a_notebook_shows_the_answer_and_the_compared_plans(run, tmp_path):
    shown = Reader(run._repr_html_())
    assert page_of(run, {}, {}).answer[0].split(" (trial")[1] in shown.text
    assert shown.tags.count("tr") == 1 + len(run.finalists())
    assert "script" not in shown.tags
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text((run.path / "config.yaml").read_text())
    assert load_run(tmp_path / "empty")._repr_html_() == "<p>empty: no finished trial</p>"


@pytest.mark.parametrize("wanted", [True, False])
def test_a_search_builds_the_report_unless_told_not_to(tmp_path, monkeypatch, wanted):
    monkeypatch.setattr("nasbench.study.search._build_report", nb.build_report)
    found = nb.search(
        SPACE, backbone="test_resnet", evaluate=lambda plan: {"accuracy": 0.5}, trials=1, seeds=1, report=wanted,
        objectives={"accuracy": "maximize"}, out=tmp_path / "r",
    )  # fmt: skip
    assert (found.path / "report.html").is_file() == wanted
