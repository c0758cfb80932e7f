"""Kill searches and restart their database, and check that nothing finished is lost or done twice.

    .venv/bin/python scripts/benchmarks/survival.py [--kills 40] [--restarts 20] [--seed 0]

The kills are spread over every combination of 1, 2 and 4 workers with a journal and a PostgreSQL database. In each
combination a search of a function (exploration and race) and a small trained search (exploration, further seeds,
controls, latency, report) are killed by SIGKILL at random moments and resumed by the same command until they are done.
The restarts happen during searches of a function: the server is stopped as by a crash and started again, or all its
connections are cut. A search must then end by itself, without a second command.

After each kill, every evaluation that was finished before is unchanged. At the end, each plan and seed is recorded
once, and the numbers of plans and of further seeds are those that were asked for. Needs Linux, and the programs of
PostgreSQL.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasbench.errors import NasbenchError
from nasbench.runs.database import open_database
from nasbench.runs.evaluation import Evaluation
from nasbench.runs.journal import RunJournal
from nasbench.runs.ledger import evaluation_of
from nasbench.runs.run import load_run
from nasbench.runs.schema import CONTROLS, FINALISTS, SEARCH
from scripts.benchmarks.paired import Table, command_line

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.postgresql import Server  # the tests' own means of starting servers and searches
from support.survival_host import Host

WORKERS = (1, 2, 4)
TRIALS, FURTHER = 24, 8
TRAINED_TRIALS, TRAINED_FURTHER = 5, 6
SHARING = {"BEAT_S": 0.5, "DEAD_S": 10.0}


@dataclass
class Case:
    """A search that is killed until it is done.

    Attributes:
        name: Its name in the table.
        folder: The folder of its run, its log and its calls.
        order: What the host is asked to start.
        plans: Number of plans in the end.
        further: Number of trainings with further seeds in the end.
        url: The URL of the database. None for a journal.
        kills: Number of kills, or of restarts of the server, so far.
        seconds: Seconds that the whole case took.
        phases: The phase in which each kill fell.
        faults: What was wrong.
    """

    name: str
    folder: Path
    order: dict[str, Any]
    plans: int
    further: int
    url: str | None
    kills: int = 0
    seconds: float = 0.0
    phases: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def rows(self) -> int:
        """Return the number of finished evaluations in the views."""
        file = self.run / "trials.jsonl"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def finished(self) -> dict[tuple[str, int], Evaluation]:
        """Return what the truth holds: every finished evaluation by study and number of its trial."""
        try:
            run = load_run(self.run)
        except NasbenchError:  # killed before the run was created
            return {}
        database = None if self.url is None else open_database(self.url)
        journal = RunJournal(
            run.folder, run.directions, run.config["identity"], writing=database is not None, database=database
        )
        known = {study.study_name: study._study_id for study in journal.storage.get_all_studies()}
        return {
            (name, trial.number): evaluation
            for name in (SEARCH, FINALISTS, CONTROLS)
            if journal.study_name(name) in known
            for trial in journal.storage.get_all_trials(known[journal.study_name(name)], deepcopy=False)
            if trial.state.is_finished() and (evaluation := evaluation_of(trial)) is not None
        }

    def check_kept(self, before: dict[tuple[str, int], Evaluation]) -> dict[tuple[str, int], Evaluation]:
        """Check that everything that was finished before is unchanged. Return what is finished now."""
        after = self.finished()
        lost = [key for key, evaluation in before.items() if after.get(key) != evaluation]
        if lost:
            self.faults.append(f"lost or changed: {lost}")
        return after

    def check_end(self) -> None:
        """Check that each plan and seed is there once, and that the budgets are exact."""
        done = self.finished()
        for name in (SEARCH, FINALISTS, CONTROLS):
            keys = [(one.plan_hash, one.seed) for (study, _), one in done.items() if study == name]
            if len(set(keys)) != len(keys):
                self.faults.append(f"{name}: a plan and seed is recorded twice")
            wanted = {SEARCH: self.plans, FINALISTS: self.further}.get(name, len(keys))  # controls follow from verdicts
            if len(keys) != wanted:
                self.faults.append(f"{name}: {len(keys)} evaluations, not {wanted}")
        run = load_run(self.run)
        of_reader = len(run.journal.evaluations(SEARCH, FINALISTS, CONTROLS))
        if of_reader != len(done):
            self.faults.append(f"a reader sees {of_reader} evaluations of {len(done)}")
        rows = (self.run / "trials.jsonl").read_text().splitlines()
        if len(rows) != len(run.evaluations()):
            self.faults.append(f"trials.jsonl has {len(rows)} rows for {len(run.evaluations())} evaluations")


def kill_until_done(host: Host, case: Case, kills: int, rng: random.Random, longest_s: float) -> None:
    """Start a search, kill it at a random moment, and so on for `kills` times. Then let it end.

    The moments are spread over the trainings: a random number of them later, and up to `longest_s` after that.
    """
    began, log = time.monotonic(), case.folder / "log"
    before: dict[tuple[str, int], Evaluation] = {}
    while case.kills < kills:
        search = host.start(log, **case.order)
        later = rng.randint(0, 1 + (case.plans + case.further) // kills)
        wait_for_rows(case, search, min(case.rows() + later, case.plans + case.further))
        time.sleep(rng.uniform(0, longest_s))
        if not alive(search):
            break  # it was done before: this search has no moment left to be killed at
        os.kill(search, signal.SIGKILL)
        host.wait(search)
        if not host.rest():
            case.faults.append("a process is left after a kill")
        case.kills += 1
        case.phases.append(last_phase(log))
        before = case.check_kept(before)
    else:
        search = host.start(log, **case.order)
    code = host.wait(search)
    if code != 0:
        case.faults.append(f"ended with exit code {code}: {log.read_text()[-300:]}")
    case.check_kept(before)
    case.check_end()
    case.seconds = time.monotonic() - began


def restart_until_done(host: Host, case: Case, server: Server, restarts: int, rng: random.Random) -> None:
    """Stop and start the server, or cut its connections, during one search, which must end by itself."""
    began, log = time.monotonic(), case.folder / "log"
    search = host.start(log, **case.order)
    wait_for_rows(case, search, 1)
    while case.kills < restarts and alive(search):
        time.sleep(rng.uniform(0.2, 1.0))
        if rng.random() < 0.5:
            server.stop()
            time.sleep(rng.uniform(0, 0.5))
            server.start()
        else:
            server.cut_connections()
        case.kills += 1
    code = host.wait(search)
    if code != 0:
        case.faults.append(f"ended with exit code {code}: {log.read_text()[-300:]}")
    if case.kills < restarts:
        case.faults.append(f"it was done after {case.kills} restarts")
    case.check_end()
    case.seconds = time.monotonic() - began


def alive(process: int) -> bool:
    """Whether a process still runs. A process that has ended but was not waited for does not count."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def wait_for_rows(case: Case, search: int, rows: int, most_s: float = 300.0) -> None:
    """Wait until a search has finished this number of evaluations, or has ended."""
    end = time.monotonic() + most_s
    while case.rows() < rows and alive(search) and time.monotonic() < end:
        time.sleep(0.01)


def last_phase(log: Path) -> str:
    """Return the phase in which a search was killed, from its last message."""
    lines = [line.split()[0] for line in log.read_text().splitlines() if line.strip()]
    if not lines:
        return "start"
    return "report" if lines[-1] == "building" else lines[-1]


def function_case(folder: Path, name: str, workers: int, url: str | None, seed: int, pause_s: float = 0.05) -> Case:
    """Return a search of a function: exploration, then a race."""
    folder.mkdir()
    settings = {
        "out": str(folder / "run"), "workers": workers, "trials": TRIALS, "storage": url, "seed": seed, "seeds": 8,
        "refine": FURTHER,
    }  # fmt: skip
    order = {"calls": str(folder / "calls"), "pause_s": pause_s, "items": True, "sharing": SHARING, "search": settings}
    return Case(name, folder, {**order, "narrate": True}, TRIALS, FURTHER, url)


def trained_case(folder: Path, name: str, workers: int, url: str | None, seed: int, images: Path) -> Case:
    """Return a search that trains: exploration, further seeds, controls, latency and the report."""
    folder.mkdir()
    command = ["search", "tiny", "--backbone", "test_resnet", "--task", f"folder:{images}", "--size", "32"]
    command += ["--trials", str(TRAINED_TRIALS), "--refine", str(TRAINED_FURTHER), "--sampler", "random"]
    command += ["--set", "epochs=1", "--set", "latency_s=1", "--workers", str(workers), "--seed", str(seed)]
    command += ["--out", str(folder / "run"), *(["--storage", url] if url else [])]
    return Case(name, folder, {"command": command, "sharing": SHARING}, TRAINED_TRIALS, TRAINED_FURTHER, url)


def write_images(folder: Path) -> None:
    """Write 40 small images in two classes."""
    draw = np.random.default_rng(0)
    for name, mean in (("light", 160), ("dark", 80)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.normal(mean, 40, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@contextmanager
def host_and_server() -> Iterator[tuple[Host, Server]]:
    """Start the host of the searches and a server of our own. Both end with the context."""
    host, server = Host(), Server()
    try:
        yield host, server
    finally:
        host.close()
        server.close()


def shares(total: int, parts: int) -> list[int]:
    """Divide a number into almost equal whole parts."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def main() -> int:
    """Run all cases and print the table. Return 1 if anything was wrong."""
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    table = Table({"search": "<26", "storage": "<10", "workers": ">7", "rounds": ">6", "s": ">5", "killed in": "<50"})
    table.print_head()
    cases: list[Case] = []

    def add(case: Case, storage: str, workers: int) -> None:
        cases.append(case)
        phases = ", ".join(f"{name} {case.phases.count(name)}" for name in dict.fromkeys(case.phases))
        table.print_row(case.name, storage, str(workers), str(case.kills), f"{case.seconds:.0f}", phases)
        for fault in case.faults:
            sys.stdout.write(f"    WRONG: {fault}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder, host_and_server() as (host, server):
        root = Path(folder)
        write_images(root / "images")
        places = [(workers, url) for workers in WORKERS for url in (None, server.url)]
        for number, kills in enumerate(shares(given.kills, 2 * len(places))):
            if kills == 0:
                continue
            workers, url = places[number // 2]
            at = root / f"case-{number}"
            if number % 2 == 0:
                case = function_case(at, "function, killed", workers, url, given.seed + number)
                kill_until_done(host, case, kills, rng, longest_s=1.0)
            else:
                case = trained_case(at, "trained, killed", workers, url, given.seed + number, root / "images")
                kill_until_done(host, case, kills, rng, longest_s=8.0)
            add(case, "journal" if url is None else "PostgreSQL", workers)
        for number, restarts in enumerate(shares(given.restarts, len(WORKERS))):
            if restarts == 0:
                continue
            workers = WORKERS[number]
            at, name, seed = root / f"restart-{number}", "function, server restarted", given.seed + 100 + number
            case = function_case(at, name, workers, server.url, seed, pause_s=0.4)
            restart_until_done(host, case, server, restarts, rng)
            add(case, "PostgreSQL", workers)
    wrong = sum(len(case.faults) for case in cases)
    sys.stdout.write(f"{sum(case.kills for case in cases)} rounds, {wrong} faults\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
