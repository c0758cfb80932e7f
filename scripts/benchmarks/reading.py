"""Time and memory of reading a run, by its number of trials.

    .venv/bin/python scripts/benchmarks/reading.py [--trials 1000 2500 5000 10000]

For each number, a run is written by the code that a search writes with: plans of the space five-properties in
test_resnet. Four of them and the bare backbone have five seeds, which is the longest race. Then each kind of reading
runs in a process of its own, and prints its processor time without imports and the peak memory of its process.

load    `load_run(...)` and its evaluations
front   `load_run(...).front()`
runs    the row of `nasbench runs`
report  `nasbench report`, with plots, tables and page

"growth" is the time divided by that of the first number of trials, per trial. 1 is linear growth.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = ("load", "front", "runs", "report")
COMPARED, SEEDS = 4, 5


def write(folder: Path, trials: int) -> None:
    """Write a run with this number of trials, as the ledger of a search does, and its views."""
    from optuna.samplers import RandomSampler

    from nasbench.backbones.slot_cache import slots_by_name
    from nasbench.library.plan import BARE, Plan
    from nasbench.runs.evaluation import Evaluation
    from nasbench.runs.ledger import state_of
    from nasbench.runs.run import create_run
    from nasbench.runs.schema import FINALISTS, SEARCH
    from nasbench.runs.settings import SearchSettings
    from nasbench.spaces import load_space
    from nasbench.study.phases.proposer import Proposer
    from nasbench.study.samplers import Knowledge  # noqa: F401  # the package that registers the samplers

    rng = random.Random(0)
    space = load_space("five-properties").resolve(slots_by_name("test_resnet", (3, 64, 64)))
    objectives = {"accuracy": "maximize", "macs": "minimize"}
    settings = SearchSettings(
        space="five-properties", backbone="test_resnet", task="digits", objectives=objectives, trials=trials
    )
    config = {
        "schema_version": 1, "created": "2026-01-01T00:00:00+00:00", "settings": settings.model_dump(mode="json"),
        "origins": {}, "objectives": objectives, "identity": {"data": {"evaluate": "function"}},
        "space": {
            "name": "five-properties", "plans": space.count, "slots": [slot.slot for slot in space.slots],
            "excluded": [],
        },
        "task": None,
    }  # fmt: skip
    run = create_run(folder, config, {})
    proposer = Proposer(space.parameters, list(objectives.values()), lambda number: RandomSampler(seed=number))
    plans: dict[str, Plan] = {BARE.hash: BARE}
    while len(plans) < trials:
        plan = space.sample_unseen(rng, plans.keys())
        assert plan is not None
        plans[plan.hash] = plan

    def record(stage: str, number: int | None, seed: int, key: str) -> None:
        plan = plans[key]
        metrics = {"accuracy": rng.gauss(0.9 + 0.01 * len(plan), 0.02), "macs": 1e6 * (1 + rng.random() * len(plan))}
        one = Evaluation(plan.text, key, seed, 1, "complete", metrics=metrics, wall_s=1.0, training_s=0.9)
        attrs: dict[str, Any] = {
            "plan": plan.text,
            "claim": key if number is None else f"{key}:{seed}",
            "evaluation": one.to_dict(),
        }
        proposal = proposer.fixed(space.params(plan)) if number is None else None
        attrs |= {} if number is None else {"number": number, "reason": "to compare"}
        ledgers[stage].add_trial(state_of(one), attrs, proposal, one.objectives(objectives))

    ledgers = {stage: run.journal.ledger(stage) for stage in (SEARCH, FINALISTS)}
    with ledgers[SEARCH].atomically():
        for key in plans:
            record(SEARCH, None, 0, key)
        for number, key in enumerate(list(plans)[: COMPARED + 1]):
            for seed in range(1, SEEDS):
                record(FINALISTS, number, seed, key)
    run.refresh()


def read(folder: Path, kind: str) -> None:
    """Read a run in one way, and print the seconds and the peak memory in MB."""
    import nasbench.report.assembly
    from nasbench.runs.run import load_run

    begun = time.process_time()
    run = load_run(folder)
    if kind == "load":
        run.evaluations()
    elif kind == "front":
        run.front()
    elif kind == "runs":
        run.summary()
    else:
        nasbench.report.assembly.build(run)
    taken = time.process_time() - begun
    # not `ru_maxrss`, which a process inherits from its parent
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{taken:.3f} {int(peak.split()[1]) / 1024:.0f}")


def main() -> None:
    """Write the runs, read each in each way, and print the table."""
    if sys.argv[1:2] == ["--read"]:  # a process of the benchmark itself
        read(Path(sys.argv[2]), sys.argv[3])
        return
    from scripts.benchmarks.paired import command_line  # imported here, because it imports torch

    parser = command_line(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 2500, 5000, 10_000])
    options = parser.parse_args()
    first: dict[str, float] = {}
    print(f"{'trials':>7} {'what':<7} {'seconds':>8} {'growth':>7} {'peak MB':>8}")
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "run"
            write(folder, trials)
            for kind in KINDS:
                command = [sys.executable, __file__, "--read", str(folder), kind]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stderr)
                seconds, peak = map(float, done.stdout.split())
                growth = seconds / trials / first.setdefault(kind, seconds / trials)
                print(f"{trials:>7,} {kind:<7} {seconds:>8.2f} {growth:>7.2f} {peak:>8,.0f}", flush=True)
            page = folder / "report.html"
            print(f"{'':>7} report.html {page.stat().st_size / 1e6:.1f} MB, journal "
                  f"{(folder / 'journal.log').stat().st_size / 1e6:.1f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
