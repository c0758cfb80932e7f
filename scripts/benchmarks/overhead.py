#!/usr/bin/env -S .venv/bin/python
"""The share of a search's wall time that is neither training nor measuring: `scripts/bench_overhead [TRIALS]`.

Runs the demo's search (fresh folder) and prints where its time went. Aim: harness under 5 %.
"""

from __future__ import annotations

import sys
import tempfile
import time

import nasbench as nb
from nasbench import report


def main(trials: int) -> None:
    marks: dict[str, float] = {}

    def mark(event: object) -> None:
        marks[event.stage] = time.perf_counter()  # type: ignore[attr-defined]

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = nb.search(
            "five-properties", backbone="test_resnet", task="digits", trials=trials, out=f"{folder}/run", on_event=mark
        )
        searched = time.perf_counter()
        report.build(run)
        done = time.perf_counter()
        rows = run.trials()
        training = float(rows["training_s"].sum())
        measuring = float(rows["wall_s"].sum()) - training + marks["latency"] - marks["finalists"]
    total = searched - begun
    harness = total - training - measuring
    print(f"search of {trials} plans, {len(rows)} evaluations: {total:.1f} s")
    for name, seconds in (("training", training), ("building and measuring", measuring), ("harness", harness)):
        print(f"  {name:24s} {seconds:7.1f} s  {100 * seconds / total:5.1f} %")
    print(f"report afterwards: {done - searched:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
