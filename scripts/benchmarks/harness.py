#!/usr/bin/env -S .venv/bin/python
"""What the search itself costs a trial, with an evaluator that answers at once.

scripts/bench_harness                 trials a second at 1, 2 and 4 workers beside Optuna's own loop on a journal
scripts/bench_harness --grow          milliseconds a trial when the study holds 100, 1,000 and 5,000 of them
"""

import argparse
import platform
import tempfile
import time
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import nasbench as nb
from nasbench import backbones
from nasbench.spaces import Space

SPACE = {"variants": [{"property": "locality"}], "compositions": ["none", "a", "a >> b"], "slots": ["stages"]}
OBJECTIVES = {"score": "maximize", "modules": "minimize"}
SIZES = (100, 1000, 5000)


def evaluate(plan):
    """Answer at once."""
    return {"score": float(len(str(plan))), "modules": float(len(plan))}


def search(trials: int, workers: int, sampler: str, folder: Path) -> list[float]:
    """Search and return when each trial was done, in seconds from the first (bare) one."""
    done = []
    nb.search(
        SPACE, backbone="test_resnet", evaluate=evaluate, objectives=OBJECTIVES, trials=trials, workers=workers,
        sampler=sampler, seeds=1, out=folder / f"{workers}-{trials}", on_event=lambda event: done.append(time.time()),
    )  # fmt: skip
    return [moment - done[0] for moment in done]


def optunas_own(trials: int, sampler: str, folder: Path) -> list[float]:
    """Ask and tell with Optuna alone, on its journal with its own lock; return when each trial was done."""
    slots = backbones.slots("test_resnet", input_size=(3, 64, 64))
    space = Space.from_dict(SPACE).resolve(slots)
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study = optuna.create_study(storage=storage, sampler=samplers[sampler](), directions=list(OBJECTIVES.values()))
    distributions = {k: optuna.distributions.CategoricalDistribution(v) for k, v in space.parameters.items()}
    begun, done = time.time(), []
    for _ in range(trials):
        trial = study.ask(distributions)
        values = evaluate({slot: str(e) for slot, e in space.plan(trial.params).items()})
        study.tell(trial, list(values.values()))
        done.append(time.time() - begun)
    return done


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grow", action="store_true", help="cost a trial as the study grows")
    parser.add_argument("--trials", type=int, default=200, help="trials of each search")
    parser.add_argument("--sampler", default="random", help="random (the harness alone) or tpe")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {platform.system()}, optuna {optuna.__version__}, sampler {options.sampler}")
    with tempfile.TemporaryDirectory(dir=".") as folder:  # where runs go, on a real disk
        if options.grow:
            print("trials   ms a trial (nasbench)   ms a trial (Optuna)")
            ours = search(SIZES[-1], 1, options.sampler, Path(folder))
            theirs = optunas_own(SIZES[1], options.sampler, Path(folder))
            for size in SIZES:
                print(f"{size:6,}   {_cost(ours, size):>22}   {_cost(theirs, size):>18}")
            return
        theirs = optunas_own(options.trials, options.sampler, Path(folder))
        print(f"Optuna's own ask and tell on a journal: {options.trials / theirs[-1]:.0f} trials/s")
        for workers in (1, 2, 4):
            ours = search(options.trials, workers, options.sampler, Path(folder))
            print(f"nasbench, {workers} worker(s): {(options.trials - 1) / ours[-1]:.0f} trials/s")


def _cost(done: list[float], size: int) -> str:
    """Return the milliseconds a trial takes when the study holds `size`, over the last 90 of them; a dash if it never did."""
    return f"{(done[size - 1] - done[size - 91]) / 90 * 1000:.1f}" if len(done) >= size else "-"


if __name__ == "__main__":
    main()
