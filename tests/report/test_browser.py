"""The report in a real browser: no console error, no request, the interactive front answers, nothing is injected."""

# ruff: noqa: E501

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from typing import ClassVar

import numpy as np
import pytest
from matplotlib.figure import Figure

import nasbench as nb
from nasbench import report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"

PROBE = """
<script>
addEventListener("error", (event) => { (window.faults ||= []).push(String(event.message)); });
addEventListener("load", () => setTimeout(() => {
  const all = document.querySelectorAll("#explorer .point[tabindex]");
  const before = all.length;
  const ticks = [...document.querySelectorAll("#explorer svg text[y='388']")].map((each) => each.textContent);
  const heights = [...document.querySelectorAll("#explorer svg text[text-anchor='end']")].map((each) => each.textContent);
  all[0].dispatchEvent(new Event("focus"));
  const row = document.querySelector(".details").textContent;
  const lists = document.querySelectorAll("#explorer select");
  lists[2].value = "se";
  lists[2].dispatchEvent(new Event("change"));
  const after = document.querySelectorAll("#explorer .point[tabindex]").length;
  lists[2].value = "";
  lists[2].dispatchEvent(new Event("change"));
  lists[0].value = "accuracy";
  lists[0].dispatchEvent(new Event("change"));
  const table = document.querySelector("table[data-filter]");
  const column = (title) => {
    const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === title);
    return [...table.tBodies[0].rows].filter((line) => !line.hidden).map((line) => line.cells[at].textContent);
  };
  const titles = [...table.tHead.rows[0].cells];
  const standing = titles.find((cell) => cell.textContent === "standing");
  const words = document.querySelector("input[type=search]");
  const filtered = (text) => { words.value = text; words.dispatchEvent(new Event("input")); return column("standing"); };
  const failed = filtered("failed");
  const everything = filtered("");
  const typed = filtered("stage1=ECA").length;
  const json = filtered('{"stage1": "eca"}').length;
  filtered("");
  const costs = titles.find((cell) => cell.textContent === "macs").querySelector("button");
  costs.click();
  const up = column("trial");
  costs.click();
  const down = column("trial");
  document.body.dataset.probe = JSON.stringify({
    failed, typed, json, heights, everything: everything.length, up, down, sorted: titles.map((cell) => cell.getAttribute("aria-sort")),
    first: [...table.tHead.rows[0].cells].slice(0, 2).map((cell) => cell.getBoundingClientRect().right),
    chips: table.querySelectorAll(".plan .module").length, stills: getComputedStyle(document.querySelector(".still")).display,
    ink: getComputedStyle(document.body).color, chart: getComputedStyle(document.querySelector("img.chart")).filter,
    charts: [...document.querySelectorAll("figure img.chart")].map((each) => each.getBoundingClientRect().width).filter((width) => width),
    before, after, row, ticks, faults: window.faults || [], hacked: window.hacked || 0,
    axis: document.querySelector("#explorer .axis").textContent,
    wide: document.documentElement.scrollWidth - window.innerWidth,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
  });
}, 200));
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    def score(plan):
        if len(plan) == 2:
            raise ValueError(EVIL)
        # The ticks are multiples of 0.05 from -0.15 to 0, of which no sum of steps is exactly 0.
        return {
            "accuracy": 0.04 - 0.01 * len(str(plan)) % 0.05 if plan else -0.16,
            "macs": 60_360_000.0 + len(str(plan)),
        }

    run = nb.search(
        {"variants": ["se", "eca", "dual_pool"], "slots": ["stage1", "stage2"], "name": EVIL},
        backbone="test_resnet", evaluate=score, trials=16, sampler="random",
        objectives={"accuracy": "maximize", "macs": "minimize"}, out=tmp_path_factory.mktemp("runs") / "r",
    )  # fmt: skip
    text = report.build(run).read_text(encoding="utf-8")
    return run, text.replace("<body>", "<body>" + PROBE, 1)


class Server(http.server.BaseHTTPRequestHandler):
    page = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        type(self).asked.append(self.path)
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page if self.path == "/" else b"")

    def log_message(self, *args):
        pass


def browse(text, tmp_path, size, dark=False):
    """Load a page over HTTP from this machine and return the DOM after its scripts ran, and what was asked for."""
    handler = type("Handler", (Server,), {"page": text.encode(), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
                 f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}", "--virtual-time-budget=6000"]  # fmt: skip
        words += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        url = f"http://127.0.0.1:{server.server_port}/"
        done = subprocess.run(
            [*words, "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        server.shutdown()
    assert not re.findall(r"CONSOLE.*(?:rror|refused)", done.stderr), done.stderr
    found = re.search(r'data-probe="(.*?)"', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    answer = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return answer, [path for path in handler.asked if path not in ("/", "/favicon.ico")]


@pytest.mark.parametrize(("size", "dark"), [("1280,900", False), ("390,800", True)], ids=["desktop", "phone and dark"])
def test_the_page_works(page, tmp_path, size, dark):
    run, text = page
    answer, asked = browse(text, tmp_path, size, dark)
    trials = run.trials()
    assert answer["before"] == (trials["state"] == "complete").sum()
    with_se = trials[(trials["state"] == "complete") & trials["plan"].str.contains('"se')]
    assert answer["after"] == len(with_se)
    assert "accuracy" in answer["row"]
    assert "macs" in answer["row"]
    assert answer["axis"] == "accuracy"
    states = trials.drop_duplicates("plan_hash").set_index("number")
    assert set(answer["failed"]) == {"failed"}
    assert len(answer["failed"]) == (states["state"] == "failed").sum() > 0
    assert answer["everything"] == len(states)
    assert answer["typed"] == answer["json"] == 1 + 3  # in stage1 alone, and with each module in stage2
    assert answer["heights"] == ["-0.15", "-0.1", "-0.05", "0"]
    for order, sign in ((answer["up"], 1), (answer["down"], -1)):
        costs = [states.loc[int(number), "macs"] for number in order if states.loc[int(number), "state"] == "complete"]
        assert costs == sorted(costs, key=lambda cost: sign * cost)
        assert all(states.loc[int(number), "state"] == "failed" for number in order[len(costs) :])  # without a cost
    assert answer["sorted"].count("descending") == 1
    assert max(answer["first"]) <= int(size.split(",")[0])  # the metric and the verdict are seen without scrolling
    assert answer["chips"] > 0
    assert answer["stills"] == "none"  # the interactive front shows the same
    assert (answer["ink"] == "rgb(230, 237, 243)") == dark
    assert answer["chart"].startswith("invert") == dark
    places = [float(text.removesuffix("M")) * 1e6 for text in answer["ticks"]]  # of nearly equal costs
    assert len(places) > 2
    assert np.ptp(np.diff(places)) < 1e-3
    assert places[0] != places[-1]
    assert min(answer["charts"]) > 500  # their text can be read on a phone, where they are scrolled
    assert answer["faults"] == []
    assert answer["hacked"] == 0
    assert answer["requests"] == []
    assert asked == []
    assert answer["wide"] <= 1, "the page is wider than the screen"


def test_the_page_in_print_and_without_scripts(page, tmp_path):
    """On paper and without scripts the page has the still picture, and all rows of every table."""
    _, text = page
    probe = (
        "const of = (name) => getComputedStyle(document.querySelector(name)).display;"
        "document.body.dataset.probe = JSON.stringify({still: of('.still'), explorer: of('#explorer'), "
        "unit: getComputedStyle(document.querySelector('td.number:not(.interval)')).whiteSpace,"
        "wide: document.documentElement.scrollWidth - innerWidth, ink: getComputedStyle(document.body).color,"
        "cut: [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > innerWidth).length});"
    )
    paper = text.replace("@media print", "@media all").replace("@media screen", "@media speech")
    paper = paper.replace(
        PROBE, f"<script>addEventListener('load', () => setTimeout(() => {{{probe}}}, 200));</script>"
    )
    answer, asked = browse(paper, tmp_path, "1040,800", dark=True)
    assert answer.pop("wide") <= 0
    # A number is on the line of its unit.
    assert answer == {"still": "grid", "explorer": "none", "ink": "rgb(27, 31, 36)", "cut": 0, "unit": "nowrap"}
    assert asked == []


def test_a_thousand_trials_stay_under_three_megabytes(tmp_path, monkeypatch):
    save = Figure.savefig  # the page holds the SVG alone
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, file, **more: save(figure, file, **more) if file.suffix == ".svg" else file.touch(),
    )
    run = nb.search(
        {"variants": ["se", "eca", "cbam", "dual_pool", "sk", "mixconv", "coord_attention"], "slots": ["stages", "stage4.block1"]},
        backbone="test_resnet", evaluate=lambda plan: {"accuracy": len(str(plan)) % 97 / 97, "macs": float(len(str(plan)) * 7 % 9973 + 1)},
        trials=1000, sampler="random", objectives={"accuracy": "maximize", "macs": "minimize"}, out=tmp_path / "big",
    )  # fmt: skip
    assert len(run.trials()) >= 1000
    assert report.build(run).stat().st_size < 3_000_000
