"""Measure the share of a search's wall time that is neither training nor measuring.

    .venv/bin/python scripts/benchmarks/overhead.py [TRIALS] [--epochs 1] [--latency-s 2]

Runs the demo's search in a new folder and prints where its time went, in seconds and as shares of the whole search. The
aim is a harness that takes under 5 %. With few trials and epochs its share is larger, because the start takes the same
time.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import nasbench as nb
from nasbench import report
from nasbench.study.phases.events import Event
from scripts.benchmarks.paired import Table, command_line


def timed_search(trials: int, **settings: Any) -> tuple[dict[str, float], float, int]:
    """Search and write the report. Return the seconds of the search's parts, of the report, and the evaluations."""
    last: dict[str, float] = {}  # when each stage was last heard of

    def remember(event: Event) -> None:
        last[event.stage] = time.perf_counter()

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = nb.search(
            "five-properties", backbone="test_resnet", task="digits", trials=trials, out=f"{folder}/run",
            on_event=remember, report=False, **settings,
        )  # fmt: skip
        searched = time.perf_counter()
        report.build(run)
        report_s = time.perf_counter() - searched
        rows = run.trials()
    training = float(rows["training_s"].sum())
    # Latency is measured last, outside of any evaluation.
    trained = max(at for stage, at in last.items() if stage != "latency")
    measuring = float(rows["wall_s"].sum()) - training + last["latency"] - trained
    harness = searched - begun - training - measuring
    return {"training": training, "building and measuring": measuring, "harness": harness}, report_s, len(rows)


def main() -> None:
    """Print where the time of a search goes."""
    parser = command_line(__doc__)
    parser.add_argument("trials", nargs="?", type=int, default=12, metavar="TRIALS", help="plans evaluated (12)")
    parser.add_argument("--epochs", type=int, help="epochs of each training, the task's own if not given")
    parser.add_argument("--latency-s", type=float, help="seconds of each latency measurement, the search's own default")
    options = parser.parse_args()
    settings: dict[str, Any] = {}
    if options.epochs is not None:
        settings["training"] = {"epochs": options.epochs}
    if options.latency_s is not None:
        settings["latency_s"] = options.latency_s
    parts, report_s, evaluations = timed_search(options.trials, **settings)
    total = sum(parts.values())
    print(f"search of {options.trials} plans, {evaluations} evaluations: {total:.1f} s")
    table = Table({"part": "<24", "seconds": ">8", "share": ">8"})
    table.print_head()
    for name, seconds in parts.items():
        table.print_row(name, f"{seconds:.1f}", f"{seconds / total:.1%}")
    print(f"report afterwards: {report_s:.1f} s")


if __name__ == "__main__":
    main()
