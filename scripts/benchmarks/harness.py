"""Measure the search's own cost of a trial, with an evaluator that takes no time, against Optuna's own loop.

    .venv/bin/python scripts/benchmarks/harness.py [--trials 200] [--rounds 3] [--sampler random]
    .venv/bin/python scripts/benchmarks/harness.py --grow [--largest 5000]

The first form prints trials per second of Optuna's ask and tell on a journal, and of nasbench with 1, 2 and 4 workers.
The ratio is nasbench's rate over Optuna's in the same round. Above 1 nasbench is faster. The second form prints the
milliseconds that a trial takes when the study holds 100, 1,000 and 5,000 trials.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import nasbench as nb
from nasbench import backbones
from nasbench.spaces import Space
from scripts.benchmarks.paired import Table, command_line, interval_text, ratio_interval

SPACE = {"variants": [{"property": "locality"}], "compositions": ["none", "a", "a >> b"], "slots": ["stages"]}
OBJECTIVES: dict[str, Literal["maximize", "minimize"]] = {"score": "maximize", "modules": "minimize"}
SIZES = (100, 1000, 5000)
WORKERS = (1, 2, 4)
LAST = 90  # the cost at a size is the mean over this many trials


def evaluate(plan: Mapping[str, str]) -> dict[str, float]:
    """Return figures at once, without training."""
    return {"score": float(len(str(plan))), "modules": float(len(plan))}


def search(trials: int, workers: int, sampler: str, folder: Path) -> list[float]:
    """Run a search. Return when each trial was done, in seconds from the end of the first one (bare backbone)."""
    done: list[float] = []
    nb.search(
        SPACE, backbone="test_resnet", evaluate=evaluate, objectives=OBJECTIVES, trials=trials, workers=workers,
        sampler=sampler, seeds=1, out=folder / f"{workers}-{trials}", on_event=lambda event: done.append(time.time()),
        report=False,
    )  # fmt: skip
    return [moment - done[0] for moment in done]


def optunas_own(trials: int, sampler: str, folder: Path) -> list[float]:
    """Ask and tell with Optuna alone, on its journal with its own lock. Return when each trial was done."""
    slots = backbones.slots("test_resnet", input_size=(3, 64, 64))
    space = Space.from_dict(SPACE).resolve(slots)
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    made = optuna.samplers.RandomSampler() if sampler == "random" else optuna.samplers.TPESampler()
    study = optuna.create_study(storage=storage, sampler=made, directions=list(OBJECTIVES.values()))
    distributions: dict[str, BaseDistribution] = {k: CategoricalDistribution(v) for k, v in space.parameters.items()}
    begun, done = time.time(), []
    for _ in range(trials):
        trial = study.ask(distributions)
        values = evaluate({slot: str(e) for slot, e in space.plan(trial.params).items()})
        study.tell(trial, list(values.values()))
        done.append(time.time() - begun)
    return done


def cost_ms(done: list[float], size: int) -> float | None:
    """Return the milliseconds of a trial when the study holds `size`, over the last 90. None if it never does."""
    return (done[size - 1] - done[size - 1 - LAST]) / LAST * 1000 if len(done) >= size else None


def print_growth(largest: int, sampler: str, folder: Path) -> None:
    """Print the cost of a trial as the study grows."""
    table = Table({"trials": ">6", "ms a trial (nasbench)": ">22", "ms a trial (Optuna)": ">20", "Optuna/ours": ">12"})
    sizes = [size for size in SIZES if size <= largest]
    ours = search(sizes[-1], 1, sampler, folder)
    theirs = optunas_own(min(sizes[-1], SIZES[1]), sampler, folder)  # its loop takes minutes for 5,000
    table.print_head()
    for size in sizes:
        mine, peer = cost_ms(ours, size), cost_ms(theirs, size)
        ratio = "-" if mine is None or peer is None else f"{peer / mine:.2f}"
        table.print_row(f"{size:,}", *("-" if ms is None else f"{ms:.1f}" for ms in (mine, peer)), ratio)


def print_rates(trials: int, rounds: int, sampler: str, folder: Path) -> None:
    """Print the trials per second of Optuna's loop and of searches with several workers."""
    own: list[float] = []
    ours: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        own.append(trials / optunas_own(trials, sampler, folder / str(number))[-1])
        for workers in WORKERS:
            # The clock starts when the bare backbone is done, so one trial fewer is counted.
            ours[workers].append((trials - 1) / search(trials, workers, sampler, folder / str(number))[-1])
    table = Table({"": "<24", "trials/s": ">9", "ratio to Optuna [95 %]": ">24"})
    table.print_head()
    table.print_row("Optuna's ask and tell", f"{statistics.median(own):.0f}", "1.00")
    for workers, rates in ours.items():
        ratio = interval_text(ratio_interval(rates, own))
        table.print_row(f"nasbench, {workers} worker(s)", f"{statistics.median(rates):.0f}", ratio)


def main() -> None:
    """Print the table asked for."""
    parser = command_line(__doc__)
    parser.add_argument("--grow", action="store_true", help="cost a trial as the study grows")
    parser.add_argument("--largest", type=int, choices=SIZES, default=SIZES[-1], help="trials that --grow goes up to")
    parser.add_argument("--trials", type=int, default=200, help="trials of each search")
    parser.add_argument("--rounds", type=int, default=3, help="searches of each kind")
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random", help="random is the harness alone")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {platform.system()}, optuna {optuna.__version__}, sampler {options.sampler}")
    with tempfile.TemporaryDirectory(dir=".") as folder:  # where runs go, on a real disk
        if options.grow:
            print_growth(options.largest, options.sampler, Path(folder))
        else:
            print_rates(options.trials, options.rounds, options.sampler, Path(folder))


if __name__ == "__main__":
    main()
